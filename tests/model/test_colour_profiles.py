"""Colour profiles of grey, with tables, and damaged ones."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from devudp_model.images import colour
from devudp_model.images.littlecms import by_library
from devudp_model.images.reading import read_image, read_stored
from devudp_model.images.writing import write_image
from tests.model import colour_files as made
from tests.model import test_colour as T
from tests.model.image_files import image_of, write_deep_tiff


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_profiles(tmp_path: Path, dtype: type) -> None:
    most = np.iinfo(dtype).max
    ramp = np.linspace(0, most, 256).astype(dtype)[None].repeat(4, 0)[..., None]
    icc = made.profile("grey", (), made.LINEAR)
    if dtype == np.uint8:
        image_of(ramp).save(tmp_path / "in.png", icc_profile=icc)
    else:
        write_deep_tiff(tmp_path / "in.png", ramp, iccprofile=icc)
    image = read_image(tmp_path / "in.png")
    expected = made.encoded(ramp[0, :, 0] / most)
    assert np.abs(image.pixels[0, 0, 0].numpy() - expected).max() < 1e-4
    write_image(tmp_path / "out", image, "png" if dtype == np.uint8 else "tiff")
    back = read_stored(tmp_path / "out")
    assert back.origin is not None
    assert np.array_equal(back.origin.pixels[0, 0].numpy(), ramp[..., 0])


def array(image: torch.Tensor) -> np.ndarray:
    """1,3,H,W uint16 to H,W,3 in [0, 1]."""
    return image[0].permute(1, 2, 0).numpy() / 65535


@pytest.mark.parametrize("with_vips", [True, False])
def test_profiles_with_tables_go_through_the_library(
    monkeypatch: pytest.MonkeyPatch, with_vips: bool
) -> None:
    """By libvips in 16 bits and by Pillow in 8; compared on one that has a matrix, too."""
    if with_vips:
        pytest.importorskip("pyvips")
    else:
        monkeypatch.setitem(sys.modules, "pyvips", None)
    icc = made.profile("P3", made.P3, made.SRGB_CURVE)
    exact = colour.space_of_icc(icc, 3)
    assert exact is not None
    table = dataclasses.replace(exact, table=lambda x, back: by_library(icc, "P3", x, back))
    photo = T.sixteen(T.photograph(1.0))
    stored = torch.from_numpy(photo).permute(2, 0, 1)[None]
    first, second = (colour.to_srgb(stored, space) for space in (exact, table))
    assert made.difference(array(first), array(second)).mean() < 1
    assert T.alike(colour.from_srgb(second, stored, table), stored)


def test_a_damaged_profile_is_said_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    icc = made.profile("P3", made.P3, made.SRGB_CURVE)
    for number, cut in enumerate((icc[:150], icc[:128] + b"\xff" * 200)):
        image_of(T.eight(T.photograph())).save(tmp_path / f"{number}.png", icc_profile=cut)
        image = read_image(tmp_path / f"{number}.png")
        assert image.origin is None and image.metadata.icc == b""
        write_image(tmp_path / f"out{number}.png", image)
        assert f"out{number}.png: its colour profile is damaged and not kept" in caplog.text


def test_a_profile_for_other_pixels_is_said_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as RGB's in an image that a program has made grey."""
    icc = made.profile("P3", made.P3, made.SRGB_CURVE)
    image_of(T.eight(T.photograph())[:, :, :1]).save(tmp_path / "a.png", icc_profile=icc)
    image = read_image(tmp_path / "a.png")
    write_image(tmp_path / "out.png", image)
    assert image.metadata.icc == b""
    assert "out.png: its colour profile is for other pixels (RGB), not kept" in caplog.text
