"""Damage that decoders mend or take without a word: of Motion JPEG, and of FFV1 with check sums.

Others say so: H.264, MPEG and ProRes mark the frame, AV1 and DNxHD give an error. Of what is coded
without a check sum so that any bytes are a valid image (H.265, VP9), nobody can tell.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from .pyav import load_av

ZEROS = bytes(64)
"""A part of the file that was never written or read. Of codes for an image that is not all of one
colour, so many bytes are never zero."""

SCAN, END, TABLES = 0xDA, b"\xff\xd9", 0xC4
END_OF_BLOCK = 0


FOOTER = 8
"""Bytes behind a slice of FFV1: its size (3), a mark of errors (1), its check sum (4)."""

REVERSED = bytes(int(f"{number:08b}"[::-1], 2) for number in range(256))
"""Each byte with its bits in the other order, which is that of zlib's check sum."""


class SilentDamage:
    """Tells which packets are damaged.

    Args:
        stream: of images.
    """

    def __init__(self, stream: Any):
        self.av = load_av()
        self.decoder: Any = None
        coding = stream.codec_context
        self.name = coding.name if coding is not None else ""
        self.has_sums: bool | None = None  # the first packet tells
        if coding is not None and self.name == "mjpeg":
            self.decoder = self.av.CodecContext.create("mjpeg", "r")
            self.decoder.options = {"err_detect": "explode"}
            self.decoder.thread_count = 1
            self.decoder.extradata = coding.extradata

    def __call__(self, packet: Any) -> bool:
        """True if a packet's image is damaged."""
        if not packet.size:
            return False
        if self.name == "ffv1":
            return self.has_wrong_sum(bytes(packet))
        return self.decoder is not None and self.is_damaged_jpeg(packet)

    def has_wrong_sum(self, content: bytes) -> bool:
        """Returns whether a slice of FFV1 is not what its check sum says."""
        right = [sum_of(part) == 0 for part in slices(content)]
        if self.has_sums is None:
            self.has_sums = bool(right) and any(right)
        return self.has_sums and not (right and all(right))

    def is_damaged_jpeg(self, packet: Any) -> bool:
        """Returns whether an image is, in the eyes of a decoder that mends nothing."""
        try:
            self.decoder.decode(packet)
        except (self.av.FFmpegError, OSError):
            return True
        return has_gap(bytes(packet))


def slices(content: bytes) -> Iterator[bytes]:
    """Yields the slices of a frame of FFV1 that has check sums, from the last to the first; not all
    of them, or none, if it has not or is damaged."""
    end = len(content)
    while end >= FOOTER:
        start = end - FOOTER - int.from_bytes(content[end - FOOTER : end - FOOTER + 3], "big")
        if start < 0:
            yield b"\1"  # whose sum is wrong
            return
        yield content[start:end]
        end = start


def sum_of(content: bytes) -> int:
    """Returns the check sum of FFV1 (RFC 9043, 4.9.3), which is 0 of a whole slice with its own."""
    return zlib.crc32(content.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF


def has_gap(jpeg: bytes) -> bool:
    """Returns whether a part of the pixels' data has become zeros."""
    zeros, end = jpeg.find(ZEROS), jpeg.rfind(END)
    if not 0 <= zeros < end:  # behind the end, zeros only fill up
        return False
    at, first = 2, 1  # the standard's table, if the file has none
    while at + 4 <= zeros and jpeg[at] == 0xFF and jpeg[at + 1] != SCAN:
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == TABLES:
            first = _first_of_luma(jpeg[at + 4 : at + 2 + length], first)
        at += 2 + length
    return at < zeros and jpeg[at + 1 : at + 2] == bytes([SCAN]) and first != END_OF_BLOCK


def _first_of_luma(tables: bytes, first: int) -> int:
    """The symbol whose code is all zeros, in the table of luma's coefficients; `first` if it is not
    among these tables."""
    at = 0
    while at + 17 < len(tables):
        if tables[at] == 0x10:
            first = tables[at + 17]
        at += 17 + sum(tables[at + 1 : at + 17])
    return first
