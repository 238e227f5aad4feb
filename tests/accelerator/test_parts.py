"""Parts that take another way on an accelerator than on the processor give the same there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from devudp_model.ops import arithmetic
from devudp_model.ops.filters import FILTERS, FilterName, corners_of, noise_variance
from devudp_model.ops.windows import mean_along, wide_mean, window_max, window_mean
from devudp_model.restoring.content import content_of
from devudp_model.restoring.curve import Curve
from devudp_model.restoring.exposure import has_lights, lamp_level, quantile_of
from tests.accelerator.conftest import photos
from tests.accelerator.counts import counting


def agree(function: Callable[..., Tensor], device: torch.device, *inputs: Tensor) -> None:
    """`function` may write to its inputs."""
    here = function(*(x.clone() for x in inputs))
    there = function(*(x.clone().to(device) for x in inputs))
    assert there.device == device
    torch.testing.assert_close(there.cpu(), here, atol=1e-5, rtol=1e-5)


def test_arithmetic(device: torch.device) -> None:
    x, y, share = photos(2, 3, 9, 14), photos(2, 3, 9, 14).flip(3), photos(2, 1, 9, 14)
    agree(partial(arithmetic.ramp, start=0.2, stop=0.4), device, x)
    agree(partial(arithmetic.ramp, start=0.4, stop=0.2), device, x)
    agree(partial(arithmetic.linear, slope=2.0, offset=-1.0), device, x)
    agree(arithmetic.mix, device, x, y, share)
    agree(partial(arithmetic.mix, share=0.3), device, x, y)
    agree(arithmetic.fade_, device, x, share)
    agree(arithmetic.add_product_, device, x, y, share)
    agree(arithmetic.subtract_product_, device, x, y, share)


@pytest.mark.parametrize("radius", [1, 3, 4, 12])
def test_windows(radius: int, device: torch.device) -> None:
    x = photos(2, 3, 21, 30)
    agree(partial(window_mean, radius=radius), device, x)
    agree(partial(window_max, radius=radius), device, x)


@pytest.mark.parametrize("shape", [(2, 3, 48, 64), (1, 2, 50, 71), (1, 1, 8, 9)])
def test_wide_windows(shape: tuple[int, ...], device: torch.device) -> None:
    """Also where the sides are multiples of what lies between their pixels."""
    x = photos(*shape)
    agree(wide_mean, device, x)
    for dim in (2, 3):
        agree(partial(mean_along, radius=3, dim=dim), device, x)
        agree(partial(mean_along, radius=3, dim=dim, step=4), device, x)


@pytest.mark.parametrize("name", FILTERS)
def test_filters(name: FilterName, device: torch.device) -> None:
    image, output = photos(1, 3, 44, 56), photos(1, 3, 44, 56).flip(3)
    agree(FILTERS[name].function, device, image, output)


@pytest.mark.parametrize("ease", [0.0, 0.6])
def test_the_curve(ease: float, device: torch.device) -> None:
    gain, black = torch.rand(2, 1, 3, 1, 1) * 0.5 + 0.5
    agree(Curve(gain, black * 0.3, black * 0.1, 1.7, ease), device, photos(2, 3, 30, 40))


def test_what_is_measured(device: torch.device) -> None:
    image = photos(2, 3, 61, 75) * torch.tensor([0.4, 1.0]).view(2, 1, 1, 1)
    agree(noise_variance, device, image)
    for measure in (has_lights, lamp_level):
        for one in (image, image[:1], image[..., :2, :2]):
            assert measure(one.to(device)) == pytest.approx(measure(one), abs=1e-6)
    for count in (1, 2, 501, 1000):
        values = torch.rand(count)
        for share in (0.3, 0.998, 1.0):
            expected = torch.quantile(values, share).item()
            assert quantile_of(values, share) == expected
            assert quantile_of(values.to(device), share) == pytest.approx(expected, abs=1e-6)


def test_corners_of_squares() -> None:
    image = torch.arange(35.0).view(1, 1, 5, 7)
    expected = ([0, 4], [1, 5], [7, 11], [8, 12])
    assert [corner.flatten().tolist() for corner in corners_of(image, 4)] == [*expected]


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.uint16])
def test_frames_are_seen_on_any_side(dtype: torch.dtype, device: torch.device) -> None:
    levels = 1 if dtype == torch.float32 else torch.iinfo(dtype).max
    photo = photos(2, 3, 60, 72)
    for side in ((slice(6), slice(None)), (slice(None), slice(66, None)), (slice(0), slice(0))):
        image = photo.clone()
        image[..., side[0], side[1]] = 0.1
        image = (image * levels).to(dtype)
        here, there = content_of(image), content_of(image.to(device))
        assert here is not None and there is not None and here.region == there.region
        assert here.region.is_whole(image) == (side[0] == slice(0))
    image = photo.clone()  # what is uniform everywhere has no say
    image[1], image[0, :, :6] = 0.1, 0.1
    here, there = content_of(image), content_of(image.to(device))
    assert here is not None and there is not None and here.region == there.region
    assert here.region.top == 6


def test_an_image_without_a_frame_is_waited_for_once(device: torch.device) -> None:
    image = photos(1, 3, 60, 72).to(device)
    with counting() as counts:
        content_of(image)
    assert counts.waits == 1 and counts.operations <= 6
