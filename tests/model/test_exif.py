"""EXIF stays as it lies in the file; XMP, IPTC and the parts of a file beside its image."""

from __future__ import annotations

import dataclasses
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from devudp_model.images import exif, iptc, xmp
from devudp_model.images.reading import read_image
from devudp_model.images.writing import write_image
from tests.model import exif_files
from tests.model.image_files import image_of, random_pixels

IPTC = b"\x1c\x02\x78\x00\x10A winter evening\x1c\x02\x19\x00\x07harbour"


def segment(number: int, content: bytes) -> bytes:
    return bytes([0xFF, 0xE0 + number]) + struct.pack(">H", len(content) + 2) + content


def jpeg(*segments: bytes, **options: object) -> bytes:
    stream = io.BytesIO()
    image_of(random_pixels("RGB", size=(24, 32))).save(stream, "JPEG", **options)
    content = stream.getvalue()
    return content[:2] + b"".join(segments) + content[2:]


def resources(*pairs: tuple[int, bytes]) -> bytes:
    """Photoshop's."""
    return b"".join(
        b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)
        for number, data in pairs
    )


def exif_in(path: Path) -> bytes:
    with Image.open(path) as image:
        found = image.info["exif"]
    return b"Exif\0\0" + found.removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "avif"])
def test_the_block_stays_where_it_lies(tmp_path: Path, order: str, format: str) -> None:
    """But for orientation, size and thumbnail; so a maker's note names the right places."""
    before, _, note = exif_files.block(order)
    (tmp_path / "in.jpg").write_bytes(jpeg(exif=before))
    write_image(tmp_path / "out", read_image(tmp_path / "in.jpg"), format)
    after = exif_in(tmp_path / "out")
    assert len(after) < len(before) - 500, "the thumbnail is cut out"
    assert exif_files.thumbnail()[:100] not in after
    place = 6 + note
    assert after[place : place + 14] == b"Canon EOS Test"
    changed = [at for at in range(len(after)) if after[at] != before[at]]
    assert len(changed) <= (30 if format == "avif" else 8)
    with Image.open(tmp_path / "out") as image:
        tags = image.getexif()
        assert tags.get(0x0112, 1) == 1
        inner = tags.get_ifd(0x8769)
        assert (inner[0xA002], inner[0xA003]) == image.size == (24, 32)
        assert inner[0x9003] == "2024:05:06 07:08:09" and 0x0201 not in tags.get_ifd(1)


def test_a_block_that_needs_nothing_is_the_same(tmp_path: Path) -> None:
    before, _, _ = exif_files.block(orientation=1, size=(32, 24), small=False)
    (tmp_path / "in.jpg").write_bytes(jpeg(exif=before))
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "in.jpg"), "jpeg")
    assert exif_in(tmp_path / "out.jpg") == before


def test_a_size_that_needs_more_room() -> None:
    before, _, _ = exif_files.block()
    after = exif.Block(exif.patched(before, (70_000, 3)))
    camera = after.camera()
    assert camera is not None
    assert after.value(camera, exif.PIXEL_WIDTH) == 70_000
    assert after.value(camera, exif.PIXEL_HEIGHT) == 3


@pytest.mark.parametrize("cut", range(0, 260, 7))
def test_damaged_blocks(cut: int) -> None:
    """Never another error, never a longer block."""
    before, _, _ = exif_files.block()
    rng = np.random.default_rng(cut)
    for damaged in (before[:cut], before[:20] + rng.bytes(cut) + before[20 + cut :]):
        try:
            after = exif.patched(damaged, (3, 4))
        except ValueError:
            assert len(damaged) < 14 or damaged[6:10] not in (b"II*\0", b"MM\0*")
            continue
        assert len(after) <= len(damaged) + 16
        exif.without_orientation(after)
        exif.camera_says(after, exif.MAKER_NOTE)


def test_directories_in_a_circle() -> None:
    before, _, _ = exif_files.block(small=False)
    block = bytearray(before)
    entry = exif.Block(before).find(8, exif.EXIF_DIRECTORY)
    assert entry is not None
    block[6 + entry.at + 8 : 6 + entry.at + 12] = struct.pack("<I", 8)
    exif.patched(bytes(block), (3, 4))


@pytest.mark.parametrize("format", ["jpeg", "png", "tiff"])
def test_iptc_is_carried(tmp_path: Path, format: str) -> None:
    app13 = segment(13, iptc.PHOTOSHOP + resources((1061, b"digest"), (0x0404, IPTC)))
    (tmp_path / "in.jpg").write_bytes(jpeg(app13))
    image = read_image(tmp_path / "in.jpg")
    assert image.metadata.iptc == IPTC
    write_image(tmp_path / "out", image, format)
    assert read_image(tmp_path / "out").metadata.iptc == IPTC
    write_image(tmp_path / "again.jpg", read_image(tmp_path / "out"), "jpeg")
    with Image.open(tmp_path / "again.jpg") as back:
        assert back.info["photoshop"][0x0404] == IPTC


def test_iptc_of_tiff() -> None:
    whole = IPTC + bytes(-len(IPTC) % 4)
    for order in ("<", ">"):
        longs = struct.unpack(f"{order}{len(whole) // 4}I", whole)
        assert iptc.of_tiff_tags(struct.pack(f"<{len(longs)}I", *longs), b"") == whole
    assert iptc.of_tiff_tags(b"", resources((1005, b"x"), (0x0404, IPTC))) == IPTC
    assert iptc.of_tiff_tags(b"nothing", b"nothing") == b""
    assert iptc.of_png_text(iptc.as_png_text(IPTC)) == IPTC
    assert iptc.of_png_text("\niptc\n 9\nzz") == b""
    by_exiftool = iptc.as_png_text(IPTC).replace("iptc", "IPTC profile")
    assert iptc.of_png_text(by_exiftool) == IPTC


def test_makers_segments_stay_in_jpeg(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = segment(3, b"Meta\0\0what a camera says")
    app13 = segment(13, iptc.PHOTOSHOP + resources((1061, b"digest"), (0x040C, b"small")))
    (tmp_path / "in.jpg").write_bytes(jpeg(own, app13, segment(11, b"JP..c2pa")))
    image = read_image(tmp_path / "in.jpg")
    write_image(tmp_path / "out.jpg", image, "jpeg")
    content = (tmp_path / "out.jpg").read_bytes()
    assert own in content and b"digest" in content
    assert b"small" not in content and b"c2pa" not in content
    assert caplog.messages == [
        f"{tmp_path / 'out.jpg'}: the file's content credentials (C2PA) is not kept."
    ]
    write_image(tmp_path / "out.png", image, "png")
    assert "PNG cannot hold its Photoshop's settings and maker's further segments" in caplog.text


GAIN = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description xmp:Rating="4" '
    b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
    b'GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="5000" GCamera:BurstID="7">'
    b"<Container:Directory><rdf:Seq><rdf:li><Container:Item Item:Semantic='GainMap'/></rdf:li>"
    b"</rdf:Seq></Container:Directory><dc:title>a title</dc:title>"
    b"<HDRGainMap:HDRGainMapVersion>65536</HDRGainMap:HDRGainMapVersion>"
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def test_xmp_no_longer_names_what_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "in.jpg").write_bytes(jpeg(xmp=GAIN))
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "in.jpg"), "jpeg")
    [said] = caplog.messages
    assert "gain map and video are not kept, and its XMP no longer says so" in said
    with Image.open(tmp_path / "out.jpg") as image:
        left = image.info["xmp"]
    for gone in (b"hdrgm:V", b"Container:", b"MotionPhoto", b"MicroVideo", b"HDRGainMap", b"Item:"):
        assert gone not in left
    for kept in (b'xmp:Rating="4"', b"<dc:title>a title</dc:title>", b'GCamera:BurstID="7"'):
        assert kept in left
    assert xmp.without_parts(left) == (left, [])


@pytest.mark.parametrize("kind", ["iso", "mpo", "extended"])
def test_parts_without_a_word_in_xmp(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path / "in.jpg"
    if kind == "iso":
        path.write_bytes(jpeg(segment(2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4))))
    elif kind == "mpo":
        first, second = (image_of(random_pixels("RGB", size=(24, 32))) for _ in range(2))
        first.save(path, "MPO", save_all=True, append_images=[second])
    else:
        path.write_bytes(jpeg(segment(1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40))))
    write_image(tmp_path / "out.jpg", read_image(path), "jpeg")
    expected = {"iso": "gain map", "mpo": "second image", "extended": "extended XMP"}[kind]
    assert caplog.messages == [f"{tmp_path / 'out.jpg'}: the file's {expected} is not kept."]


def test_sizes_and_places_in_xmp(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    packet = b'<x tiff:ImageWidth="32" tiff:ImageLength="24" tiff:Orientation="6">'
    packet += b"<exif:PixelXDimension>32</exif:PixelXDimension><mwg-rs:Regions/></x>"
    before, _, _ = exif_files.block(small=False)
    (tmp_path / "in.jpg").write_bytes(jpeg(exif=before, xmp=packet))
    image = read_image(tmp_path / "in.jpg")
    assert b'ImageWidth="24" tiff:ImageLength="32" tiff:Orientation="1"' in image.metadata.xmp
    assert b"<exif:PixelXDimension>24<" in image.metadata.xmp
    write_image(tmp_path / "out.jpg", image, "jpeg")
    assert "places in the image (faces) that its XMP names are for it unturned" in caplog.text


def test_makers_notes_that_move_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Into TIFF they keep their place if the byte order is the usual one."""
    for order, moves in (("<", False), (">", True)):
        before, _, note = exif_files.block(order)
        (tmp_path / "in.jpg").write_bytes(jpeg(exif=before))
        image = read_image(tmp_path / "in.jpg")
        for bits in (8, 16):
            caplog.clear()
            write_image(tmp_path / "out.tif", dataclasses.replace(image, bits=bits), "tiff")
            assert ("maker's note may be wrong" in caplog.text) == moves
            content = (tmp_path / "out.tif").read_bytes()
            assert (content[note : note + 14] == b"Canon EOS Test") != moves
            back = read_image(tmp_path / "out.tif")
            assert (back.pixels - image.pixels).abs().max() < 1e-4
            assert b"2024:05:06" in back.metadata.exif and b"Canon" in back.metadata.exif
            assert back.bits == bits


def test_adobe_rgb_by_exif(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A camera's mark, without a profile: kept in JPEG; elsewhere it goes with the numbers."""
    before, _, _ = exif_files.block(orientation=1, small=False, index=b"R03\0")
    assert exif.is_adobe_rgb(before) and not exif.is_adobe_rgb(exif_files.block()[0])
    (tmp_path / "in.jpg").write_bytes(jpeg(exif=before, quality=95))
    image = read_image(tmp_path / "in.jpg")
    assert image.origin is not None and image.origin.space.name == "Adobe RGB"
    write_image(tmp_path / "out.jpg", image, "jpeg")
    assert exif_in(tmp_path / "out.jpg") == before and not caplog.records
    write_image(tmp_path / "out.png", image)
    assert "its colours (Adobe RGB) are converted to sRGB" in caplog.text
    with Image.open(tmp_path / "out.png") as back:
        tags = back.getexif()
        assert tags.get_ifd(0x8769)[0xA001] == 1 and tags.get_ifd(0xA005)[1] == "R98"
    assert read_image(tmp_path / "out.png").origin is None


def test_data_behind_the_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Editors' own, such as AFCP; padding is none."""
    (tmp_path / "padded.jpg").write_bytes(jpeg() + bytes(100))
    (tmp_path / "more.jpg").write_bytes(jpeg() + b"an editor's own" + bytes(10))
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "padded.jpg"), "jpeg")
    assert not caplog.records
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "more.jpg"), "jpeg")
    assert "the file's further data behind the image is not kept" in caplog.text


def test_tags_of_tiff_and_segments_of_thermal_cameras(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tifffile = pytest.importorskip("tifffile")
    tags = [(33550, 12, 3, (1.0, 2.0, 0.0), True), (50000, 3, 1, 7, True)]
    tifffile.imwrite(
        tmp_path / "in.tif", random_pixels("RGB"), photometric="rgb", extratags=tags, metadata=None
    )
    write_image(tmp_path / "out.tif", read_image(tmp_path / "in.tif"), "tiff")
    with Image.open(tmp_path / "out.tif") as image:
        assert image.getexif()[33550] == (1.0, 2.0, 0.0)
    assert "its own TIFF tags (50000) are not kept" in caplog.text
    own = segment(1, b"FLIR\0heat")
    (tmp_path / "in.jpg").write_bytes(jpeg(own))
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "in.jpg"), "jpeg")
    assert own in (tmp_path / "out.jpg").read_bytes()
