"""What image files hold beside the image: profile, EXIF, XMP, texts, and how it is turned."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from devudp_model.images.raster import to_array
from devudp_model.images.reading import read_image
from devudp_model.images.writing import write_image
from tests.model.image_files import (
    LOSSLESS,
    SRGB,
    XMP,
    camera_exif,
    image_of,
    png_chunk,
    random_pixels,
    write_deep_png,
)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_metadata_are_kept(tmp_path: Path, format: str) -> None:
    image_of(random_pixels("RGB")).save(
        tmp_path / "in.jpg",
        icc_profile=SRGB,
        exif=camera_exif(),
        xmp=XMP % 1,
        dpi=(300, 200),
        comment=b"a comment",
    )
    write_image(tmp_path / "out", read_image(tmp_path / "in.jpg"), format)
    with Image.open(tmp_path / "out") as back:
        back.load()
        assert back.info["icc_profile"] == SRGB
        exif = back.getexif()
        assert exif[0x010E] == "a description"
        assert exif[0x8298] == "(c) me"
        assert exif.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
        assert exif.get_ifd(0x8825)[1] == "N"
        xmp = back.info.get("xmp") or back.info["XML:com.adobe.xmp"].encode()
        assert xmp.strip(b"\0") == XMP % 1
        if format != "webp":
            assert back.info["dpi"] == pytest.approx((300, 200), abs=0.1)
        if format == "png":
            assert back.info["Comment"] == "a comment"
    assert read_image(tmp_path / "out").metadata.xmp == XMP % 1


def test_png_text_is_kept(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", '{"nodes": []}')
    text.add_itxt("Titel", "schön 写真")
    image_of(random_pixels("RGB")).save(tmp_path / "in.png", pnginfo=text)
    write_image(tmp_path / "out.png", read_image(tmp_path / "in.png"))
    with Image.open(tmp_path / "out.png") as back:
        assert back.text == {  # pyright: ignore[reportAttributeAccessIssue]
            "workflow": '{"nodes": []}',
            "Titel": "schön 写真",
        }


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1, 5), (5, 1), (1, 1)])
def test_a_single_row_or_column_is_turned(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    pixels = random_pixels("RGB", size=size)
    image_of(pixels).save(tmp_path / "in.png", exif=camera_exif(orientation))
    with Image.open(tmp_path / "in.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(to_array(read_image(tmp_path / "in.png"), np.uint8), expected)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_reset(tmp_path: Path, orientation: int, suffix: str) -> None:
    """As Pillow's own function turns it; and not turned a second time by whoever reads it next."""
    corner = np.zeros((16, 24, 3), np.uint8)
    corner[:8, :8], corner[:8, -8:] = 255, (255, 0, 0)
    source, target = tmp_path / f"in.{suffix}", tmp_path / "out.png"
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    exif = camera_exif(orientation)
    if suffix != "tif":
        options["xmp"] = XMP % orientation
    image_of(corner).save(source, exif=exif, **options)
    if suffix == "png":  # Pillow writes XMP into PNG in another way
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", (XMP % orientation).decode())
        image_of(corner).save(source, exif=exif, pnginfo=text)
    with Image.open(source) as image:
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    image = read_image(source)
    assert np.array_equal(to_array(image, np.uint8), expected)
    write_image(target, image)
    with Image.open(target) as back:
        assert back.getexif().get(0x0112, 1) == 1
        assert (
            b'Orientation="%d"' % orientation not in back.info.get("XML:com.adobe.xmp", "").encode()
            or orientation == 1
        )
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(back)), expected)


def test_metadata_of_sixteen_bits(tmp_path: Path) -> None:
    exif = camera_exif(6).tobytes().removeprefix(b"Exif\0\0")
    pixels = random_pixels("RGB", np.uint16)
    profile = b"profile\0\0" + zlib.compress(SRGB)
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % 6
    write_deep_png(
        tmp_path / "in.png",
        pixels,
        png_chunk(b"iCCP", profile),
        png_chunk(b"pHYs", struct.pack(">IIB", 11811, 7874, 1)),
        png_chunk(b"eXIf", exif),
        png_chunk(b"iTXt", xmp),
        png_chunk(b"iTXt", "workflow\0\0\0\0\0写真".encode()),
    )
    image = read_image(tmp_path / "in.png")
    assert np.array_equal(to_array(image, np.uint16), np.rot90(pixels, -1))
    for format in LOSSLESS:
        write_image(tmp_path / "out", image, format)
        back = read_image(tmp_path / "out")
        assert np.array_equal(to_array(back, np.uint16), np.rot90(pixels, -1)), "turned twice"
        assert back.metadata.icc == SRGB
        assert back.metadata.xmp == XMP % 1
        assert back.metadata.dpi == pytest.approx((300, 200), abs=0.1)
        if format == "png":
            assert back.metadata == image.metadata
            with Image.open(tmp_path / "out") as opened:
                assert opened.getexif()[0x8298] == "(c) me"
                assert opened.getexif().get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"


def test_metadata_too_large_for_jpeg(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "x" * 70_000)
    image_of(random_pixels("RGB")).save(tmp_path / "in.png", pnginfo=text)
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "in.png"), "jpeg")
    assert "JPEG cannot hold its XMP of more than 64 KiB" in caplog.text
    assert read_image(tmp_path / "out.jpg").metadata.xmp == b""


@pytest.mark.parametrize("channels", [4, 5, 6])
def test_channels_without_a_meaning_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, channels: int
) -> None:
    """Masks that an editor saves beside the colours, infrared."""
    tifffile = pytest.importorskip("tifffile")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, channels), np.uint8)
    extra = ["unspecified"] * (channels - 3)
    tifffile.imwrite(tmp_path / "in.tif", pixels, photometric="rgb", extrasamples=extra)
    image = read_image(tmp_path / "in.tif")
    assert np.array_equal(to_array(image, np.uint8), pixels[:, :, :3])
    write_image(tmp_path / "out.tif", image, "tiff")
    assert "its further channels, of which nothing is said, are not kept" in caplog.text


def test_a_comment_of_an_older_program(tmp_path: Path) -> None:
    """Is in the letters of its time, and not made unreadable."""
    Image.new("RGB", (9, 9)).save(tmp_path / "in.jpg", comment="Hälfte".encode("latin-1"))
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "in.jpg"), "jpeg")
    with Image.open(tmp_path / "out.jpg") as back:
        assert back.info["comment"] == "Hälfte".encode()
