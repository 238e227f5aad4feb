"""Reads what an AVIF or HEIC file (ISO 14496-12, 23008-12) says of its image, undecoded.

The decoders give pixels. What the numbers mean, how many bits there are, and EXIF as it lies in
the file, they give only in part, each another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_BYTES = 2**24
"""Of the box `meta`; a larger one is damaged."""

MAX_ITEMS = 10_000

AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"heif")
RAW_BRANDS = (b"crx ",)


ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
"""Purposes of an auxiliary image that the decoders make alpha of."""

BESIDE = {b"mpvd": "video", b"moov": "image sequence"}
C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""Boxes beside the images, and the number of the box `uuid` that holds content credentials."""


@dataclass
class Properties:
    """Holds the properties of one item.

    Attributes:
        size: width and height, before it is turned.
        bits: of a channel; 0 if not said.
        nclx: primaries and transfer curve by H.273's numbers, or None.
        icc: the colour profile.
        turned: whether it is shown turned or mirrored.
        purpose: of an auxiliary image.
    """

    size: tuple[int, int] = (0, 0)
    bits: int = 0
    nclx: tuple[int, int] | None = None
    icc: bytes = b""
    turned: bool = False
    purpose: bytes = b""


@dataclass
class Container:
    """A file with one main image.

    Attributes:
        image: the main image's properties.
        exif, xmp: as they lie in the file; b"" if there are none.
        parts: what else it holds: "gain map", "depth map", ...
    """

    image: Properties = field(default_factory=Properties)
    exif: bytes = b""
    xmp: bytes = b""
    parts: list[str] = field(default_factory=list)


def brands(start: bytes) -> tuple[bytes, ...]:
    """Returns the major brand and the compatible ones of a file that begins so; () of others."""
    if start[4:8] != b"ftyp":
        return ()
    end = min(int.from_bytes(start[:4], "big"), len(start))
    return (start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4)))


def read(content: bytes) -> Container:
    """Returns what the file says.

    Raises:
        ValueError: it is damaged.
    """
    meta = next((body for name, body in boxes(content) if name == b"meta"), b"")[4:]
    if not meta or len(meta) > MAX_BYTES:
        raise ValueError("there is no list of its images")
    inside: dict[bytes, bytes] = {}
    for name, body in boxes(meta):
        inside.setdefault(name, body)
    kinds = _kinds(inside.get(b"iinf", b""))
    properties = _properties(inside.get(b"iprp", b""))
    pitm = inside.get(b"pitm", b"")
    main = int.from_bytes(pitm[4 : 6 if pitm[:1] == b"\0" else 8], "big")
    container = Container(properties.get(main, Properties()))
    contents = _contents(inside.get(b"iloc", b""), inside.get(b"idat", b""), content)
    for item, (kind, mime) in kinds.items():
        body = contents.get(item, b"")
        if kind == b"Exif":
            start = int.from_bytes(body[:4], "big") + 4
            container.exif = body[start:]
        elif kind == b"mime" and mime == b"application/rdf+xml":
            container.xmp = body
        elif kind == b"tmap":
            container.parts.append("gain map")
        container.parts += _part(properties.get(item, Properties()).purpose)
    for name, body in boxes(content):
        container.parts += [BESIDE[name]] if name in BESIDE else []
        if name == b"uuid":
            what = "content credentials (C2PA)" if body[:16] == C2PA else "box uuid"
            container.parts.append(what)
    container.parts = list(dict.fromkeys(container.parts))
    return container


def _part(purpose: bytes) -> list[str]:
    if b"gainmap" in purpose.lower():
        return ["gain map"]
    if b"depth" in purpose.lower() or purpose == b"urn:mpeg:hevc:2015:auxid:2":
        return ["depth map"]
    return ["auxiliary image"] if purpose and purpose not in ALPHA else []


def boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields name and body of each box."""
    at = 0
    while at + 8 <= len(content):
        size, head = int.from_bytes(content[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        size = len(content) - at if size == 0 else size
        if size < head:
            return
        yield content[at + 4 : at + 8], content[at + head : at + size]
        at += size


def _kinds(iinf: bytes) -> dict[int, tuple[bytes, bytes]]:
    """Returns each item's type, and of the type `mime` its content's."""
    kinds = {}
    for name, body in boxes(iinf[6 if iinf[:1] == b"\0" else 8 :]):
        if name == b"infe" and body[:1] >= b"\2" and len(kinds) < MAX_ITEMS:
            wide = 4 if body[0] > 2 else 2
            item, rest = int.from_bytes(body[4 : 4 + wide], "big"), body[6 + wide :]
            words = rest[4:].split(b"\0")
            kinds[item] = rest[:4], words[1] if len(words) > 1 else b""
    return kinds


def _properties(iprp: bytes) -> dict[int, Properties]:
    """Returns those of each item."""
    inside = dict(boxes(iprp))
    known = list(boxes(inside.get(b"ipco", b"")))
    ipma = inside.get(b"ipma", b"")
    if len(ipma) < 8:
        return {}
    wide, large, at = (4 if ipma[0] else 2), ipma[3] & 1, 8
    properties: dict[int, Properties] = {}
    for _ in range(min(int.from_bytes(ipma[4:8], "big"), MAX_ITEMS)):
        item, count = int.from_bytes(ipma[at : at + wide], "big"), ipma[at + wide : at + wide + 1]
        at += wide + 1
        each = properties.setdefault(item, Properties())
        for _ in range(count[0] if count else 0):
            size = 2 if large else 1
            number = int.from_bytes(ipma[at : at + size], "big") & (0x7FFF if large else 0x7F)
            at += size
            if 0 < number <= len(known):
                _note(each, *known[number - 1])
    return properties


def _note(properties: Properties, name: bytes, body: bytes) -> None:
    """Takes down one property."""
    if name == b"ispe" and len(body) >= 12:
        properties.size = int.from_bytes(body[4:8], "big"), int.from_bytes(body[8:12], "big")
    elif name == b"pixi" and len(body) > 5:
        properties.bits = max(body[5:])
    elif name == b"av1C" and len(body) > 2 and not properties.bits:
        properties.bits = (8, 8, 10, 12)[body[2] >> 5 & 3]
    elif name == b"hvcC" and len(body) > 17 and not properties.bits:
        properties.bits = (body[17] & 7) + 8
    elif name == b"colr" and body[:4] == b"nclx" and len(body) >= 8:
        properties.nclx = int.from_bytes(body[4:6], "big"), int.from_bytes(body[6:8], "big")
    elif name == b"colr" and body[:4] in (b"prof", b"rICC"):
        properties.icc = body[4:]
    elif name in (b"irot", b"imir"):
        properties.turned |= name == b"imir" or bool(body[:1] and body[0] & 3)
    elif name == b"auxC":
        properties.purpose = body[4:].split(b"\0")[0]


def _contents(iloc: bytes, idat: bytes, content: bytes) -> dict[int, bytes]:
    """Returns each item's bytes."""
    contents: dict[int, bytes] = {}
    if len(iloc) < 8:
        return contents
    version, sizes, at = iloc[0], (iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15), 6

    def take(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(iloc[at - size : at], "big")

    wide = 4 if version > 1 else 2
    for _ in range(min(take(wide), MAX_ITEMS)):
        item, method = take(wide), take(2) & 15 if version else 0
        take(2)
        base, body = take(sizes[2]), b""
        source = idat if method == 1 else content
        for _ in range(min(take(2), MAX_ITEMS)):
            take(sizes[3] if version else 0)
            start, length = base + take(sizes[0]), take(sizes[1])
            body += source[start : start + length] if length else b""
        if method < 2:
            contents[item] = body
    return contents
