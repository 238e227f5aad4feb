"""Gain maps: the second, smaller JPEG image in a phone's photograph, by which a bright display
shows lamps and skies brighter than white (Ultra HDR; Adobe's, Android's, Apple's and ISO 21496-1's
spelling).

A restored image keeps its shape, so the map stays true: it says how much brighter each pixel is.
Its bytes are kept; where the photograph lay on its side, it is turned with it and encoded anew.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from .orientation import upright as turn

ISO = b"urn:iso:std:iso:ts:21496"
ANDROID, APPLE = b"hdrgm:Version", b"hdrgainmap"
"""In the XMP of the map itself; Apple's in any case of letters."""

INDEX, ENTRIES = b"MPF\0", 0xB002
"""The list of a file's images (CIPA DC-007), and its tag with their offsets."""

APP0, APP2, SCAN = 0xE0, 0xE2, 0xDA

MAX_BYTES, MAX_IMAGES, MAX_SEGMENTS = 2**25, 16, 1000

DIRECTORY = re.compile(rb"</(\w+:)?RDF\s*>")

DESCRIPTION = (
    b'<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
    b'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    b'xmlns:Item="http://ns.google.com/photos/1.0/container/item/" hdrgm:Version="1.0">'
    b'<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item '
    b'Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li><rdf:li rdf:parseType="Resource">'
    b'<Container:Item Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="%d"/></rdf:li>'
    b"</rdf:Seq></Container:Directory></rdf:Description>"
)
PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta>'
)


@dataclass(frozen=True)
class GainMap:
    """A JPEG file's gain map.

    Attributes:
        jpeg: the map, a whole file.
        segments: of the photograph, those that say that there is a map, as ISO 21496-1 has it.
        in_xmp: whether the photograph's XMP says so, as Android has it.
    """

    jpeg: bytes
    segments: bytes = b""
    in_xmp: bool = False

    @property
    def namespaces(self) -> tuple[bytes, ...]:
        """Names what stays true in the XMP: what Apple says. Android's is written anew."""
        return () if self.in_xmp else (b"HDRGainMap",)


class Segment(NamedTuple):
    """A part of a JPEG file: its marker, where its content lies, and the content."""

    marker: int
    at: int
    content: bytes


def segments_of(file: BinaryIO) -> Iterator[Segment]:
    """Yields those before the pixels."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        file.seek(at)
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] == SCAN:
            return
        length = int.from_bytes(head[2:], "big")
        yield Segment(head[1], at + 4, file.read(length - 2))
        at += 2 + length


def find(file: BinaryIO) -> GainMap | None:
    """Returns a JPEG file's gain map; None if it has none, or is damaged."""
    position = file.tell()
    found = list(segments_of(file))
    index = next((s for s in found if s.marker == APP2 and s.content.startswith(INDEX)), None)
    iso = b"".join(_bytes(s) for s in found if s.marker == APP2 and s.content.startswith(ISO))
    best = None
    for start, size in _images(index) if index is not None else ():
        file.seek(start)
        jpeg = file.read(size)
        inside = [s.content for s in segments_of(io.BytesIO(jpeg))]
        if len(jpeg) == size and jpeg.startswith(b"\xff\xd8") and any(map(_is_map, inside)):
            best = GainMap(jpeg, iso, any(ANDROID in content for content in inside))
            break
    file.seek(position)
    return best


def _is_map(content: bytes) -> bool:
    """Tells whether a segment says that its image is a map."""
    return ANDROID in content or content.startswith(ISO) or APPLE in content.lower()


def _bytes(segment: Segment) -> bytes:
    length = (len(segment.content) + 2).to_bytes(2, "big")
    return bytes([0xFF, segment.marker]) + length + segment.content


def _images(index: Segment) -> Iterator[tuple[int, int]]:
    """Yields the start and size of each further image that the index names."""
    block = index.content[len(INDEX) :]
    order = "<" if block[:2] == b"II" else ">"
    try:
        [first] = struct.unpack_from(f"{order}I", block, 4)
        [count] = struct.unpack_from(f"{order}H", block, first)
        for number in range(min(count, 64)):
            tag, _, size, entries = struct.unpack_from(
                f"{order}HHII", block, first + 2 + 12 * number
            )
            if tag != ENTRIES:
                continue
            for at in range(16, min(size, 16 * MAX_IMAGES), 16):
                _, length, offset = struct.unpack_from(f"{order}III", block, entries + at)
                if 0 < length <= MAX_BYTES and offset:
                    yield index.at + len(INDEX) + offset, length
    except struct.error:  # damaged
        return


def upright(gain_map: GainMap, orientation: int, most: int) -> GainMap | None:
    """Returns the map turned as its image; None if it cannot be decoded.

    Args:
        orientation: as in EXIF.
        most: pixels that it may have, those of its image.
    """
    try:
        with Image.open(io.BytesIO(gain_map.jpeg), formats=["JPEG"]) as image:
            if image.width * image.height > most or image.mode not in ("L", "RGB"):
                return None
            if orientation == 1:
                return gain_map
            pixels = turn(np.asarray(image), orientation)
    except Exception:  # whatever Pillow meets in a damaged one
        return None
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        stream, "JPEG", quality=95, subsampling="4:4:4"
    )
    encoded = stream.getvalue()
    own = [s for s in segments_of(io.BytesIO(gain_map.jpeg)) if APP0 < s.marker <= APP0 + 13]
    start = 4 + int.from_bytes(encoded[4:6], "big")  # behind JFIF, which comes first
    start = start if encoded[2:4] == b"\xff\xe0" else 2
    return replace(gain_map, jpeg=encoded[:start] + b"".join(map(_bytes, own)) + encoded[start:])


def described(xmp: bytes, gain_map: GainMap) -> bytes:
    """Returns a photograph's XMP packet that names the map, as Android wants it."""
    if not gain_map.in_xmp:
        return xmp
    packet = xmp if DIRECTORY.search(xmp) else PACKET
    at = [match.start() for match in DIRECTORY.finditer(packet)][-1]
    return packet[:at] + DESCRIPTION % len(gain_map.jpeg) + packet[at:]


def index_segment() -> bytes:
    """Returns the list of two images, whose offsets are still to be filled in."""
    tags = struct.pack("<HHI4s", 0xB000, 7, 4, b"0100")
    tags += struct.pack("<HHII", 0xB001, 4, 1, 2) + struct.pack("<HHII", ENTRIES, 7, 32, 50)
    content = INDEX + b"II*\0" + struct.pack("<IH", 8, 3) + tags + bytes(4) + bytes(32)
    return _bytes(Segment(APP2, 0, content))


def append(file: BinaryIO, gain_map: GainMap) -> None:
    """Writes the map behind a JPEG file with `index_segment` in it, and fills in the offsets."""
    size = file.seek(0, 2)
    for segment in segments_of(file):
        if segment.marker == APP2 and segment.content.startswith(INDEX):
            block = segment.at + len(INDEX)
            file.seek(block + 50)
            file.write(struct.pack("<IIIHH", 0x030000, size, 0, 0, 0))
            file.write(struct.pack("<IIIHH", 0, len(gain_map.jpeg), size - block, 0, 0))
    file.seek(size)
    file.write(gain_map.jpeg)
