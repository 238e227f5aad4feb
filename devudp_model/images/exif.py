"""EXIF blocks, patched where they lie.

Makers' notes hold offsets into the block, so a block that is written anew, as Pillow does, breaks
them. Here only single numbers change: the orientation, the image's size, and the thumbnail of the
image as it was is cut out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PREFIX = b"Exif\0\0"
ORIENTATION, WIDTH, HEIGHT = 0x0112, 0x0100, 0x0101
EXIF_DIRECTORY, PIXEL_WIDTH, PIXEL_HEIGHT, MAKER_NOTE = 0x8769, 0xA002, 0xA003, 0x927C
GPS_DIRECTORY, INTEROPERABILITY = 0x8825, 0xA005
COLOUR_SPACE, INDEX = 0xA001, 0x0001
IS_SRGB, ADOBE_RGB, BASIC = 1, b"R03", b"R98"
"""Of the colour space; and of the interoperability index (DCF), for Adobe RGB and for sRGB."""

THUMBNAIL, THUMBNAIL_SIZE = 0x0201, 0x0202
SHORT, LONG = 3, 4
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value, by the types of a directory's entries."""

MAX_ENTRIES = 1000


@dataclass
class Entry:
    """One entry of a directory.

    Attributes:
        at: where it lies in the block.
        tag, kind, count: what it says.
        offset: where its values lie.
        size: bytes of them all.
    """

    at: int
    tag: int
    kind: int
    count: int
    offset: int
    size: int


class Block:
    """An EXIF block (a small TIFF file), changed in place.

    Raises:
        ValueError: it is none.
    """

    def __init__(self, content: bytes):
        self.content = bytearray(content.removeprefix(PREFIX))
        start = bytes(self.content[:4])
        if start not in (b"II*\0", b"MM\0*"):
            raise ValueError("no EXIF block")
        self.big = start[:2] == b"MM"
        self.first = self.number(4, 4)

    def number(self, at: int, size: int) -> int:
        return int.from_bytes(self.content[at : at + size], "big" if self.big else "little")

    def put(self, at: int, size: int, value: int) -> None:
        self.content[at : at + size] = value.to_bytes(size, "big" if self.big else "little")

    def entries(self, directory: int) -> Iterator[Entry]:
        """Yields those of the directory at `directory`, as far as they lie in the block."""
        for number in range(min(self.number(directory, 2), MAX_ENTRIES)):
            at = directory + 2 + 12 * number
            if at + 12 > len(self.content):
                return
            kind, count = self.number(at + 2, 2), self.number(at + 4, 4)
            size = SIZES.get(kind, 1) * count
            offset = at + 8 if size <= 4 else self.number(at + 8, 4)
            if offset + size <= len(self.content):
                yield Entry(at, self.number(at, 2), kind, count, offset, size)

    def find(self, directory: int, tag: int) -> Entry | None:
        return next((each for each in self.entries(directory) if each.tag == tag), None)

    def value(self, directory: int, tag: int) -> int | None:
        """Returns a single whole number."""
        entry = self.find(directory, tag)
        if entry is None or entry.kind not in (SHORT, LONG) or entry.count != 1:
            return None
        return self.number(entry.offset, SIZES[entry.kind])

    def set(self, directory: int, tag: int, value: int) -> None:
        """Changes a whole number that is there; a type that is too small for it becomes LONG."""
        entry = self.find(directory, tag)
        if entry is None or entry.count != 1 or entry.kind not in (SHORT, LONG):
            return
        if value > 0xFFFF:
            self.put(entry.at + 2, 2, LONG)
        wide = 4 if value > 0xFFFF else SIZES[entry.kind]
        self.content[entry.at + 8 : entry.at + 12] = bytes(4)
        self.put(entry.at + 8, wide, value)

    def following(self) -> int:
        """Returns where the offset of the second directory is written."""
        return self.first + 2 + 12 * self.number(self.first, 2)

    def camera(self) -> int | None:
        """Returns where the camera's directory lies."""
        offset = self.value(self.first, EXIF_DIRECTORY)
        return offset if offset and offset + 2 <= len(self.content) else None


def camera_says(exif: bytes, *tags: int) -> bool:
    """Returns whether the camera's directory has one of these tags."""
    try:
        block = Block(exif)
    except ValueError:
        return False
    camera = block.camera()
    return camera is not None and any(block.find(camera, tag) is not None for tag in tags)


def is_adobe_rgb(exif: bytes) -> bool:
    """Returns whether a camera says that its numbers are Adobe RGB's; DCF has no profile."""
    try:
        block = Block(exif)
    except ValueError:
        return False
    offset = _index(block)
    return offset is not None and block.content[offset : offset + 3] == ADOBE_RGB


def as_srgb(exif: bytes) -> bytes:
    """Returns the block of an image whose colours have become sRGB."""
    try:
        block = Block(exif)
    except ValueError:
        return exif
    camera, offset = block.camera(), _index(block)
    if camera is not None:
        block.set(camera, COLOUR_SPACE, IS_SRGB)
    if offset is not None and block.content[offset : offset + 3] == ADOBE_RGB:
        block.content[offset : offset + 3] = BASIC
    return PREFIX + bytes(block.content)


def _index(block: Block) -> int | None:
    """Returns where the interoperability index lies."""
    camera = block.camera()
    directory = block.value(camera, INTEROPERABILITY) if camera is not None else None
    entry = block.find(directory, INDEX) if directory else None
    return entry.offset if entry is not None and entry.size >= 3 else None


def patched(exif: bytes, size: tuple[int, int]) -> bytes:
    """Returns the block for an upright image of this width and height, without its thumbnail.

    Everything else stays where it is, byte for byte.

    Raises:
        ValueError: it is no EXIF block.
    """
    block = Block(exif)
    block.set(block.first, ORIENTATION, 1)
    block.set(block.first, WIDTH, size[0])
    block.set(block.first, HEIGHT, size[1])
    camera = block.camera()
    if camera is not None:
        block.set(camera, PIXEL_WIDTH, size[0])
        block.set(camera, PIXEL_HEIGHT, size[1])
    _cut_thumbnail(block)
    return PREFIX + bytes(block.content)


def _cut_thumbnail(block: Block) -> None:
    """Blanks the second directory and its image; what of that ends the block is cut off."""
    pointer = block.following()
    second = block.number(pointer, 4)
    if not second or second + 2 > len(block.content):
        return
    count = block.number(second, 2)
    if count > MAX_ENTRIES:
        return
    freed = [(second, second + 2 + 12 * count + 4)]
    freed += [(e.offset, e.offset + e.size) for e in block.entries(second) if e.size > 4]
    start, length = block.value(second, THUMBNAIL), block.value(second, THUMBNAIL_SIZE)
    if start and length and start + length <= len(block.content):
        freed.append((start, start + length))
    # Damaged or odd blocks: nothing that the first directories use is touched.
    used = _used(block)
    freed = [(a, b) for a, b in freed if not any(a < d and c < b for c, d in used)]
    block.put(pointer, 4, 0)
    for a, b in freed:
        block.content[a:b] = bytes(min(b, len(block.content)) - a)
    for a, b in sorted(freed, reverse=True):
        if b >= len(block.content) - 1:
            del block.content[a:]


def _used(block: Block) -> list[tuple[int, int]]:
    """Returns the parts of the block that the first directory and those below it take."""
    used = [(0, 8)]
    directories, seen = [block.first], set()
    while directories:
        directory = directories.pop()
        if directory in seen or directory + 2 > len(block.content):
            continue
        seen.add(directory)
        used.append((directory, directory + 2 + 12 * block.number(directory, 2) + 4))
        for entry in block.entries(directory):
            used.append((entry.offset, entry.offset + entry.size))
            if entry.tag in (EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY):
                directories.append(block.number(entry.offset, 4))
    return used


def without_orientation(exif: bytes) -> bytes:
    """Returns the block without this entry; all else stays where it is.

    For encoders that write a block with it anew (Pillow's AVIF).
    """
    try:
        block = Block(exif)
    except ValueError:
        return exif
    entry = block.find(block.first, ORIENTATION)
    if entry is None:
        return exif
    end = block.following() + 4
    moved = bytes(block.content[entry.at + 12 : end])
    block.content[entry.at : end] = moved + bytes(12)
    block.put(block.first, 2, block.number(block.first, 2) - 1)
    return PREFIX + bytes(block.content)
