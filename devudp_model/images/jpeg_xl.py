"""JPEG XL files, by pillow-jxl-plugin (the extra `formats`), loaded when the first one comes.

The plugin decodes colour to 8 bits, and says neither that nor how large the image is before it has
decoded it. So the header is read here (ISO/IEC 18181-1), and what has more bits is decoded once
more by imagecodecs, where that is installed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from . import segments
from .formats import Unreadable
from .isobmff import boxes
from .metadata import Metadata
from .raster import RasterImage, decoder, from_array

STARTS = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


class Header(NamedTuple):
    """Describes an image: bits is 0 where it cannot be told."""

    width: int
    height: int
    bits: int


class Bits:
    """A codestream's bits, the lowest first."""

    def __init__(self, content: bytes):
        self.value, self.at = int.from_bytes(content[:64], "little"), 0

    def take(self, count: int) -> int:
        found = self.value >> self.at & (1 << count) - 1
        self.at += count
        return found

    def choose(self, *choices: tuple[int, int]) -> int:
        """One of four: a constant and so many bits to add to it."""
        constant, count = choices[self.take(2)]
        return constant + self.take(count)


def header(content: bytes) -> Header:
    """Returns size and bits of a file.

    Raises:
        ValueError: it is damaged.
        Unreadable: it is an animation, of which the decoder would give the first image.
    """
    if content.startswith(STARTS[1]):
        parts = ((name, body) for name, body in boxes(content) if name in (b"jxlc", b"jxlp"))
        name, body = next(parts, (b"", b""))
        content = body[4:] if name == b"jxlp" else body
    if content[:2] != STARTS[0]:
        raise ValueError("no image in it")
    bits = Bits(content[2:])
    width, height = _size(bits)
    if bits.take(1):
        return Header(width, height, 8)
    if bits.take(1):  # further fields
        bits.take(3)
        if bits.take(1):
            _size(bits)
        if bits.take(1):  # a preview
            return Header(width, height, 0)
        if bits.take(1):
            raise Unreadable(
                "is an animation, and restoring would lose all its images but one. Split it, for "
                "instance with ffmpeg, and restore the folder of its frames."
            )
    if bits.take(1):
        return Header(width, height, bits.choose((32, 0), (16, 0), (24, 0), (1, 6)))
    return Header(width, height, bits.choose((8, 0), (10, 0), (12, 0), (1, 6)))


def _size(bits: Bits) -> tuple[int, int]:
    small = bits.take(1)

    def side() -> int:
        return 8 * (bits.take(5) + 1) if small else bits.choose((1, 9), (1, 13), (1, 18), (1, 30))

    height, ratio = side(), bits.take(3)
    if not ratio:
        return side(), height
    across, down = RATIOS[ratio]
    return height * across // down, height


def read(content: bytes, header: Header) -> RasterImage | bytes:
    """Decodes an image, which the decoder turns upright; or returns the JPEG file that it holds.

    Raises:
        MissingPackage: the plugin is not installed.
        ValueError: its pixels are of a kind that cannot be restored.
    """
    is_jpeg, info, data, icc, parts = decoder("jxl").Decoder()(content)
    if is_jpeg:
        return bytes(data)
    exif, xmp = _described(parts)
    metadata = Metadata(icc=icc or b"", exif=exif, xmp=xmp, parts=segments.parts_of_jxl(content))
    if info.mode == "I;16":
        pixels = np.frombuffer(data, np.uint16).reshape(info.height, info.width, 1)
        return from_array(pixels, False, 1, 16, metadata)
    if info.mode not in CHANNELS:
        raise ValueError(f"pixels of the kind {info.mode} are not supported")
    deep = deep_pixels(content, header) if header.bits > 8 else None
    if deep is not None and deep.shape == (info.height, info.width, CHANNELS[info.mode]):
        return from_array(deep, info.mode.endswith("A"), 1, 16, metadata)
    if header.bits > 8:
        lost = f"it has {header.bits} bits a channel, of which its decoder gives 8"
        if header.bits <= 16:
            lost += " (imagecodecs gives them all: pip install imagecodecs)"
        metadata = replace(metadata, lost=(*metadata.lost, lost))
    pixels = np.frombuffer(data, np.uint8).reshape(info.height, info.width, CHANNELS[info.mode])
    return from_array(pixels, info.mode.endswith("A"), 1, 8, metadata)


def deep_pixels(content: bytes, header: Header) -> np.ndarray | None:
    """Returns H,W,C of uint16 over the whole range; None where they cannot be had."""
    try:
        import imagecodecs  # pyright: ignore[reportMissingImports] (not of an extra)
    except ImportError:
        return None
    pixels = np.asarray(imagecodecs.jpegxl_decode(content))
    if pixels.dtype != np.uint16 or header.bits > 16:
        return None
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if header.bits < 16:  # white is 1023 of 10 bits
        scale = 65535 / (2**header.bits - 1)
        pixels = np.rint(pixels * np.float32(scale)).astype(np.uint16)
    return pixels


def _described(parts: Any) -> tuple[bytes, bytes]:
    """EXIF and XMP."""
    exif = xmp = b""
    for part in parts:
        data = bytes(part.data)
        if part.box_type == b"Exif":
            # The place of the block comes first, which some writers leave out.
            start = 0 if data[:4] in (b"II*\0", b"MM\0*") else 4 + int.from_bytes(data[:4], "big")
            exif = data[start:]
        elif part.box_type == b"xml ":
            xmp = data
    return exif, xmp
