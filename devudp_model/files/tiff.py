"""What a TIFF file's directories say, read without decoding and without believing it.

Decoders fill what is missing in a damaged file with black. So the parts that the header promises
are looked for in the file before it is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image, TiffImagePlugin

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_SIZES, PLANAR = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 322, 323, 324, 325
UNCOMPRESSED, OLD_JPEG, YCBCR = 1, 6, 6

RARE = (34887, 34925, 50000, 50001, 52546)
"""Compressions that not every decoder is built with."""

EXIF_DIRECTORIES = (34665, 34853)
"""The tags that point to directories of their own: of the camera, and of the place."""

MOST_PAGES = 1000
"""No more are counted: it takes time, and one too many is enough."""

COMPRESSIONS = {
    2: "CCITT", 3: "CCITT fax 3", 4: "CCITT fax 4", 5: "LZW", 6: "old JPEG", 7: "JPEG",
    8: "deflate", 32773: "PackBits", 32946: "deflate", 34712: "JPEG 2000", 34887: "LERC",
    34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 52546: "JPEG XL",
}  # fmt: skip


class TiffError(ValueError):
    """What is wrong with the file; the message goes on after the file's name."""


def count_pages(file: BinaryIO) -> int:
    """How many full images the file holds, up to `MOST_PAGES`; small versions do not count."""
    seen: set[int] = set()
    full = 0
    for offset, is_small in _directories(file):
        if offset in seen or full > MOST_PAGES:
            break
        seen.add(offset)
        full += not is_small
    return full


def _directories(file: BinaryIO) -> Iterator[tuple[int, bool]]:
    """Where each directory lies, and whether it says that it is a small version of another."""
    order, big, offset = _header(file)
    wide, entry = (8, 20) if big else (4, 12)
    while offset:
        file.seek(offset)
        count = int.from_bytes(file.read(8 if big else 2), order)
        entries = file.read(count * entry) if count <= 65_535 else b""
        small = False
        for start in range(0, len(entries) - entry + 1, entry):
            if int.from_bytes(entries[start : start + 2], order) == SUBFILE:
                value = entries[start + entry - wide : start + entry - wide + 4]
                small = bool(int.from_bytes(value, order) & 1)
        yield offset, small
        following = file.read(wide)
        offset = int.from_bytes(following, order) if len(following) == wide else 0


def _header(file: BinaryIO) -> tuple[Any, bool, int]:
    """Byte order, whether it is a BigTIFF, and where the first directory lies."""
    file.seek(0)
    start = file.read(16)
    order = "little" if start[:2] == b"II" else "big"
    big = int.from_bytes(start[2:4], order) == 43
    return order, big, int.from_bytes(start[8:16] if big else start[4:8], order)


def read_tags(file: BinaryIO) -> dict[int, Any]:
    """The tags of the first image; {} where the directory cannot be read."""
    _, big, offset = _header(file)
    file.seek(0)
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if big else 8))
        file.seek(offset)
        tags.load(file)  # pyright: ignore[reportArgumentType]
        return {tag: tags[tag] for tag in _LAYOUT if tag in tags}
    except Exception:  # whatever Pillow meets in a damaged directory: the decoder will say it
        return {}


_LAYOUT = (
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP,
    STRIP_SIZES, PLANAR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES,
)  # fmt: skip


def check_complete(tags: dict[int, Any], size: int) -> None:
    """Checks that all strips or tiles that the tags promise lie within `size` bytes.

    Raises:
        TiffError: some are missing.
    """
    layout = _parts(tags)
    if layout is None or tags.get(COMPRESSION) == OLD_JPEG:  # whose numbers mean other things
        return
    needed, part_bytes, offsets, sizes = layout
    if min(len(offsets), len(sizes)) < needed:
        raise TiffError(
            f"is damaged: it holds {min(len(offsets), len(sizes)):,} of {needed:,} parts of the "
            "image. Copy or download it again."
        )
    missing = sum(
        start <= 0 or count <= 0 or start + count > size
        for start, count in zip(offsets[:needed], sizes[:needed], strict=True)
    )
    plain = tags.get(COMPRESSION, 1) == UNCOMPRESSED and tags.get(PHOTOMETRIC) != YCBCR
    short = plain and sum(sizes[:needed]) < part_bytes
    if missing or short:
        what = f"{missing:,} of {needed:,} parts of the image are" if missing else "the end is"
        raise TiffError(f"is damaged (cut off?): {what} missing. Copy or download it again.")


def _parts(tags: dict[int, Any]) -> tuple[int, int, tuple[int, ...], tuple[int, ...]] | None:
    """Parts, their bytes together if not compressed, offsets, sizes; None if the tags are odd."""
    try:
        width, height = int(tags[WIDTH]), int(tags[HEIGHT])
        samples, pixel = int(tags.get(SAMPLES, 1)), bits_per_pixel(tags)
        planes = samples if tags.get(PLANAR, 1) == 2 else 1
        if TILE_OFFSETS in tags:
            across, down = int(tags[TILE_WIDTH]), int(tags[TILE_HEIGHT])
            parts = math.ceil(width / across) * math.ceil(height / down) * planes
            row = math.ceil(across * pixel / planes / 8)
            whole, offsets, sizes = parts * row * down, tags[TILE_OFFSETS], tags[TILE_SIZES]
        else:
            rows = min(int(tags.get(ROWS_PER_STRIP, height)), height)
            parts = math.ceil(height / rows) * planes
            row = math.ceil(width * pixel / planes / 8)
            whole, offsets = row * height * planes, tags[STRIP_OFFSETS]
            sizes = tags.get(STRIP_SIZES)
            if sizes is None:  # old writers leave it out where nothing is compressed
                return None
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return parts, whole, _numbers(offsets), _numbers(sizes)


def bits_per_pixel(tags: dict[int, Any]) -> int:
    """Over all channels."""
    samples, bits = int(tags.get(SAMPLES, 1)), _numbers(tags.get(BITS, 1))
    return sum(bits) if len(bits) == samples else samples * max(bits)


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (int(value),)


def describe_layout(tags: dict[int, Any]) -> str:
    """The layout in words, for messages."""
    compression = tags.get(COMPRESSION, 1)
    words = [COMPRESSIONS[compression]] if compression in COMPRESSIONS else []
    words += ["planar"] if tags.get(PLANAR, 1) == 2 and tags.get(SAMPLES, 1) > 1 else []
    words += ["tiled"] if TILE_OFFSETS in tags else []
    return ", ".join(words)


def with_exif(content: bytes, exif: bytes) -> bytes:
    """A TIFF file (not BigTIFF) with the tags of an EXIF block added to its first directory.

    The directory is written anew at the end; everything else stays where it is.
    """
    order: Any = "little" if content[:2] == b"II" else "big"
    tags = Image.Exif()
    tags.load(exif)
    added = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
    for tag, value in tags.items():
        added[tag] = tags.get_ifd(tag) if tag in EXIF_DIRECTORIES else value
    content += b"\0" * (len(content) % 2)
    # Pillow lays out the new tags, with absolute places of their values; only the table is moved.
    block = added.tobytes(len(content))
    table = _entries(block, 0, order)
    table.update(_entries(content, int.from_bytes(content[4:8], order), order))
    block += b"\0" * (len(block) % 2)
    place = len(content) + len(block)
    joined = len(table).to_bytes(2, order) + b"".join(table[tag] for tag in sorted(table))
    return content[:4] + place.to_bytes(4, order) + content[8:] + block + joined + bytes(4)


def _entries(content: bytes, start: int, order: Any) -> dict[int, bytes]:
    """The 12 bytes of each tag of the directory at `start`."""
    count = int.from_bytes(content[start : start + 2], order)
    entries = [content[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    return {int.from_bytes(entry[:2], order): entry for entry in entries}
