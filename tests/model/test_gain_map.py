"""Gain maps stay with JPEG photographs, in every spelling; nothing names one that is not there."""

from __future__ import annotations

import dataclasses
import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.images import gain_map
from devudp_model.images.raster import RasterImage
from devudp_model.images.reading import read_stored
from devudp_model.images.writing import write_image
from tests.model.image_files import camera_exif

HDRGM = b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
OF_MAP = (
    HDRGM + b'hdrgm:GainMapMax="2.5" hdrgm:HDRCapacityMax="2.5" hdrgm:BaseRenditionIsHDR="False"'
)
CONTAINER = (
    b'<Container:Directory xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    b'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"><rdf:Seq>'
    b'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" '
    b'Item:Mime="image/jpeg"/></rdf:li><rdf:li rdf:parseType="Resource"><Container:Item '
    b'Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="%d"/></rdf:li></rdf:Seq>'
    b"</Container:Directory>"
)
APPLE = (
    b'xmlns:HDRGainMap="http://ns.apple.com/HDRGainMap/1.0/" HDRGainMap:HDRGainMapVersion="65536"'
)
ISO = b"urn:iso:std:iso:ts:21496:-1\0"
ISO_OF_MAP = ISO + bytes.fromhex("0000000040") + struct.pack(
    ">14I", 0, 1, 5, 2, 0, 1, 5, 2, 1, 1, 1, 64, 1, 64
)  # fmt: skip
"""Version, one channel; headroom of the image 0, of the map's 2.5; minimum, maximum, gamma, two
offsets."""


def packet(attributes: bytes, inside: bytes = b"") -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4" ' + attributes + b">" + inside
    ) + b"</rdf:Description></rdf:RDF></x:xmpmeta>"


def segment(number: int, content: bytes) -> bytes:
    return bytes([0xFF, 0xE0 + number]) + struct.pack(">H", len(content) + 2) + content


def corner(size: tuple[int, int]) -> Image.Image:
    """Grey, white in the upper left corner."""
    width, height = size
    pixels = np.full((height, width), 40, np.uint8)
    pixels[: height // 4, : width // 4] = 250
    return Image.fromarray(pixels)


def jpeg(image: Image.Image, *segments: bytes, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, **options)
    content = stream.getvalue()
    return content[:20] + b"".join(segments) + content[20:]  # behind JFIF


def photograph(kind: str, orientation: int = 1, tail: bytes = b"") -> bytes:
    """A JPEG file of 64x48 with a map of 16x12."""
    own = {"android": packet(OF_MAP), "other prefix": packet(OF_MAP.replace(b"hdrgm", b"ns9"))}
    own |= {"android and iso": packet(OF_MAP), "apple": packet(APPLE)}
    iso = kind in ("iso", "android and iso")
    options = {"xmp": own[kind]} if kind in own and kind != "other prefix" else {}
    if kind == "other prefix":
        options = {"xmp": own["android"]}
    second = jpeg(corner((16, 12)), *([segment(2, ISO_OF_MAP)] if iso else []), **options)
    described = {
        "android": packet(HDRGM, CONTAINER % len(second)),
        "android and iso": packet(HDRGM, CONTAINER % len(second)),
        "other prefix": packet(
            HDRGM.replace(b"hdrgm", b"ns9"),
            (CONTAINER % len(second)).replace(b"Container:", b"c1:").replace(b":Container", b":c1"),
        ),
        "apple": packet(APPLE),
        "iso": packet(b""),
    }[kind]
    main = corner((64, 48)).convert("RGB")
    version = [segment(2, ISO + bytes(4))] if iso else []
    exif = camera_exif(orientation).tobytes()
    first = jpeg(main, *version, segment(2, index(0, 0, 0)), xmp=described, exif=exif)
    block = first.index(b"MPF\0") + 4
    entry = segment(2, index(len(first), len(second), len(first) - block))
    return first.replace(segment(2, index(0, 0, 0)), entry) + second + tail


def index(first: int, second: int, offset: int) -> bytes:
    """The list of a file's images (CIPA DC-007), big-endian as cameras have it."""
    tags = struct.pack(">HHI4s", 0xB000, 7, 4, b"0100") + struct.pack(">HHII", 0xB001, 4, 1, 2)
    tags += struct.pack(">HHII", 0xB002, 7, 32, 50)
    places = struct.pack(">IIIHH", 0x030000, first, 0, 0, 0)
    places += struct.pack(">IIIHH", 0, second, offset, 0, 0)
    return b"MPF\0MM\0*" + struct.pack(">IH", 8, 3) + tags + bytes(4) + places


def brighter(image: RasterImage) -> RasterImage:
    pixels = (image.pixels.float() * 1.02).clamp(0, 255).to(torch.uint8)
    return dataclasses.replace(image, pixels=pixels)


def rewritten(folder: Path, content: bytes, suffix: str = "jpg", format: str = "jpeg") -> bytes:
    (folder / "a.jpg").write_bytes(content)
    write_image(folder / f"b.{suffix}", brighter(read_stored(folder / "a.jpg")), format)
    return (folder / f"b.{suffix}").read_bytes()


def second_image(content: bytes) -> bytes:
    """What the list of images points to."""
    block = content.index(b"MPF\0") + 4
    order = "<" if content[block : block + 2] == b"II" else ">"
    _, size, offset = struct.unpack_from(f"{order}III", content, block + 50 + 16)
    _, first = struct.unpack_from(f"{order}II", content, block + 50)
    found = content[block + offset : block + offset + size]
    assert found[:2] == b"\xff\xd8" and found[-2:] == b"\xff\xd9" and first == block + offset
    return found


KINDS = ["android", "iso", "android and iso", "apple", "other prefix"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_stays(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    before = photograph(kind)
    after = rewritten(tmp_path, before)
    assert second_image(after) == second_image(before), "byte for byte"
    assert after.endswith(second_image(after)) and not caplog.records
    main = after[: -len(second_image(after))]
    assert (ISO in main) == ("iso" in kind)
    assert (b"HDRGainMapVersion" in main) == (kind == "apple")
    assert b'xmp:Rating="4"' in main and b"ns9:" not in main and b"c1:" not in main
    named = kind in ("android", "android and iso", "other prefix")
    length = b'Item:Length="%d"' % len(second_image(after))
    assert (main.count(b"hdrgm:Version"), main.count(length)) == ((1, 1) if named else (0, 0))
    again = read_stored(tmp_path / "b.jpg").metadata.gain_map
    assert again is not None and again.in_xmp == named


@pytest.mark.parametrize("kind", ["android", "iso"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_map_is_turned_with_its_image(tmp_path: Path, kind: str, orientation: int) -> None:
    before = photograph(kind, orientation)
    after = rewritten(tmp_path, before)
    images = [Image.open(io.BytesIO(each)) for each in (after, second_image(after))]
    bright = [np.argwhere(np.asarray(image.convert("L")) > 150).mean(0) for image in images]
    shares = [place / image.size[::-1] for place, image in zip(bright, images, strict=True)]
    assert np.abs(shares[0] - shares[1]).max() < 0.05
    assert (images[1].size == (12, 16)) == (orientation > 4)
    own = second_image(after)
    assert (OF_MAP in own) if kind == "android" else (ISO_OF_MAP in own)


@pytest.mark.parametrize("kind", ["android", "iso", "android and iso"])
def test_another_reader_finds_the_map(tmp_path: Path, kind: str) -> None:
    """libultrahdr, in libvips."""
    pyvips = pytest.importorskip("pyvips")
    if not pyvips.type_find("VipsOperation", "uhdrload"):
        pytest.skip("this libvips knows no gain maps")
    found = []
    for path, orientation in (("a.jpg", 1), ("b.jpg", 1), ("c.jpg", 6)):
        content = photograph(kind, orientation)
        (tmp_path / path).write_bytes(content if path == "a.jpg" else rewritten(tmp_path, content))
        image = pyvips.Image.uhdrload(str(tmp_path / path))
        names = [n for n in image.get_fields() if n.startswith("gainmap-") and n[8:] != "data"]
        found.append({name: image.get(name) for name in names})
        assert image.get("gainmap-data")
    assert found[0] == found[1] == found[2] and found[0]["gainmap-hdr-capacity-max"] > 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["png", "tiff", "webp"])
def test_where_it_cannot_be_nothing_names_it(
    tmp_path: Path, kind: str, format: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = rewritten(tmp_path, photograph(kind), format, format)
    assert f"{format.upper()} cannot hold its gain map" in caplog.text
    for word in (b"hdrgm:", b"ns9:", b"GainMap", b"Container:Item", b"c1:Item", ISO):
        assert word not in content or (kind == "apple" and word == b"GainMap")
    assert b'xmp:Rating="4"' in content


def test_a_video_behind_the_map_goes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    motion = b' GCamera:MotionPhoto="1" OpCamera:MotionPhotoOwner="oplus" OpCamera:VideoLength="9"'
    content = photograph("android", tail=b"\0\0\0\x18ftypmp42".ljust(3000, b"\0"))
    old = segment(1, b"http://ns.adobe.com/xap/1.0/\0" + described(content))
    new = segment(1, b"http://ns.adobe.com/xap/1.0/\0" + described(content, motion))
    content = content.replace(old, new)
    block = content.index(b"MPF\0") + 4
    second = struct.unpack_from(">I", content, block + 50 + 20)[0]
    first = content.index(b"\xff\xd8", block + 100)
    entry = index(first, second, first - block)
    content = content[: block - 4] + entry + content[block - 4 + len(entry) :]
    after = rewritten(tmp_path, content)
    assert second_image(after) == content[first : first + second]
    assert b"MotionPhoto" not in after and b"ftyp" not in after
    assert "the file's video is not kept, and its XMP no longer says so" in caplog.text


def described(content: bytes, more: bytes = b"") -> bytes:
    start = content.index(b"<x:xmpmeta")
    whole = content[start : content.index(b"</x:xmpmeta>") + 12]
    return whole.replace(b' xmp:Rating="4"', b' xmp:Rating="4"' + more)


def test_another_image_is_no_map(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = corner((64, 48)).convert("RGB")
    image.save(tmp_path / "m.jpg", "MPO", save_all=True, append_images=[image])
    after = rewritten(tmp_path, (tmp_path / "m.jpg").read_bytes())
    assert b"MPF\0" not in after and "the file's second image is not kept" in caplog.text


@pytest.mark.parametrize("at", [0, 40, 60])
def test_a_damaged_list_or_map_is_none(
    tmp_path: Path, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    content = bytearray(photograph("android"))
    block = content.index(b"MPF\0") + 4
    content[block + at : block + at + 24] = b"\xff" * 24
    after = rewritten(tmp_path, bytes(content))
    assert b"hdrgm" not in after and b"Container:Item" not in after
    assert "gain map is not kept" in caplog.text
    cut = photograph("android")[:-200]
    assert gain_map.find(io.BytesIO(cut)) is None


def test_a_map_that_claims_to_be_larger_than_its_image_is_left_out(tmp_path: Path) -> None:
    content = bytearray(photograph("iso"))
    at = content.rindex(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 60000, 60000)
    assert b"MPF\0" not in rewritten(tmp_path, bytes(content))
