"""PNG's chunks: what they say of colours and bits, and files with some of them put in."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from . import colour

SIGNATURE = b"\x89PNG\r\n\x1a\n"
DEPTH_AT = 24
"""Where the bit depth stands, in the chunk IHDR, which always comes first."""

HEADER_BYTES = 33
"""Signature and IHDR."""

COLOUR = (b"cICP", b"gAMA", b"cHRM", b"sRGB", b"mDCV", b"cLLI")
"""The chunks that say what the numbers mean, but the profile, which Pillow reads and writes."""

MAX_CHUNKS = 1000
"""That are looked at, before the pixels."""

MAX_BYTES = 64
"""Of such a chunk; a longer one is damaged."""


def colour_chunks(file: BinaryIO) -> tuple[tuple[bytes, bytes], ...]:
    """Returns name and data of those of `COLOUR` that a file has before its pixels."""
    found = []
    for name, data in chunks(file, MAX_BYTES):
        if name == b"IDAT":
            break
        if name in COLOUR and data is not None:
            found.append((name, data))
    return tuple(found)


def chunks(file: BinaryIO, most: int) -> Iterator[tuple[bytes, bytes | None]]:
    """Yields name and data of a file's chunks; None for those of more than `most` bytes, and for
    the pixels. What lies behind the last one counts as one more."""
    position, at = file.tell(), len(SIGNATURE)
    try:
        for _ in range(MAX_CHUNKS):
            file.seek(at)
            head = file.read(8)
            size, name = int.from_bytes(head[:4], "big"), head[4:]
            if len(head) < 8:
                break
            short = size <= most and name != b"IDAT"
            yield name, file.read(size) if short else None
            at += size + 12
            if name == b"IEND":
                file.seek(at)
                if file.read(MAX_BYTES).strip(b"\0"):
                    yield b"data behind the image", None
                break
    finally:
        file.seek(position)


def space_of(chunks: Iterable[tuple[bytes, bytes]], *, profile: bool) -> colour.Space | None:
    """Returns what the chunks say, None where that is sRGB or nothing: cICP before all others.

    Args:
        chunks: as `colour_chunks` gives them.
        profile: whether the file has a colour profile, which goes before the others.

    Raises:
        ColourError: the colours cannot be converted.
    """
    found = dict(chunks)
    cicp = found.get(b"cICP", b"")
    if len(cicp) == 4:
        if cicp[2] or not cicp[3]:
            raise colour.ColourError(
                "has colours that cannot be converted (YCbCr or narrow range). Save it as sRGB."
            )
        return colour.space_of_cicp(cicp[0], cicp[1])
    if profile or b"sRGB" in found:
        return None
    gamma = int.from_bytes(found.get(b"gAMA", b""), "big") / 100_000
    chromaticities = found.get(b"cHRM", b"")
    numbers = [
        int.from_bytes(chromaticities[at : at + 4], "big") / 100_000 for at in range(0, 32, 4)
    ]
    primaries = (*numbers[2:], *numbers[:2]) if len(chromaticities) == 32 else None
    if not gamma and primaries is None:
        return None
    return colour.space_of_gamma(gamma or None, primaries)


def as_bytes(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Returns chunks as they lie in a file."""
    return b"".join(
        len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
        for name, data in chunks
    )


def split(content: bytes) -> Iterator[bytes]:
    """Yields length, name, data and checksum of every chunk of a file."""
    start = len(SIGNATURE)
    while start < len(content):
        end = start + int.from_bytes(content[start : start + 4], "big") + 12
        yield content[start:end]
        start = end


class WithChunks:
    """A file to write to that puts chunks in after the header: Pillow knows only some."""

    def __init__(self, file: BinaryIO, chunks: bytes):
        self.file, self.chunks, self.head = file, chunks, b""

    def write(self, content: bytes) -> int:
        if len(self.head) < HEADER_BYTES:
            self.head += bytes(content)
            if len(self.head) >= HEADER_BYTES:
                start, rest = self.head[:HEADER_BYTES], self.head[HEADER_BYTES:]
                self.file.write(start + self.chunks + rest)
        else:
            self.file.write(content)
        return len(content)

    def flush(self) -> None:
        self.file.flush()
