"""Colours: the network sees sRGB whatever the file's space is, and the result goes back there."""

from __future__ import annotations

import dataclasses
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from devudp_model.images import colour
from devudp_model.images.raster import ImageError, RasterImage, to_array
from devudp_model.images.reading import read_image, read_stored
from devudp_model.images.writing import write_image
from tests.model import colour_files as made
from tests.model.image_files import image_of, png_chunk, write_deep_png, write_deep_tiff

ROOT = Path(__file__).parents[2]


def photograph(light: float = 1.0) -> np.ndarray:
    """H,W,3 sRGB in [0, 1]."""
    with Image.open(ROOT / "samples/dark_coffee.jpg") as image:
        # Smooth, so that what lossy formats do is little beside what a wrong space would do.
        small = np.asarray(image.convert("RGB").resize((24, 18)).resize((96, 72)))
    pixels = small / 255
    return made.encoded(made.linear(pixels) * light * 0.2 / made.linear(pixels).mean())


def sixteen(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 65535 + 0.5).astype(np.uint16)


def eight(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def tensor(photo: np.ndarray) -> torch.Tensor:
    """H,W,3 to 1,3,H,W."""
    return torch.from_numpy(photo).permute(2, 0, 1)[None].float()


def alike(first: torch.Tensor, second: torch.Tensor) -> bool:
    """To the bit; older versions of torch cannot compare uint16."""
    return np.array_equal(first.numpy(), second.numpy())


def write_srgb(path: Path, photo: np.ndarray) -> None:
    write_deep_tiff(path, sixteen(photo))


def write_with(columns: tuple, curve: bytes, encode: Callable[[np.ndarray], np.ndarray]):
    def write(path: Path, photo: np.ndarray) -> None:
        numbers = encode(np.clip(made.into(made.linear(photo), columns), 0, 1))
        write_deep_tiff(path, sixteen(numbers), iccprofile=made.profile("own", columns, curve))

    return write


def write_float(kind: type):
    def write(path: Path, photo: np.ndarray) -> None:
        write_deep_tiff(path, made.linear(photo).astype(kind))

    return write


def write_png(chunks: list[bytes], columns: tuple, encode: Callable[[np.ndarray], np.ndarray]):
    def write(path: Path, photo: np.ndarray) -> None:
        numbers = encode(np.clip(made.into(made.linear(photo), columns), 0, 1))
        write_deep_png(path, sixteen(numbers), *chunks)

    return write


def cicp(primaries: int, transfer: int) -> bytes:
    return png_chunk(b"cICP", bytes([primaries, transfer, 0, 1]))


def pq(light: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084 of light whose white is 203 candela."""
    power = (light * 203 / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


BT2020 = ((0.67348, 0.27904, -0.00194), (0.16567, 0.67535, 0.02998), (0.12505, 0.04561, 0.7969))
SPACES = {
    "sRGB": write_srgb,
    "P3": write_with(made.P3, made.SRGB_CURVE, made.encoded),
    "Adobe RGB": write_with(made.ADOBE, made.gamma(563 / 256), lambda x: x ** (256 / 563)),
    "ProPhoto": write_with(made.PROPHOTO, made.gamma(1.80078125), lambda x: x ** (1 / 1.80078125)),
    "linear": write_with(made.SRGB, made.LINEAR, lambda x: x),
    "linear ProPhoto": write_with(made.PROPHOTO, made.LINEAR, lambda x: x),
    "float": write_float(np.float32),
    "half": write_float(np.float16),
    "gAMA": write_png([png_chunk(b"gAMA", struct.pack(">I", 100_000))], made.SRGB, lambda x: x),
    "cICP P3": write_png([cicp(12, 13)], made.P3, made.encoded),
    "cICP PQ": write_png([cicp(9, 16)], BT2020, pq),
}


@pytest.mark.parametrize("light", [0.3, 1.0])
@pytest.mark.parametrize("space", SPACES)
def test_one_photograph_is_seen_alike_in_all_spaces(
    tmp_path: Path, space: str, light: float
) -> None:
    pytest.importorskip("tifffile")
    photo = photograph(light)
    SPACES[space](tmp_path / "in", photo)
    seen = read_image(tmp_path / "in").pixels[0].permute(1, 2, 0).double().numpy()
    assert made.difference(seen, photo).max() < 0.5


@pytest.mark.parametrize("space", SPACES)
def test_a_result_goes_back_into_the_files_space(tmp_path: Path, space: str) -> None:
    """As every reader sees it; and what is not changed stays what it was, to the bit."""
    pytest.importorskip("tifffile")
    photo, brighter = photograph(0.3), photograph(1.0)
    SPACES[space](tmp_path / "in", photo)
    image = read_stored(tmp_path / "in")
    format = "png" if (tmp_path / "in").read_bytes()[:4] == b"\x89PNG" else "tiff"
    write_image(tmp_path / "same", image, format)
    again = read_stored(tmp_path / "same")
    before, after = (each.origin or each for each in (image, again))
    assert alike(before.pixels, after.pixels)
    for said in ("icc", "chunks"):
        assert getattr(again.metadata, said) == getattr(image.metadata, said)
    assert (image.origin is None) == (space == "sRGB")

    restored = tensor(brighter)
    write_image(tmp_path / "out", dataclasses.replace(image, pixels=restored), format)
    back = read_image(tmp_path / "out")
    seen = back.pixels[0].permute(1, 2, 0).double().numpy()
    assert made.difference(seen, brighter).max() < 2
    assert (back.origin is None) == (space == "sRGB"), "in the space of its file"


@pytest.mark.parametrize("columns", [made.P3, made.PROPHOTO])
def test_colours_beyond_srgb_stay(tmp_path: Path, columns: tuple) -> None:
    """A saturated green of the space is not pulled into sRGB."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 1] = 200
    icc = made.profile("wide", columns, made.SRGB_CURVE)
    image_of(pixels).save(tmp_path / "in.png", icc_profile=icc)
    image = read_image(tmp_path / "in.png")
    write_image(tmp_path / "out.png", image)
    with Image.open(tmp_path / "out.png") as back:
        assert np.array_equal(np.asarray(back), pixels)
        assert back.info["icc_profile"] == icc


def test_sixteen_bits_have_no_bands(tmp_path: Path) -> None:
    """A dark ramp in linear light: as many steps come out as go in, none twice as large."""
    pytest.importorskip("tifffile")
    ramp = np.linspace(0, 0.05, 2000)[None, :, None].repeat(4, 0).repeat(3, 2)
    write_deep_tiff(
        tmp_path / "in.tif", sixteen(ramp), iccprofile=made.profile("l", made.SRGB, made.LINEAR)
    )
    image = read_image(tmp_path / "in.tif")
    seen = image.pixels[0, 1, 0].numpy()
    expected = made.encoded(sixteen(ramp)[0, :, 1] / 65535)
    assert np.abs(seen - expected).max() <= 1 / 65535
    brighter = (image.pixels * 1.5).clamp(0, 1)
    write_image(tmp_path / "out.tif", dataclasses.replace(image, pixels=brighter), "tiff")
    again = read_image(tmp_path / "out.tif").pixels[0, 1, 0]
    assert again.diff().min() >= 0
    # A step of 16-bit linear light is 13 of sRGB's where that is steepest.
    assert (again - brighter[0, 1, 0]).abs().max() < 14 / 65535


@pytest.mark.parametrize(
    ("format", "said"),
    [("png", ""), ("jpeg", ""), ("webp", ""), ("tiff", ""), ("bmp", "converted to sRGB")],
)
def test_a_profile_is_kept_or_the_colours_converted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, format: str, said: str
) -> None:
    icc = made.profile("P3", made.P3, made.SRGB_CURVE)
    photo = photograph(1.0)
    numbers = made.encoded(np.clip(made.into(made.linear(photo), made.P3), 0, 1))
    image_of(eight(numbers)).save(tmp_path / "in.png", icc_profile=icc)
    write_image(tmp_path / "out", read_image(tmp_path / "in.png"), format)
    with Image.open(tmp_path / "out") as back:
        assert back.info.get("icc_profile") == (None if said else icc)
    assert (said in caplog.text) if said else not caplog.records
    # As far from it as the same in sRGB, which some formats blur.
    write_image(tmp_path / "srgb", RasterImage(tensor(photo)), format)
    found = [
        made.difference(made.read_srgb(tmp_path / n) / 255, photo).mean() for n in ("out", "srgb")
    ]
    assert found[0] < found[1] + 0.5


def test_hdr_is_never_relabelled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """PQ stays PQ in PNG, and becomes sRGB, in numbers too, where it cannot be named."""
    SPACES["cICP PQ"](tmp_path / "in.png", photograph(1.0))
    image = read_image(tmp_path / "in.png")
    write_image(tmp_path / "out.png", image)
    assert cicp(9, 16) in (tmp_path / "out.png").read_bytes()
    write_image(tmp_path / "out.jpg", image, "jpeg")
    assert "BT.2020 PQ) are converted to sRGB" in caplog.text
    difference = made.difference(made.read_srgb(tmp_path / "out.jpg") / 255, photograph(1.0))
    assert difference.mean() < 2


def test_hlg_there_and_back() -> None:
    space = colour.space_of_cicp(9, 18)
    assert space is not None and space.hdr
    stored = torch.rand(1, 3, 40, 40).mul(65535).to(torch.int32).to(torch.uint16)
    seen = colour.to_srgb(stored, space)
    assert alike(colour.from_srgb(seen, stored, space), stored)
    grey = torch.full((1, 3, 1, 1), 0.75).mul(65535).round().to(torch.int32).to(torch.uint16)
    white = colour.to_srgb(grey, space)[0, :, 0, 0].int()
    assert (white > 65000).all(), "75 % of HLG is white (ITU-R BT.2408)"


def test_unknown_numbers_are_refused(tmp_path: Path) -> None:
    write_deep_png(tmp_path / "in.png", sixteen(photograph()), cicp(22, 11))
    with pytest.raises(ImageError, match=r"in\.png has colours that cannot be converted"):
        read_image(tmp_path / "in.png")


def test_what_is_srgb_is_not_touched(tmp_path: Path) -> None:
    """However it is said: no result of such a file may change."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, icc in (("a", srgb), ("b", made.profile("s", made.SRGB, made.SRGB_CURVE))):
        image_of(pixels).save(tmp_path / f"{name}.png", icc_profile=icc)
        image = read_stored(tmp_path / f"{name}.png")
        assert image.origin is None and np.array_equal(to_array(image, np.uint8), pixels)
        assert image.metadata.icc == icc
    chunks = (
        cicp(1, 13),
        png_chunk(b"sRGB", b"\0"),
        png_chunk(b"gAMA", struct.pack(">I", 45455)),
    )
    for chunk in chunks:
        write_deep_png(tmp_path / "c.png", pixels.astype(np.uint16) * 257, chunk)
        image = read_stored(tmp_path / "c.png")
        assert image.origin is None
        write_image(tmp_path / "d.png", image)
        assert chunk in (tmp_path / "d.png").read_bytes()


def test_other_pixels_than_the_files_are_written_as_srgb(tmp_path: Path) -> None:
    """Of another size, there is nothing that they could be put back into."""
    icc = made.profile("P3", made.P3, made.SRGB_CURVE)
    image_of(eight(photograph())).save(tmp_path / "in.png", icc_profile=icc)
    image = read_image(tmp_path / "in.png")
    small = dataclasses.replace(image, pixels=image.pixels[..., ::2, ::2])
    write_image(tmp_path / "out.png", small)
    with Image.open(tmp_path / "out.png") as back:
        assert "icc_profile" not in back.info
        expected = to_array(RasterImage(small.pixels), np.uint8)
        assert np.array_equal(np.asarray(back), expected)


def test_a_sheet_shows_what_is_seen(tmp_path: Path) -> None:
    from devudp_model.batch.restore_files import write_sheet

    icc = made.profile("linear", made.SRGB, made.LINEAR)
    photo = photograph(1.0)
    image_of(eight(made.linear(photo))).save(tmp_path / "in.png", icc_profile=icc)
    image = read_stored(tmp_path / "in.png")
    write_sheet(tmp_path / "sheet.jpg", image, image)
    with Image.open(io.BytesIO((tmp_path / "sheet.jpg").read_bytes())) as sheet:
        assert "icc_profile" not in sheet.info
        left = np.asarray(sheet)[:, :96] / 255
    assert made.difference(left, photo).mean() < 2
