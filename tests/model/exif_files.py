"""EXIF blocks as cameras lay them out, made by hand."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

Entries = list[tuple[int, int, int, bytes]]
"""Tag, type, count, values."""


def directory(order: str, entries: Entries, base: int, following: int = 0) -> bytes:
    """One directory at `base`, its larger values behind it."""
    head, values = struct.pack(order + "H", len(entries)), b""
    start = base + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in sorted(entries):
        if len(value) <= 4:
            head += struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")
        else:
            head += struct.pack(order + "HHII", tag, kind, count, start + len(values))
            values += value + b"\0" * (len(value) % 2)
    return head + struct.pack(order + "I", following) + values


def thumbnail() -> bytes:
    """A small JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(np.full((120, 160, 3), 99, np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def block(
    order: str = "<",
    orientation: int = 6,
    size: tuple[int, int] = (32, 24),
    small: bool = True,
    index: bytes = b"R98\0",
) -> tuple[bytes, int, int]:
    """With a maker's note that names places in the block, as Canon's does, and a thumbnail.

    Returns:
        The block, and where the maker's note and the string that it names lie.
    """

    def pack(kind: str, *values: int) -> bytes:
        return struct.pack(order + kind, *values)

    gap = 64  # cameras leave room between their directories

    def build(camera: int, second: int, image: int) -> tuple[bytes, bytes, bytes]:
        first: Entries = [
            (0x010F, 2, 6, b"Canon\0"),
            (0x0112, 3, 1, pack("H", orientation)),
            (0x8769, 4, 1, pack("I", camera)),
        ]
        own = camera + 2 + 12 * 6 + 4 + 20  # behind the camera's directory and its date
        inner = camera + 2 + 12 * 6 + 4 + 20 + 50  # behind the note
        note = directory(order, [(6, 2, 32, b"Canon EOS Test\0".ljust(32, b"\0"))], own)
        entries: Entries = [
            (0x9003, 2, 20, b"2024:05:06 07:08:09\0"),
            (0x927C, 7, len(note), note),
            (0xA002, 3, 1, pack("H", size[0])),
            (0xA003, 4, 1, pack("I", size[1])),
            (0xA001, 3, 1, pack("H", 1 if index == b"R98\0" else 0xFFFF)),
            (0xA005, 4, 1, pack("I", inner)),
        ]
        last: Entries = [
            (0x0103, 3, 1, pack("H", 6)),
            (0x0201, 4, 1, pack("I", image)),
            (0x0202, 4, 1, pack("I", len(thumbnail()))),
        ]
        return (
            directory(order, first, 8, second if small else 0),
            directory(order, entries, camera) + directory(order, [(1, 2, 4, index)], inner),
            directory(order, last, second),
        )

    first, camera, last = build(0, 0, 0)
    at = 8 + len(first) + gap
    second = at + len(camera)
    first, camera, last = build(at, second, second + len(last))
    head = (b"II*\0" if order == "<" else b"MM\0*") + pack("I", 8)
    content = head + first + bytes(gap) + camera
    content += last + thumbnail() if small else b""
    note = content.index(b"Canon EOS Test")
    return b"Exif\0\0" + content, at, note
