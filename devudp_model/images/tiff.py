"""Reads what a TIFF file's directories say, without decoding and without believing it.

Decoders fill what is missing in a damaged file with black. So the parts that the header promises
are looked for in the file before it is decoded.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from .formats import Unreadable

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_SIZES, PLANAR = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 322, 323, 324, 325
SUB_DIRECTORIES, DNG_VERSION = 330, 50706

UNCOMPRESSED, OLD_JPEG, YCBCR = 1, 6, 6
JPEG_INSIDE = (6, 7)

RARE = (34887, 34925, 50000, 50001, 52546)
"""Compressions that not every decoder is built with."""

EXIF_DIRECTORIES = (34665, 34853)
"""The tags that point to directories of their own: of the camera, and of GPS."""

NUMBERS = {
    1: np.dtype("u1"), 3: np.dtype("u2"), 4: np.dtype("u4"), 7: np.dtype("u1"),
    13: np.dtype("u4"), 16: np.dtype("u8"),
}  # fmt: skip
"""Whole numbers, by the types of a directory's entries."""

MAX_TAGS = 4096
"""A directory with more is damaged."""

MAX_RAW_IMAGES = 16
"""Previews and the like in a raw file."""

MAX_PAGES = 1000
"""No more are counted: it takes time, and one too many is enough."""

COMPRESSIONS = {
    2: "CCITT", 3: "CCITT fax 3", 4: "CCITT fax 4", 5: "LZW", 6: "old JPEG", 7: "JPEG",
    8: "deflate", 32773: "PackBits", 32946: "deflate", 34712: "JPEG 2000", 34887: "LERC",
    34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 52546: "JPEG XL",
}  # fmt: skip


def count_pages(file: BinaryIO) -> int:
    """Counts the full images in the file, up to `MAX_PAGES`; small versions do not count."""
    seen: set[int] = set()
    full = 0
    for offset, tags in _directories(file, (SUBFILE,)):
        if offset in seen or full > MAX_PAGES:
            break
        seen.add(offset)
        full += not tags.get(SUBFILE, (0,))[0] & 1
    return full


def read_tags(file: BinaryIO) -> dict[int, tuple[int, ...]]:
    """Returns what the first image's tags say of its layout; {} where they cannot be read."""
    return next((tags for _, tags in _directories(file, _LAYOUT)), {})


def block(file: BinaryIO, tag: int) -> bytes:
    """Returns a tag's values as they lie in the file, numbers of 32 bits in the usual order."""
    numbers = next((tags.get(tag, ()) for _, tags in _directories(file, (tag,))), ())
    if max(numbers, default=0) < 256:
        return bytes(numbers)
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def check_not_cut_off(file: BinaryIO, size: int) -> None:
    """Checks that the parts of all images of a raw file lie within its `size` bytes.

    Cameras' layouts differ, so nothing else is compared.

    Raises:
        Unreadable: the end is missing.
    """
    for _, tags in itertools.islice(_directories(file, _LAYOUT), MAX_RAW_IMAGES):
        for directory in (0, *tags.get(SUB_DIRECTORIES, ())[:MAX_RAW_IMAGES]):
            inner = next(_directories(file, _LAYOUT, directory))[1] if directory else tags
            for starts, sizes in ((STRIP_OFFSETS, STRIP_SIZES), (TILE_OFFSETS, TILE_SIZES)):
                pairs = zip(inner.get(starts, ()), inner.get(sizes, ()), strict=False)
                if any(start + count > size for start, count in pairs):
                    raise Unreadable(
                        "is damaged (cut off?): the end is missing. Copy or download it again."
                    )


def is_big(file: BinaryIO, order: str = "any") -> bool:
    """True if it is a BigTIFF file, of a byte order: "little", "big" or "any"."""
    file.seek(0)
    start = file.read(4)
    return (start == b"II+\0" and order != "big") or (start == b"MM\0+" and order != "little")


def _directories(
    file: BinaryIO, requested: Sequence[int], first: int = 0
) -> Iterator[tuple[int, dict[int, tuple[int, ...]]]]:
    """Returns where each directory lies, and the values of the tags that are wanted."""
    file.seek(0)
    start = file.read(16)
    order: Any = "little" if start[:2] == b"II" else "big"
    big = int.from_bytes(start[2:4], order) == 43  # BigTIFF: other widths of the same things
    wide, entry = (8, 20) if big else (4, 12)
    offset = first or int.from_bytes(start[8:16] if big else start[4:8], order)
    while offset:
        file.seek(offset)
        count = int.from_bytes(file.read(8 if big else 2), order)
        content = file.read(count * entry) if count <= MAX_TAGS else b""
        following = file.read(wide)
        tags = {}
        for at in range(0, len(content) - entry + 1, entry):
            tag = int.from_bytes(content[at : at + 2], order)
            if tag in requested:
                tags[tag] = _values(file, content[at + 2 : at + entry], order, wide)
        yield offset, {tag: values for tag, values in tags.items() if values}
        offset = int.from_bytes(following, order) if len(following) == wide else 0


def _values(file: BinaryIO, entry: bytes, order: Any, wide: int) -> tuple[int, ...]:
    """Whole numbers of a directory's entry, which has them or says where they lie; () if damaged.

    No more is read than the file has.
    """
    kind = NUMBERS.get(int.from_bytes(entry[:2], order))
    count = int.from_bytes(entry[2 : 2 + wide], order)
    if kind is None:
        return ()
    content = entry[2 + wide :]
    if count * kind.itemsize > wide:
        if count * kind.itemsize > file.seek(0, os.SEEK_END):
            return ()
        file.seek(int.from_bytes(content, order))
        content = file.read(count * kind.itemsize)
    content = content[: count * kind.itemsize]
    if len(content) < count * kind.itemsize:
        return ()
    return tuple(
        np.frombuffer(content, kind.newbyteorder("<" if order == "little" else ">")).tolist()
    )


_LAYOUT = (
    SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP,
    STRIP_SIZES, PLANAR, *EXIF_DIRECTORIES, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES,
    SUB_DIRECTORIES, DNG_VERSION,
)  # fmt: skip


def check_complete(tags: dict[int, tuple[int, ...]], size: int) -> None:
    """Checks that all strips or tiles that the tags promise lie within `size` bytes.

    Raises:
        Unreadable: some are missing.
    """
    layout = _parts(tags)
    compression = tags.get(COMPRESSION, (UNCOMPRESSED,))[0]
    if layout is None or compression == OLD_JPEG:  # whose numbers mean other things
        return
    needed, part_bytes, offsets, sizes = layout
    found = min(len(offsets), len(sizes))
    if found < needed:
        raise Unreadable(
            f"is damaged: it holds {found:,} of {needed:,} parts of the image. Copy or download "
            "it again."
        )
    missing = sum(
        start <= 0 or count <= 0 or start + count > size
        for start, count in zip(offsets[:needed], sizes[:needed], strict=True)
    )
    plain = compression == UNCOMPRESSED and tags.get(PHOTOMETRIC) != (YCBCR,)
    short = plain and sum(sizes[:needed]) < part_bytes
    if missing or short:
        what = f"{missing:,} of {needed:,} parts of the image are" if missing else "the end is"
        raise Unreadable(f"is damaged (cut off?): {what} missing. Copy or download it again.")


def _parts(
    tags: dict[int, tuple[int, ...]],
) -> tuple[int, int, tuple[int, ...], tuple[int, ...]] | None:
    """Parts, their bytes together if not compressed, offsets, sizes; None if the tags are odd."""
    try:
        width, height, pixel = tags[WIDTH][0], tags[HEIGHT][0], bits_per_pixel(tags)
        planes = tags.get(SAMPLES, (1,))[0] if tags.get(PLANAR) == (2,) else 1
        if TILE_OFFSETS in tags:
            across, down = tags[TILE_WIDTH][0], tags[TILE_HEIGHT][0]
            parts = -(-width // across) * -(-height // down) * planes
            whole = parts * down * math.ceil(across * pixel / planes / 8)
            return parts, whole, tags[TILE_OFFSETS], tags[TILE_SIZES]
        rows = min(tags.get(ROWS_PER_STRIP, (height,))[0], height)
        parts = -(-height // rows) * planes
        whole = height * planes * math.ceil(width * pixel / planes / 8)
        # Old writers leave the sizes out where nothing is compressed.
        return parts, whole, tags[STRIP_OFFSETS], tags[STRIP_SIZES]
    except (KeyError, ZeroDivisionError):
        return None


def bits_per_pixel(tags: dict[int, tuple[int, ...]]) -> int:
    """Over all channels."""
    [samples], bits = tags.get(SAMPLES, (1,))[:1], tags.get(BITS, (1,))
    return sum(bits) if len(bits) == samples else samples * max(bits)


def is_mistaken_ycbcr(tags: dict[int, tuple[int, ...]], *, by_pillow: bool) -> bool:
    """Returns whether the pixels are YCbCr that a decoder takes for something else: Pillow what is
    not compressed, libvips all but JPEG."""
    [compression] = tags.get(COMPRESSION, (UNCOMPRESSED,))[:1]
    mistaken = compression == UNCOMPRESSED if by_pillow else compression not in JPEG_INSIDE
    return tags.get(PHOTOMETRIC, (0,))[0] == YCBCR and mistaken


def describe_layout(tags: dict[int, tuple[int, ...]]) -> str:
    """Returns the layout in words, for messages."""
    [compression] = tags.get(COMPRESSION, (UNCOMPRESSED,))[:1]
    words = [COMPRESSIONS[compression]] if compression in COMPRESSIONS else []
    words += ["planar"] if tags.get(PLANAR) == (2,) and tags.get(SAMPLES, (1,))[0] > 1 else []
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
    # Pillow lays out the new tags, with absolute offsets of their values; only the table is moved.
    block = added.tobytes(len(content))
    table = entries_at(block, 0, order)
    table.update(entries_at(content, int.from_bytes(content[4:8], order), order))
    block += b"\0" * (len(block) % 2)
    start = len(content) + len(block)
    joined = len(table).to_bytes(2, order) + b"".join(table[tag] for tag in sorted(table))
    return content[:4] + start.to_bytes(4, order) + content[8:] + block + joined + bytes(4)


def entries_at(content: bytes, start: int, order: Any) -> dict[int, bytes]:
    """Returns the 12 bytes of each tag of the directory at `start`."""
    count = int.from_bytes(content[start : start + 2], order)
    entries = [content[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    return {int.from_bytes(entry[:2], order): entry for entry in entries}
