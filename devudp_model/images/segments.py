"""Finds what a JPEG, PNG, WebP or JPEG XL file holds in segments, chunks or boxes: what of it is
carried, and what is named where it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from . import isobmff, png

ENCODERS = {
    b"JFXX\0": "thumbnail (JFXX)",
    b"SPIFF\0": "encoder's notes (SPIFF)",
    b"Ducky": "encoder's notes (Ducky)",
    b"AVI1": "encoder's notes (AVI1)",
}
"""Segments that say how a JPEG file was encoded, or hold a thumbnail of the image as it was. JFIF's
and Adobe's are written anew."""

CARRIED = (
    b"JFIF\0", b"ICC_PROFILE\0", b"MPF\0", b"urn:iso:std:iso:ts:21496", b"Exif\0",
    b"http://ns.adobe.com/xap/", b"http://ns.adobe.com/xmp/", b"Photoshop 3.0\0",
)  # fmt: skip
"""Segments that are carried in another way, or left out and said."""

JPEG_XT, ADOBE = "APP11", b"Adobe\0"

OF_PNG = {
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"pHYs", b"eXIf", b"tEXt", b"zTXt",
    b"iTXt", *png.COLOUR, b"iDOT", b"CgBI", b"acTL", b"fcTL", b"fdAT", b"zxIf",
}  # fmt: skip
"""Chunks that are read or written elsewhere, or say how the pixels are stored."""

DATE, SIGNIFICANT = b"tIME", b"sBIT"

MAX_BYTES = 2**20
"""Of a chunk that is carried."""

OF_WEBP = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP ", b"ANIM", b"ANMF"}

OF_JXL = {
    b"JXL ", b"ftyp", b"jxlc", b"jxlp", b"jxli", b"jxll", b"jbrd", b"Exif", b"xml ", b"brob",
}  # fmt: skip
JXL_PARTS = {b"jhgm": "gain map", b"jumb": "content credentials (C2PA)"}


def others_of(image: Any) -> Iterator[bytes]:
    """Yields a JPEG image's segments that are neither its encoder's nor carried in another way."""
    for name, content in getattr(image, "applist", ()):
        number = int(name[3:]) if name.startswith("APP") else None  # else a comment
        is_adobes = number == 14 and content.startswith(ADOBE[:5])  # how colours are coded
        if number is None or name == JPEG_XT or is_adobes:
            continue
        if not content.startswith((*ENCODERS, *CARRIED)):
            yield bytes([0xFF, 0xE0 + number]) + (len(content) + 2).to_bytes(2, "big") + content


def encoders_of(image: Any) -> tuple[str, ...]:
    """Returns what of a JPEG image's encoder is left out."""
    contents = [content for _, content in getattr(image, "applist", ())]
    found = (what for start, what in ENCODERS.items() if any(c.startswith(start) for c in contents))
    return tuple(found)


def parts_of(image: Any) -> tuple[str, ...]:
    """Returns what else a JPEG file holds."""
    parts = []
    for name, content in getattr(image, "applist", ()):
        if name == "APP2" and content.startswith(b"urn:iso:std:iso:ts:21496"):
            parts.append("gain map")
        if name == JPEG_XT:
            names = {b"c2pa": "content credentials (C2PA)", b"jumb": "JUMBF data"}
            found = (name for mark, name in names.items() if mark in content)
            parts.append(next(found, "JPEG XT data"))
        if name == "APP1" and content.startswith(b"http://ns.adobe.com/xmp/extension/"):
            parts.append("extended XMP")
    more = getattr(image, "n_frames", 1) - 1 if image.format == "MPO" else 0
    if more:
        parts.append("second image" if more == 1 else "further images")
    return tuple(dict.fromkeys(parts))


def further_chunks(file: BinaryIO) -> tuple[tuple[tuple[bytes, bytes], ...], tuple[str, ...]]:
    """Returns those of a PNG file's chunks that are carried: its date, and what is safe to copy by
    PNG's own rule (the last letter of the name is a small one); and the names of those that are
    not."""
    carried, lost = [], []
    for name, data in png.chunks(file, MAX_BYTES):
        if name in OF_PNG:
            continue
        safe = name == DATE or name[3] & 0x20
        if safe and data is not None:
            carried.append((name, data))
        elif not (name == SIGNIFICANT and data and min(data) >= 8):  # then it says nothing
            lost.append(name.decode("latin-1"))
    return tuple(carried), tuple(dict.fromkeys(lost))


def said_of_webp(file: BinaryIO) -> tuple[str, ...]:
    """Returns what is lost of a WebP file's chunks, in words."""
    names, at = [], 12
    end = file.seek(0, 2)
    while at + 8 <= end and len(names) < png.MAX_CHUNKS:
        file.seek(at)
        head = file.read(8)
        names.append(head[:4])
        size = int.from_bytes(head[4:], "little")
        at += 8 + size + size % 2
    others = sorted({name.decode("latin-1") for name in names} - {n.decode() for n in OF_WEBP})
    return (f"its own WebP chunks ({', '.join(others)}) are not kept",) if others else ()


def parts_of_jxl(content: bytes) -> tuple[str, ...]:
    """Returns what else a JPEG XL file holds; one that is the image alone has no boxes."""
    in_boxes = content[4:8] == b"JXL "
    names = [name for name, _ in isobmff.boxes(content) if in_boxes and name not in OF_JXL]
    known = [JXL_PARTS.get(name, f"box {name.decode('latin-1')}") for name in names]
    return tuple(dict.fromkeys(known))
