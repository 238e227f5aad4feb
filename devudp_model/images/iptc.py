"""IPTC: captions and keywords of agencies (IIM), and the places where files keep them.

In JPEG it is one of Photoshop's resources; the others go with it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image

from . import tiff

RESOURCE = 0x0404
"""Photoshop's number for it, among the resources of APP13 and of TIFF's tag 34377."""

IN_TIFF, RESOURCES_IN_TIFF = 33723, 34377
PNG_KEY = "Raw profile type iptc"
DATA_SET = 0x1C
"""The byte that each data set begins with."""


THUMBNAILS = (0x0409, 0x040C)
"""Resources that are small versions of the image as it was."""

PHOTOSHOP = b"Photoshop 3.0\0"


def others_of(image: Image.Image) -> bytes:
    """Returns Photoshop's other resources of a JPEG file, but thumbnails."""
    found = b""
    for name, content in getattr(image, "applist", ()):
        if name == "APP13" and content.startswith(PHOTOSHOP):
            for number, resource in _resources(content.removeprefix(PHOTOSHOP)):
                if number != RESOURCE and number not in THUMBNAILS:
                    found += _as_resource(resource, number)
    return found


def of_image(image: Image.Image, file: BinaryIO | None = None) -> bytes:
    """Returns an opened image's data sets; b"" if it has none. Those of TIFF lie in `file`."""
    if image.format in ("JPEG", "MPO"):
        found = (image.info.get("photoshop") or {}).get(RESOURCE, b"")
        return found if isinstance(found, bytes) else b""
    if image.format == "PNG":
        text: dict[str, Any] = getattr(image, "text", {})
        return of_png_text(str(text.get(PNG_KEY, "")))
    if image.format == "TIFF" and file is not None:  # Pillow gives but the first number
        position = file.tell()
        own, others = (tiff.block(file, tag) for tag in (IN_TIFF, RESOURCES_IN_TIFF))
        file.seek(position)
        return of_tiff_tags(own, others)
    return b""


def of_tiff_tags(own: bytes, resources: bytes) -> bytes:
    """Returns what the two tags hold; `own` may be integers, with their bytes in either order."""
    swapped = b"".join(own[at : at + 4][::-1] for at in range(0, len(own), 4))
    for content in (own, swapped):
        if content[:1] == bytes([DATA_SET]):
            return content
    return dict(_resources(resources)).get(RESOURCE, b"")


def _resources(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the number and content of each of Photoshop's resources."""
    at = 0
    while content[at : at + 4] == b"8BIM" and at + 12 <= len(content):
        number, name = int.from_bytes(content[at + 4 : at + 6], "big"), content[at + 6]
        start = at + 6 + (name + 2 & ~1)
        size = int.from_bytes(content[start : start + 4], "big")
        yield number, content[start + 4 : start + 4 + size]
        at = start + 4 + size + size % 2


def _as_resource(content: bytes, number: int = RESOURCE) -> bytes:
    head = b"8BIM" + number.to_bytes(2, "big") + bytes(2) + len(content).to_bytes(4, "big")
    return head + content + bytes(len(content) % 2)


def segment(iptc: bytes, others: bytes = b"") -> bytes:
    """Returns JPEG's segment APP13; b"" of nothing."""
    if not iptc and not others:
        return b""
    content = PHOTOSHOP + (_as_resource(iptc) if iptc else b"") + others
    return b"\xff\xed" + (len(content) + 2).to_bytes(2, "big") + content


def as_png_text(iptc: bytes) -> str:
    """Returns the text under `PNG_KEY`, as ImageMagick and ExifTool know it."""
    content = _as_resource(iptc)
    digits = content.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"\niptc\n{len(content):8}\n{lines}\n"


def of_png_text(text: str) -> bytes:
    """Undoes `as_png_text`; b"" of a damaged text."""
    found = re.match(r"\s*[^\n]+\n *\d+\n(.*)", text, re.DOTALL)  # the name may be two words
    if not found:
        return b""
    with contextlib.suppress(ValueError):
        content = bytes.fromhex("".join(found[1].split()))
        if content[:1] == bytes([DATA_SET]):
            return content
        return dict(_resources(content)).get(RESOURCE, b"")
    return b""
