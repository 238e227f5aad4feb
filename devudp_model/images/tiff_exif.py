"""TIFF files that begin with an EXIF block as it lay in another file.

An EXIF block is a small TIFF file, and offsets in it, also those in a maker's note, count from its
start. At the start of the result they stay right; the image follows, and one directory has
the entries of both.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from .exif import PREFIX, SHORT, SIZES, Block
from .tiff import STRIP_OFFSETS, TILE_OFFSETS, entries_at

OF_IMAGE = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 280, 281, 284, 317, 318, 319, 320,
     322, 323, 324, 325, 330, 338, 339, 347, 513, 514, 529, 530, 531, 532, 700, 33723, 34377, 34675}
)  # fmt: skip
"""Tags that say how an image is stored, or that are carried in another way."""

OF_BLOCK = frozenset({282, 283, 296})
"""Tags that the block knows better: the resolution."""


def fits(exif: bytes) -> bool:
    """Returns whether a block has the byte order in which images are written."""
    return exif.removeprefix(PREFIX).startswith(b"II*\0")


def begin(file: BinaryIO, exif: bytes) -> int:
    """Writes the block; returns where the image is to begin."""
    content = exif.removeprefix(PREFIX)
    return file.write(content + bytes(len(content) % 2))


def moved(content: bytes, start: int) -> bytes:
    """Returns a TIFF file without its header, its offsets changed for where it will lie.

    Args:
        content: a whole file, little-endian, one directory.
        start: where what follows its 8 bytes of header will lie.
    """
    shift, out = start - 8, bytearray(content)
    directory = int.from_bytes(content[4:8], "little")
    for number, (tag, entry) in enumerate(entries_at(content, directory, "little").items()):
        kind, count, value = struct.unpack("<HII", entry[2:])
        at, inside = directory + 2 + 12 * number, SIZES.get(kind, 1) * count <= 4
        if not inside:
            out[at + 8 : at + 12] = struct.pack("<I", value + shift)
        if tag in (STRIP_OFFSETS, TILE_OFFSETS):
            if kind == SHORT:
                raise ValueError("offsets of 16 bits cannot be moved")
            offset = at + 8 if inside else value
            offsets = struct.unpack(f"<{count}I", content[offset : offset + 4 * count])
            out[offset : offset + 4 * count] = struct.pack(
                f"<{count}I", *(p + shift for p in offsets)
            )
    return bytes(out[8:])


def join(file: BinaryIO, exif: bytes, directory: int) -> None:
    """Ends a file that `begin` began with a directory of the block's entries and the image's.

    Args:
        file: readable.
        exif: as given to `begin`.
        directory: where the image's directory lies.
    """
    block = Block(exif)
    file.seek(directory)
    count = int.from_bytes(file.read(2), "little")
    table = file.read(12 * count)
    own = {
        entry.tag: bytes(block.content[entry.at : entry.at + 12])
        for entry in block.entries(block.first)
        if entry.tag not in OF_IMAGE
    }
    joined = {**own, **{int.from_bytes(table[n : n + 2], "little"): table[n : n + 12]
                        for n in range(0, len(table), 12)}}  # fmt: skip
    joined.update({tag: own[tag] for tag in OF_BLOCK if tag in own})
    end = file.seek(0, 2)
    end += file.write(bytes(end % 2))
    file.write(len(joined).to_bytes(2, "little"))
    file.write(b"".join(joined[tag] for tag in sorted(joined)) + bytes(4))
    file.seek(4)
    file.write(end.to_bytes(4, "little"))
