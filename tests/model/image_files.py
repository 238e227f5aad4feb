"""Images and files of them, 8 and 16 bits deep, for the tests of image files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

MODES = ("L", "LA", "RGB", "RGBA")
LOSSLESS = ("png", "tiff")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d" '
    b'dc:title="caf\xc3\xa9"/></x:xmpmeta>'
)


def random_pixels(mode: str, dtype: type = np.uint8, size: tuple[int, int] = (7, 9)) -> np.ndarray:
    shape = (*size, len(mode))
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def image_of(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def camera_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    exif[0x0112] = orientation
    exif[0x8298] = "(c) me"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    return exif


def png_chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def write_deep_png(path: Path, pixels: np.ndarray, *chunks: bytes) -> None:
    """16 bits a channel, by hand: not with the library that is tested here."""
    height, width, channels = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1).tobytes()
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
        + b"".join(chunks)
        + png_chunk(b"IDAT", zlib.compress(lines))
        + png_chunk(b"IEND", b"")
    )


def write_deep_tiff(path: Path, pixels: np.ndarray, **options) -> None:
    """Of any type, with a library that is not used in what is tested here."""
    tifffile = pytest.importorskip("tifffile")
    photometric = "rgb" if pixels.shape[2] > 2 else "minisblack"
    extra = ["unassalpha"] if pixels.shape[2] in (2, 4) else None
    squeezed = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    tifffile.imwrite(
        path,
        squeezed,
        photometric=photometric,
        extrasamples=extra,
        planarconfig="contig",
        **options,
    )
