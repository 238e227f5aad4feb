"""XMP packets: what they say of the file around the image is corrected, or taken out.

A phone's packet names a gain map, a depth map or a video that lies behind the image in the same
file. A result has none of these, and a packet that still names them misleads what opens it.
"""

from __future__ import annotations

import re

PARTS = {
    b"hdrgm": "gain map",
    b"HDRGainMap": "gain map",
    b"Container": "list of further parts",
    b"GDepth": "depth map",
    b"GImage": "second image",
    b"GAudio": "sound",
}
"""Prefixes of namespaces of which everything goes, and what a file with them holds beside the
image."""

ADDRESSES = {
    b"http://ns.adobe.com/hdr-gain-map/1.0/": b"hdrgm",
    b"http://ns.apple.com/HDRGainMap/1.0/": b"HDRGainMap",
    b"http://ns.google.com/photos/1.0/container/": b"Container",
    b"http://ns.google.com/photos/dd/1.0/container/": b"Container",
    b"http://ns.google.com/photos/1.0/container/item/": b"Item",
    b"http://ns.google.com/photos/dd/1.0/item/": b"Item",
    b"http://ns.google.com/photos/1.0/camera/": b"GCamera",
    b"http://ns.google.com/photos/1.0/depthmap/": b"GDepth",
    b"http://ns.google.com/photos/1.0/image/": b"GImage",
    b"http://ns.google.com/photos/1.0/audio/": b"GAudio",
    b"http://ns.adobe.com/xmp/note/": b"xmpNote",
}
"""Of the namespaces, by which they are known whatever their prefix; then the usual one."""

VIDEO = rb"\w+:(?:MotionPhoto|MicroVideo|OLivePhoto)\w*"
"""Properties of the video behind a motion photo, in any maker's namespace."""

SINGLE = {VIDEO: "video", rb"xmpNote:HasExtendedXMP": "extended XMP"}
"""Properties that go; others of their namespaces stay."""

REGIONS = (b"mwg-rs:", b"MPReg:", b"apple-fi:")
"""Places in the image, such as faces."""

NAME = rb"[\w.-]+"


def upright(xmp: bytes) -> bytes:
    """Returns the packet with its orientation, if it has one, set to 1."""
    return re.sub(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))\d", rb"\g<1>1", xmp)


def with_size(xmp: bytes, size: tuple[int, int]) -> bytes:
    """Returns the packet with width and height, where it states them, corrected."""
    for names, value in zip(
        (rb"tiff:ImageWidth|exif:PixelXDimension", rb"tiff:ImageLength|exif:PixelYDimension"),
        size,
        strict=True,
    ):
        pattern = rb"((?:" + names + rb")(?:\s*=\s*[\"']|>))\d+"
        xmp = re.sub(pattern, rb"\g<1>%d" % value, xmp)
    return xmp


def without_parts(xmp: bytes, keep: tuple[bytes, ...] = ()) -> tuple[bytes, list[str]]:
    """Takes out what names further parts of the file; returns the rest, and the parts' names.

    Args:
        xmp: the packet.
        keep: namespaces that stay, by their usual prefix.
    """
    parts: list[str] = []
    xmp = _with_usual_prefixes(xmp)
    for prefix in (each for each in PARTS if each not in keep):
        if re.search(rb"[<\s]" + prefix + rb":", xmp):
            parts.append(PARTS[prefix])
            xmp = _without(xmp, re.escape(prefix) + rb":" + NAME)
            xmp = _without_declaration(xmp, prefix)
    for name, part in SINGLE.items():
        if re.search(rb"[<\s]" + name + rb"\b", xmp):
            parts.append(part)
            xmp = _without(xmp, name)
    found = list(dict.fromkeys(parts))
    if len(found) > 1 and PARTS[b"Container"] in found:
        found.remove(PARTS[b"Container"])
    return xmp, found


def _with_usual_prefixes(xmp: bytes) -> bytes:
    """With the namespaces of `ADDRESSES` under their usual prefix."""
    for prefix, address in set(re.findall(rb"xmlns:(\w+)\s*=\s*[\"']([^\"']*)[\"']", xmp)):
        usual = ADDRESSES.get(address)
        if usual is not None and prefix != usual:
            xmp = re.sub(rb"(?<=[<\s/])" + prefix + rb":(?=[\w])", usual + b":", xmp)
            xmp = re.sub(rb"xmlns:" + prefix + rb"(?=\s*=)", b"xmlns:" + usual, xmp)
    return xmp


def _without(xmp: bytes, name: bytes) -> bytes:
    """Without attributes and elements (with all in them) of a name."""
    xmp = re.sub(rb"\s+" + name + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')", b"", xmp)
    xmp = re.sub(rb"<(" + name + rb")(?:\s[^<>]*)?/>", b"", xmp)
    while True:
        start = re.search(rb"<(" + name + rb")(?:\s[^<>]*)?>", xmp)
        if start is None:
            return xmp
        end = xmp.find(b"</" + start[1] + b">", start.end())
        if end < 0:
            return xmp
        xmp = xmp[: start.start()] + xmp[end + len(start[1]) + 3 :]


def _without_declaration(xmp: bytes, prefix: bytes) -> bytes:
    """Without the declaration of a namespace of which nothing is left."""
    if re.search(rb"[<\s/]" + prefix + rb":", xmp):
        return xmp
    return re.sub(rb"\s+xmlns:" + prefix + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')", b"", xmp)
