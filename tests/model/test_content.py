"""What counts of an image: hidden pixels and frames do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from devudp_model.ops.dtypes import from_unit
from devudp_model.restoring.content import Region, content_of, within_frames

from .engine_network import random_image


def photo(height: int = 60, width: int = 80) -> Tensor:
    return 0.1 + 0.8 * random_image(1, 3, height, width)


def framed(inner: Tensor, colour: float | Tensor, margins: tuple[int, int, int, int]) -> Tensor:
    """`inner` with margins at the top, bottom, left and right."""
    top, bottom, left, right = margins
    height, width = inner.shape[2] + top + bottom, inner.shape[3] + left + right
    image = torch.zeros(len(inner), inner.shape[1], height, width) + colour
    image[..., top : height - bottom, left : width - right] = inner
    return image


@pytest.mark.parametrize("colour", [0.0, 1.0, torch.tensor([0.2, 0.5, 0.4]).view(1, 3, 1, 1)])
@pytest.mark.parametrize(
    "margins",
    [(9, 9, 0, 0), (0, 0, 12, 12), (1, 1, 1, 1), (4, 30, 4, 4), (0, 7, 0, 0), (30, 0, 2, 9)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.uint16])
def test_frames_are_found_to_the_pixel(
    colour: float | Tensor, margins: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    inner = photo()
    image = from_unit(framed(inner, colour, margins), dtype)
    found = content_of(image)
    top, _, left, _ = margins
    assert found is not None and found.weights is None
    assert found.region == Region(top, top + 60, left, left + 80)
    assert found.image.data_ptr() == found.region.of(image).data_ptr()  # a view


def test_frames_within_frames_and_such_with_a_little_noise() -> None:
    noise = 2 / 255 * random_image(1, 3, 96, 116, seed=3)
    image = framed(framed(photo(), 0.0, (8, 8, 8, 8)), 1.0, (10, 10, 10, 10))
    assert within_frames((image + noise).clamp(0, 1)) == Region(18, 78, 18, 98)


def test_a_frame_that_was_compressed_ends_in_lines_of_ringing() -> None:
    image = framed(photo(), 0.0, (20, 20, 0, 0))
    image[:, :, 16:20] = 0.05 * random_image(1, 3, 4, 80, seed=2)
    assert within_frames(image) == Region(20, 80, 0, 80)


def test_dark_places_at_the_border_are_no_frame() -> None:
    """A night sky ends in roofs and in noise, not in a straight edge."""
    height = 40 + 15 * torch.sin(torch.linspace(0, 9, 80))
    image = photo() * (torch.arange(60.0)[:, None] > height)
    assert within_frames(image).is_whole(image)
    fading = photo() * torch.linspace(0, 1, 60)[:, None] ** 4  # a vignette
    assert within_frames(fading).top <= 1 and within_frames(fading).bottom == 60
    assert within_frames(torch.zeros(1, 3, 60, 80)).is_whole(image)
    small = framed(photo(20, 20), 0.0, (30, 30, 30, 30))  # a lamp in the night
    assert within_frames(small).is_whole(small)


def test_the_frames_of_a_video_have_one_region() -> None:
    bars = (10, 10, 0, 0)
    bright, dark = framed(photo(), 0.0, bars), framed(photo() * 0.01, 0.0, bars)
    black = torch.zeros_like(bright)
    assert within_frames(torch.cat([black, dark, bright])) == Region(10, 70, 0, 80)
    titled = bright.clone()
    titled[:, :, 75:78, 30:50] = 0.9
    assert within_frames(torch.cat([bright, titled])) == Region(10, 80, 0, 80)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.uint16])
def test_hidden_pixels_count_as_the_mean_of_what_is_seen(dtype: torch.dtype) -> None:
    alpha = torch.zeros(1, 1, 60, 80)
    alpha[:, :, 10:50, 20:60] = 1
    alpha[:, :, 20:30, 30:40] = 0  # a hole
    alpha[:, :, 10:20, 20:30] = 0.5
    shown = None
    for colour in (0.0, 1.0, random_image(1, 3, 60, 80, seed=5)):
        mixed = torch.where(alpha > 0, photo(), colour)
        found = content_of(from_unit(torch.cat([mixed, alpha], 1), dtype))
        assert found is not None and found.weights is not None
        assert found.region == Region(10, 50, 20, 60)
        shown = found.image.clone() if shown is None else shown
        assert torch.equal(shown, found.image)
    expected = (photo() * alpha).sum((2, 3)) / alpha.sum()
    step = 0.6 / {torch.float32: 1e5, torch.uint8: 255, torch.uint16: 65535}[dtype]
    largest = 1 if dtype == torch.float32 else torch.iinfo(dtype).max
    filled = shown[0, :, 15, 15].float() / largest
    torch.testing.assert_close(filled, expected[0], rtol=0, atol=step)


def test_opaque_and_empty_images() -> None:
    image = torch.cat([photo(), torch.ones(1, 1, 60, 80)], 1)
    found = content_of(image)
    assert found is not None and found.weights is None and found.image.shape == (1, 3, 60, 80)
    image[:, 3] = 0
    assert content_of(image) is None
