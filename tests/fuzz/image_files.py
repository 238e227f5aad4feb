"""Image files from seeds: every depth, mode, layout, profile and orientation; then damage."""

from __future__ import annotations

import io
import random
import struct
import tempfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'

PILLOW_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F", "LAB", "I"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "GIF": ("L", "P", "RGB"),
}
SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp", "GIF": "gif"}
TIFF_COMPRESSIONS = (
    "raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma", "webp",
)  # fmt: skip


@dataclass(frozen=True)
class ImageFile:
    """A file and what was put into it.

    Attributes:
        name, content: of the file.
        sound: whether nothing was done to it.
        cut: whether only its end is missing.
        mode: Pillow's, or a description.
        whole: the content before the damage.
    """

    name: str
    content: bytes
    sound: bool
    cut: bool
    mode: str
    whole: bytes


def draw(rng: random.Random, size: tuple[int, int], channels: int, dtype: Any) -> np.ndarray:
    """H,W,C: noise, a ramp, or something flat."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    height, width = size
    shape = (height, width, channels)
    kind = rng.choice(("noise", "ramp", "flat", "spot"))
    if kind == "noise":
        values = numbers.random(shape)
    elif kind == "ramp":
        values = np.broadcast_to(np.linspace(0, 1, width)[None, :, None], shape).copy()
    else:
        values = np.broadcast_to(numbers.random(channels), shape).copy()
        if kind == "spot":
            values[rng.randrange(height), rng.randrange(width)] = 1
    if dtype is np.float32:
        return values.astype(np.float32)
    return (values * np.iinfo(dtype).max).astype(dtype)


def make(seed: int) -> ImageFile:
    """The file of a seed."""
    rng = random.Random(seed)
    if rng.random() < 0.03:
        return bomb(rng)
    size = rng.choice(((8, 8), (1, 1), (1, 50), (60, 1), (rng.randint(1, 70), rng.randint(1, 70))))
    builder = rng.choice((by_pillow, by_pillow, by_pillow, by_hand, by_tifffile))
    name, content, mode = builder(rng, size)
    return damage(rng, name, content, mode)


def options_of(rng: random.Random, format: str) -> dict[str, Any]:
    """How to save with Pillow."""
    options: dict[str, Any] = {}
    if format in ("PNG", "JPEG", "WEBP", "TIFF") and rng.random() < 0.5:
        exif = Image.Exif()
        exif[0x0112] = rng.randint(1, 8)
        exif[0x010E] = "x" * rng.choice((1, 40, 3000))
        if rng.random() < 0.5:
            exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
        options["exif"] = exif
    if format in ("PNG", "JPEG", "WEBP", "TIFF") and rng.random() < 0.3:
        profiles = (SRGB, b"\0" * 16 + b"GRAY" + b"\0" * 200, rng.randbytes(rng.choice((10, 9000))))
        options["icc_profile"] = rng.choice(profiles)
    if format == "JPEG":
        options.update(progressive=rng.random() < 0.5, quality=rng.choice((5, 75, 100)))
        options["subsampling"] = rng.choice((0, 1, 2))
        options["restart_marker_blocks"] = rng.choice((0, 0, 2))
        if rng.random() < 0.3:
            options["xmp"] = XMP % rng.randint(1, 9)
    elif format == "TIFF":
        options["compression"] = rng.choice(TIFF_COMPRESSIONS)
        options["big_tiff"] = rng.random() < 0.2
    elif format == "WEBP":
        options["lossless"] = rng.random() < 0.5
    elif format == "PNG" and rng.random() < 0.3:
        text = PngImagePlugin.PngInfo()
        text.add_itxt("workflow \x1b[2J", "value \x1b]0;x\x07" * rng.choice((1, 2000)), zip=True)
        options["pnginfo"] = text
    if format in ("GIF", "WEBP", "PNG", "TIFF") and rng.random() < 0.1:
        options.update(save_all=True, append_images=[Image.new("L", (9, 9))] * rng.randint(1, 30))
    return options


def check_encodable(image: Image.Image, format: str, options: dict[str, Any]) -> None:
    """Raises what Pillow does where TIFF cannot hold an image that way.

    Tried with a file on disk, page by page: where libtiff refuses what is written to memory,
    Pillow from 11.3 on spoils the process's memory.
    """
    if format != "TIFF":
        return
    pages = ("save_all", "append_images")
    one = {name: each for name, each in options.items() if name not in pages}
    for page in (image, *options.get("append_images", ())[:1]):  # the others are the same
        with tempfile.TemporaryFile() as file:
            page.save(file, format, **one)


def by_pillow(rng: random.Random, size: tuple[int, int]) -> tuple[str, bytes, str]:
    format = rng.choice(list(PILLOW_MODES))
    mode = rng.choice(PILLOW_MODES[format])
    if mode in ("I;16", "F", "I"):
        dtype = {"I;16": np.uint16, "F": np.float32, "I": np.int32}[mode]
        image = Image.fromarray(draw(rng, size, 1, dtype)[:, :, 0])
    else:
        image = Image.fromarray(draw(rng, size, 3, np.uint8))
        if mode in ("RGBA", "LA"):
            image.putalpha(Image.fromarray(draw(rng, size, 1, np.uint8)[:, :, 0]))
        image = image.convert("RGB").convert(mode) if mode == "LAB" else image.convert(mode)
    options = options_of(rng, format)
    for dropped in ({}, {"compression", "big_tiff"}, set(options)):  # not everything goes together
        kept = {key: value for key, value in options.items() if key not in dropped}
        file = io.BytesIO()
        try:
            check_encodable(image, format, kept)
            image.save(file, format, **kept)
        except Exception:
            continue
        return f"a.{SUFFIXES[format]}", file.getvalue(), mode
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return "a.png", file.getvalue(), "RGB"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def by_hand(rng: random.Random, size: tuple[int, int]) -> tuple[str, bytes, str]:
    """A 16-bit PNG."""
    colour_type, channels = rng.choice(((0, 1), (4, 2), (2, 3), (6, 4)))
    height, width = size
    rows = draw(rng, size, channels, np.uint16).astype(">u2").reshape(height, -1).view(np.uint8)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1).tobytes()
    extras = [chunk(b"iCCP", b"p\0\0" + zlib.compress(SRGB))] if rng.random() < 0.3 else []
    if rng.random() < 0.4:
        exif = Image.Exif()
        exif[0x0112] = rng.randint(1, 8)
        exif[0x8298] = "(c)"
        extras.append(chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *extras, chunk(b"IDAT", zlib.compress(lines))]
    content = b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])
    return "a.png", content, f"{channels}x16"


def by_tifffile(rng: random.Random, size: tuple[int, int]) -> tuple[str, bytes, str]:
    import tifffile

    channels, dtype = rng.randint(1, 4), rng.choice((np.uint8, np.uint16, np.float32))
    pixels = draw(rng, size, channels, dtype)
    separate = channels > 2 and rng.random() < 0.3
    layout: dict[str, Any] = rng.choice(({}, {"tile": (16, 16)}, {"rowsperstrip": 3}))
    pixels = pixels[:, :, 0] if channels == 1 else pixels
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        np.moveaxis(pixels, 2, 0) if separate else pixels,
        photometric="rgb" if channels > 2 else "minisblack",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        planarconfig="separate" if separate else "contig" if channels > 1 else None,
        compression=rng.choice((None, "zlib", "lzma")),
        bigtiff=rng.random() < 0.3,
        byteorder=rng.choice(("<", ">")),  # pyright: ignore[reportArgumentType]
        metadata=None,
        **layout,
    )
    return "a.tif", file.getvalue(), f"{channels}x{np.dtype(dtype).itemsize * 8}"


def damage(rng: random.Random, name: str, content: bytes, mode: str) -> ImageFile:
    """The file as it is, cut, with other bytes, or joined with itself."""
    kind = rng.choice(("none", "none", "none", "cut", "cut", "bytes", "head", "middle", "splice"))
    damaged = bytearray(content)
    if kind == "cut":
        damaged = damaged[: rng.randrange(len(damaged))]
    elif kind in ("bytes", "head"):
        reach = len(damaged) if kind == "bytes" else min(len(damaged), 200)
        for _ in range(rng.choice((1, 3, 30))):
            value = rng.choice((rng.randrange(256), 0, 255, 127))
            damaged[rng.randrange(reach)] = value
    elif kind == "middle":
        start = rng.randrange(len(damaged))
        del damaged[start : start + rng.randint(1, 50)]
    elif kind == "splice":
        start = rng.randrange(len(damaged))
        damaged[start:start] = damaged[rng.randrange(len(damaged)) :]
    if rng.random() < 0.05:
        name = "a." + rng.choice(("png", "jpg", "tif", "webp", "bmp"))
    return ImageFile(name, bytes(damaged), kind == "none", kind == "cut", mode, content)


def bomb(rng: random.Random) -> ImageFile:
    """A small file that claims to be a large image."""
    side = rng.choice((5000, 12_000, 22_000, 60_000))
    kind = rng.choice(("png", "flat png", "jpeg", "tiff", "webp", "gif", "bmp", "pages"))
    file, size = io.BytesIO(), (8, 8)
    if kind == "flat png":
        rows = zlib.compress(bytes(5000 // 8 + 1) * 5000)
        header = struct.pack(">IIBBBBB", 5000, 5000, 1, 0, 0, 0, 0)
        parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        content = b"\x89PNG\r\n\x1a\n" + parts
        return ImageFile("a.png", content, False, False, kind, content)
    if kind == "pages":
        small = Image.new("L", (2, 2))
        small.save(file, "TIFF", save_all=True, append_images=[small] * rng.choice((3, 2000)))
        return ImageFile("a.tif", file.getvalue(), False, False, kind, b"")
    format = kind.upper()
    colours = Image.new("RGB", size, 5)
    colours.save(file, format, **({"lossless": True} if kind == "webp" else {}))
    content = bytearray(file.getvalue())
    if kind == "png":
        content[16:24] = struct.pack(">II", side, side)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif kind == "jpeg":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", side, side)
    elif kind == "tiff":
        for tag in (256, 257):
            at = content.index(struct.pack("<H", tag), int.from_bytes(content[4:8], "little"))
            content[at : at + 12] = struct.pack("<HHII", tag, 4, 1, side)
    elif kind == "gif":
        content[6:10] = struct.pack("<HH", side, side)
    elif kind == "bmp":
        content[18:26] = struct.pack("<ii", side, side)
    return ImageFile(f"a.{SUFFIXES[format]}", bytes(content), False, False, kind, b"")
