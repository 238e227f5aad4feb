"""Image files that lie, lack parts, or are no files at all: refused, or warned of."""

from __future__ import annotations

import logging
import os
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.images.raster import ImageError, RasterImage, to_array
from devudp_model.images.reading import read_image
from devudp_model.images.writing import write_image
from devudp_model.system import untrusted
from tests.model.image_files import (
    SRGB,
    camera_exif,
    png_chunk,
    random_pixels,
    write_deep_png,
)

tifffile = pytest.importorskip("tifffile")


def smooth(size: int = 128, dtype: type = np.uint8) -> np.ndarray:
    ramp = np.linspace(1, np.iinfo(dtype).max, size * size * 3).reshape(size, size, 3)
    return ramp.astype(dtype)


# --- parts that are missing -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("keep", [0.4, 0.99])
def test_a_truncated_tiff(
    tmp_path: Path, dtype: type, tile: tuple[int, int] | None, bigtiff: bool, keep: float
) -> None:
    pixels = (random_pixels("RGB", np.uint16, (128, 128)) / 65535).astype(np.float32)
    pixels = pixels if dtype is np.float32 else (pixels * np.iinfo(dtype).max).astype(dtype)
    layout = {"tile": tile} if tile else {"rowsperstrip": 8}
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", bigtiff=bigtiff, **layout)
    read_image(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ImageError, match=r"a\.tif is (damaged|not an image)"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_that_lists_fewer_strips_than_it_needs(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, smooth(64, dtype), photometric="rgb", rowsperstrip=8)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for name in ("StripOffsets", "StripByteCounts"):
            at = tiff.pages[0].tags[name].offset  # pyright: ignore
            content[at + 4 : at + 8] = struct.pack("<I", 3)
    path.write_bytes(content)
    with pytest.raises(ImageError, match="holds 3 of 8 parts"):
        read_image(path)


def test_damage_that_the_jpeg_decoder_tells_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jpg"
    noisy = (smooth() // 2 + random_pixels("RGB", size=(128, 128)) // 2).astype(np.uint8)
    Image.fromarray(noisy).save(path, quality=90)
    read_image(path)
    assert not caplog.records
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 6] = b"\xff\xd3\xff\xd3\xff\xd5"
    path.write_bytes(content)
    read_image(path)
    assert "a.jpg is damaged, and so the result will be" in caplog.text
    assert "Corrupt JPEG data" in caplog.text


@pytest.mark.parametrize("name", ["JPEG", "MPO"])
def test_damage_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """No result is promised of what cannot be read; a camera's two images are looked at, too."""
    path = tmp_path / "a.jpg"
    noisy = random_pixels("RGB", size=(128, 128))
    more = {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]} if name == "MPO" else {}
    Image.fromarray(noisy).save(path, name, quality=90, **more)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(ImageError, match="is damaged"):
        read_image(path)
    assert not caplog.records
    middle = len(content) // 2
    content[middle : middle + 6] = b"\xff\xd3\xff\xd3\xff\xd5"
    path.write_bytes(content)
    read_image(path)
    assert "a.jpg is damaged, and so the result will be" in caplog.text


# --- what claims too much -------------------------------------------------------------------------


def claiming(path: Path, width: int, height: int) -> Path:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = png_chunk(b"IDAT", zlib.compress(b"\0" * 100))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + rows)
    return path


def test_a_tiny_file_that_claims_a_large_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    path = claiming(tmp_path / "a.png", 22_000, 22_000)
    with pytest.raises(ImageError, match=r"22000x22000 pixels.*13\.1GB.*--file-memory 14GB"):
        read_image(path)
    monkeypatch.setenv(untrusted.MEMORY_VARIABLE, str(10**6))
    with pytest.raises(ImageError, match=r"the limit is 0\.001GB\."):
        read_image(claiming(tmp_path / "b.png", 300, 200))
    monkeypatch.delenv(untrusted.MEMORY_VARIABLE)
    with pytest.raises(ImageError, match="damaged"):
        read_image(tmp_path / "b.png")


@pytest.mark.slow
def test_a_jpeg_too_small_for_its_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), 5).save(tmp_path / "a.jpg")
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 5000, 5000)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match="bytes cannot hold 5000x5000 pixels"):
        read_image(tmp_path / "a.jpg")
    for progressive in (True, False):  # the smallest there are
        flat = Image.new("L", (5000, 5000), 128)
        flat.save(tmp_path / "b.jpg", quality=1, optimize=True, progressive=progressive)
        assert read_image(tmp_path / "b.jpg").pixels.shape == (1, 1, 5000, 5000)


def test_the_limit_follows_the_memory_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(random_pixels("RGB", size=(300, 300))).save(tmp_path / "a.png")
    monkeypatch.setattr("devudp_model.system.memory.free_bytes", lambda _: 10**6)
    with pytest.raises(ImageError, match=r"300x300.*half of the 0\.001GB that are free"):
        read_image(tmp_path / "a.png")
    monkeypatch.setenv(untrusted.MEMORY_VARIABLE, str(10**9))
    read_image(tmp_path / "a.png")


def test_a_tiff_that_claims_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, smooth(30, np.uint16), photometric="rgb")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[0].tags["ImageWidth"].offset  # pyright: ignore
    content[at + 8 : at + 12] = struct.pack("<I", 16_056_360)
    path.write_bytes(content)
    with pytest.raises(ImageError, match="16056360x30 pixels"):
        read_image(path)


@pytest.mark.slow
def test_sixty_thousand_pages(tmp_path: Path) -> None:
    first = b"II*\0" + struct.pack("<I", 8)
    pages = b"".join(
        struct.pack("<H", 2)
        + struct.pack("<HHII", 256, 4, 1, 8)
        + struct.pack("<HHII", 257, 4, 1, 8)
        + struct.pack("<I", 8 + 30 * (number + 1))
        for number in range(60_000)
    )
    (tmp_path / "a.tif").write_bytes(first + pages[:-4] + bytes(4))
    start = time.monotonic()
    with pytest.raises(ImageError):
        read_image(tmp_path / "a.tif")
    assert time.monotonic() - start < 5
    small = Image.new("L", (8, 8))
    small.save(tmp_path / "b.tif", save_all=True, append_images=[small] * 1500)
    start = time.monotonic()
    with pytest.raises(ImageError, match="holds 1001 images"):
        read_image(tmp_path / "b.tif")
    assert time.monotonic() - start < 5


def test_directories_in_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.new("L", (8, 8), 7).save(path)
    content = bytearray(path.read_bytes())
    start = int.from_bytes(content[4:8], "little")
    count = int.from_bytes(content[start : start + 2], "little")
    after = start + 2 + 12 * count
    content[after : after + 4] = struct.pack("<I", start)
    path.write_bytes(content)
    assert read_image(path).pixels.shape == (1, 1, 8, 8)


# --- what is no image file ------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.png is not a regular file.*Copy its content"):
        read_image(tmp_path / "a.png")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("a.png")
    with pytest.raises(ImageError, match=r"a\.png cannot be read: Too many levels"):
        read_image(tmp_path / "a.png")


# --- sound files ----------------------------------------------------------------------------------


def test_what_is_only_unsupported_is_not_called_damaged(tmp_path: Path) -> None:
    planes = np.moveaxis(smooth(64, np.uint16), 2, 0)
    tifffile.imwrite(
        tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", tile=(32, 32)
    )
    with pytest.raises(ImageError, match=r"not supported \(planar, tiled\)") as refused:
        read_image(tmp_path / "a.tif")
    assert "damaged" not in str(refused.value)
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png", icc_profile=os.urandom(1_500_000))
    with pytest.raises(ImageError, match="profile or text of more than 1 MB") as refused:
        read_image(tmp_path / "b.png")
    assert "damaged" not in str(refused.value)


@pytest.mark.parametrize("name", ["a[page=7].tif", "b[n=-1,x].tif", "c\udcff.tif"])
def test_a_name_is_no_option_of_the_library(tmp_path: Path, name: str) -> None:
    if "\udcff" in name and sys.platform in ("win32", "darwin"):
        pytest.skip("names are Unicode there")
    write_image(tmp_path / name, RasterImage(torch.rand(1, 3, 8, 8), bits=16), "tiff")
    assert read_image(tmp_path / name).bits == 16


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("target", ["png", "tiff", "jpeg", "webp"])
def test_exif_of_a_bigtiff(tmp_path: Path, dtype: type, target: str) -> None:
    path, out = tmp_path / "a.tif", tmp_path / "out"
    tags = [(315, "s", 0, "an artist", True), (33432, "s", 0, "(c) me", True)]
    tifffile.imwrite(
        path, smooth(16, dtype), photometric="rgb", bigtiff=True, extratags=tags, metadata=None
    )
    write_image(out, read_image(path), target)
    again = read_image(out)
    with Image.open(out) as image:
        assert (image.getexif()[315], image.getexif()[33432]) == ("an artist", "(c) me")
    assert again.metadata.exif


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_layout_that_pillow_cannot_read_keeps_its_bits(tmp_path: Path, dtype: type) -> None:
    path, bits = tmp_path / "a.tif", np.dtype(dtype).itemsize * 8
    tifffile.imwrite(path, smooth(16, dtype), photometric="rgb", bigtiff=True, byteorder=">")
    image = read_image(path)
    write_image(tmp_path / "out.tif", image, "tiff")
    assert image.bits == bits and read_image(tmp_path / "out.tif").bits == bits
    assert tifffile.imread(tmp_path / "out.tif").dtype == dtype


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_exif_of_sixteen_bits_in_tiff(tmp_path: Path, mode: str) -> None:
    """Tags, and the directories of the camera and of the place; the pixels stay as they are."""
    pixels = random_pixels(mode, np.uint16)
    exif = camera_exif(6).tobytes().removeprefix(b"Exif\0\0")
    profile = png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(SRGB))
    write_deep_png(tmp_path / "a.png", pixels, profile, png_chunk(b"eXIf", exif))
    write_image(tmp_path / "a.tif", read_image(tmp_path / "a.png"), "tiff")
    with (tmp_path / "a.tif").open("rb") as file:  # of grey with alpha Pillow reads no pixels
        tags = Image.Exif()
        tags.load_from_fp(file)
        assert (tags[0x010E], tags[0x8298], tags[0x0112]) == ("a description", "(c) me", 1)
        assert tags.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
        assert tags.get_ifd(0x8825)[1] == "N"
    again = read_image(tmp_path / "a.tif")
    assert np.array_equal(to_array(again, np.uint16), np.rot90(pixels, -1))
    assert np.array_equal(
        tifffile.imread(tmp_path / "a.tif").reshape(9, 7, -1), np.rot90(pixels, -1)
    )
    write_image(tmp_path / "b.tif", again, "tiff")
    assert read_image(tmp_path / "b.tif").metadata == again.metadata


def test_nothing_is_said_of_sound_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for name in ("a.png", "a.jpg", "a.webp", "a.tif", "a.bmp", "a.gif"):
            Image.fromarray(smooth()).save(tmp_path / name)
            read_image(tmp_path / name)
    assert not caplog.records


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_ycbcr_in_tiff(tmp_path: Path, compression: str | None) -> None:
    """Pillow writes it without compression, and calls it truncated when it reads it."""
    image = Image.new("YCbCr", (48, 32), (90, 160, 60))
    image.save(tmp_path / "a.tif", compression=compression)
    if compression is None:
        with pytest.raises(ImageError, match=r"a\.tif is stored in a way .*YCbCr.*Save it again"):
            read_image(tmp_path / "a.tif")
        return
    expected = np.asarray(image.convert("RGB"))
    found = read_image(tmp_path / "a.tif").pixels[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(found - expected).max() <= 3


def test_ycbcr_that_libvips_would_take_for_rgb(tmp_path: Path) -> None:
    pixels = np.full((32, 48, 3), (90, 160, 60), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, pixels, photometric="ycbcr", compression="lzw", bigtiff=True, byteorder=">",
        subsampling=(1, 1),
    )  # fmt: skip
    with pytest.raises(ImageError, match="YCbCr that is no JPEG"):
        read_image(path)
