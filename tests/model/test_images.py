"""Image files: every value that goes in comes out, in 8 bits and in 16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.images.raster import ImageError, RasterImage, to_array
from devudp_model.images.reading import read_image
from devudp_model.images.writing import write_image
from tests.model.image_files import (
    LOSSLESS,
    MODES,
    image_of,
    random_pixels,
    write_deep_png,
    write_deep_tiff,
)

# --- 8 bits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("format", LOSSLESS)
def test_every_value_comes_back(tmp_path: Path, mode: str, format: str) -> None:
    pixels = random_pixels(mode)
    image_of(pixels).save(tmp_path / "in.png")
    image = read_image(tmp_path / "in.png")
    channels = 1 if mode.startswith("L") else 3
    assert image.pixels.shape == (1, channels, 7, 9)
    assert image.pixels.dtype == torch.float32
    assert (image.alpha is not None) == mode.endswith("A")
    assert image.bits == 8
    expected = torch.from_numpy(pixels).permute(2, 0, 1)[None, :channels] / 255
    torch.testing.assert_close(image.pixels, expected)
    write_image(tmp_path / "out", image, format)
    with Image.open(tmp_path / "out") as back:
        assert (back.mode, back.format) == (mode, format.upper())
        assert np.array_equal(np.asarray(back).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("format", ["jpeg", "webp", "bmp"])
def test_other_formats(tmp_path: Path, format: str) -> None:
    smooth = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)
    image_of(smooth).save(tmp_path / "in.png")
    write_image(tmp_path / "out", read_image(tmp_path / "in.png"), format)
    back = read_image(tmp_path / "out")
    assert np.abs(to_array(back, np.uint8).astype(int) - smooth).max() <= 10
    with Image.open(tmp_path / "out") as image:
        assert image.format == format.upper()


def test_rounding_is_to_the_nearest() -> None:
    pixels = torch.tensor([-0.1, 0.4, 0.6, 254.6, 300]).reshape(1, 1, 1, 5) / 255
    assert to_array(RasterImage(pixels), np.uint8).ravel().tolist() == [0, 0, 1, 255, 255]


def test_one_bit_and_palette(tmp_path: Path) -> None:
    bits = np.indices((5, 6)).sum(0) % 2 > 0
    Image.fromarray(bits).save(tmp_path / "bits.png")
    image = read_image(tmp_path / "bits.png")
    assert torch.equal(image.pixels[0, 0], torch.from_numpy(bits).float())

    rgba = random_pixels("RGBA", size=(4, 4))
    rgba[..., 3] = np.where(rgba[..., 3] > 127, 255, 0)
    palette = image_of(rgba[..., :3].copy()).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "palette.png")
    image = read_image(tmp_path / "palette.png")
    assert np.array_equal(to_array(image, np.uint8), np.asarray(palette.convert("RGB")))
    assert image.alpha is None
    palette.save(tmp_path / "transparent.png", transparency=0)
    image = read_image(tmp_path / "transparent.png")
    with Image.open(tmp_path / "transparent.png") as opened:
        assert np.array_equal(to_array(image, np.uint8), np.asarray(opened.convert("RGBA")))
    assert image.alpha is not None and image.alpha.min() == 0


def test_cmyk_becomes_rgb_without_its_profile(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    image.save(tmp_path / "in.jpg", icc_profile=b"\0" * 16 + b"CMYK" + b"\0" * 200, quality=100)
    image = read_image(tmp_path / "in.jpg")
    assert image.pixels.shape[1] == 3
    assert image.pixels[0, :, 4, 4].tolist() == pytest.approx([1, 0, 0], abs=0.02)
    assert image.metadata.icc == b""


@pytest.mark.parametrize("size", [(1, 1), (10, 20_000)])
def test_extreme_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = random_pixels("RGB", size=size)
    image_of(pixels).save(tmp_path / "in.png")
    write_image(tmp_path / "out.png", read_image(tmp_path / "in.png"))
    with Image.open(tmp_path / "out.png") as back:
        assert np.array_equal(np.asarray(back), pixels)


# --- 16 bits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("source", LOSSLESS)
@pytest.mark.parametrize("target", LOSSLESS)
def test_sixteen_bits_come_back(tmp_path: Path, mode: str, source: str, target: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = random_pixels(mode, np.uint16)
    (write_deep_png if source == "png" else write_deep_tiff)(tmp_path / "in", pixels)
    image = read_image(tmp_path / "in")
    assert image.bits == 16
    assert image.pixels.shape == (1, 1 if mode.startswith("L") else 3, 7, 9)
    assert (image.alpha is not None) == mode.endswith("A")
    assert np.array_equal(to_array(image, np.uint16), pixels)
    write_image(tmp_path / "out", image, target)
    assert np.array_equal(to_array(read_image(tmp_path / "out"), np.uint16), pixels)
    if target == "tiff":
        assert np.array_equal(tifffile.imread(tmp_path / "out").reshape(pixels.shape), pixels)
    else:
        assert (tmp_path / "out").read_bytes()[24] == 16
        with Image.open(tmp_path / "out") as back:
            back.verify()


def test_float_tiff(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0).random((5, 6, 3), np.float32)
    write_deep_tiff(tmp_path / "in.tif", values)
    image = read_image(tmp_path / "in.tif")
    assert image.bits == 16
    seen = image.pixels[0].permute(1, 2, 0).numpy()
    srgb = np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)
    assert np.abs(seen - srgb).max() < 1 / 65535, "linear light, by convention"
    write_image(tmp_path / "out.tif", image, "tiff")
    assert np.abs(tifffile.imread(tmp_path / "out.tif") - values).max() < 1e-6


def test_float_tiff_above_white(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a screen cannot show stays in the file; other formats cannot hold it: that is said."""
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0).random((5, 6, 3), np.float32) * 3
    write_deep_tiff(tmp_path / "in.tif", values)
    image = read_image(tmp_path / "in.tif")
    assert image.pixels.max() == 1
    write_image(tmp_path / "out.tif", image, "tiff")
    assert np.abs(tifffile.imread(tmp_path / "out.tif") - values).max() < 1e-6
    assert not caplog.records
    write_image(tmp_path / "out.png", image, "png")
    assert "converted to sRGB, without its light above white" in caplog.text
    write_deep_tiff(tmp_path / "nan.tif", np.where(values > 2.9, np.nan, values))
    with pytest.raises(ImageError, match="NaN or infinite"):
        read_image(tmp_path / "nan.tif")


def test_eight_bit_formats_warn_of_the_loss(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = RasterImage(torch.rand(1, 3, 4, 4), bits=16)
    write_image(tmp_path / "out.jpg", image, "jpeg")
    assert "png and tiff keep 16" in caplog.text


def test_gif_that_does_not_move(tmp_path: Path) -> None:
    Image.new("RGB", (9, 7), (0, 0, 255)).save(tmp_path / "still.gif")
    assert read_image(tmp_path / "still.gif").pixels[0, :, 3, 3].tolist() == [0, 0, 1]


def test_thumbnail_in_a_tiff_does_not_count(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = random_pixels("RGB", size=(32, 32))
    with tifffile.TiffWriter(tmp_path / "in.tif") as tiff:
        tiff.write(pixels, photometric="rgb")
        tiff.write(pixels[::4, ::4], photometric="rgb", subfiletype=1)
    assert np.array_equal(to_array(read_image(tmp_path / "in.tif"), np.uint8), pixels)


def test_float_grey_above_white(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((5, 6, 1), np.float32) * 3
    write_deep_tiff(tmp_path / "in.tif", values)
    image = read_image(tmp_path / "in.tif")
    write_image(tmp_path / "out.tif", image, "tiff")
    again = read_image(tmp_path / "out.tif")
    assert again.origin is not None
    assert np.abs(again.origin.pixels[0, 0].numpy() - values[..., 0]).max() < 1e-6
