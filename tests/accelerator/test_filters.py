"""What filters and other steps do in few operations on an accelerator is what they do elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from devudp_model.engine.droplets import heal
from devudp_model.engine.padded_image import stem_input
from devudp_model.ops.detail import detail_transfer
from devudp_model.ops.filters import FILTERS
from devudp_model.restoring.coarse_to_fine import balanced, blurred_share, where_blurred
from devudp_model.restoring.curve import Curve
from tests.accelerator.conftest import photos

CLOSE = 5e-6


def two(height: int = 72, width: int = 90) -> tuple[Tensor, Tensor]:
    """An input and a model's image of it, brighter, of more contrast, with noise of its own, and a
    dot in the lamp."""
    image = photos(2, 3, height, width)
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(1))
    output = (1.5 * image - 0.1 + 0.1 * noise).clamp_(0, 1)
    output[:, 0, 5, 6] = 0.3
    return image, output


def agree(function: Callable[..., Tensor], device: torch.device, *images: Tensor) -> None:
    """Fails unless `function` gives the same there, and something else than its last image."""
    here = function(*(image.clone() for image in images))
    there = function(*(image.to(device) for image in images))
    assert there.device == device and not torch.equal(here, images[-1])
    torch.testing.assert_close(there.cpu(), here, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("name", FILTERS)
def test_filters(name: str, device: torch.device) -> None:
    agree(dict(FILTERS.items())[name].function, device, *two())  # pyright: ignore


def test_detail(device: torch.device) -> None:
    for floor in (1e-4, 0.02):
        agree(detail_transfer, device, *two(), torch.full((1, 3, 1, 1), floor))


@pytest.mark.parametrize("gain", [(1.0, 1.0, 1.0), (1.0, 0.8, 0.6)])
@pytest.mark.parametrize("ease", [0.0, 0.6])
def test_curves(gain: tuple[float, ...], ease: float, device: torch.device) -> None:
    levels = gain, (0.1, 0.2, 0.3), (0.05, 0.2, 0.1)
    gains, black, held = (torch.tensor(level).view(1, 3, 1, 1) for level in levels)
    values = torch.linspace(-0.2, 1.2, 3 * 50 * 40).view(1, 3, 50, 40)
    for exponent in (0.7, 1.0, 2.5):
        agree(Curve(gains, black, held, exponent, ease), device, values)


def test_droplets(device: torch.device) -> None:
    image, output = two()
    beyond = torch.zeros(2, 1, 72, 90)
    beyond[0, :, 30:36, 40:47], beyond[1, :, :2, 20:23], beyond[1, :, 50:52, 60:62] = 1, 0.7, 1
    output[0, :, 30:36, 40:47] = 1
    out = torch.empty_like(output).to(device)
    agree(lambda image, beyond, output: heal(output, image, beyond), device, image, beyond, output)
    heal(output.to(device), image.to(device), beyond.to(device), out=out)
    torch.testing.assert_close(out.cpu(), heal(output, image, beyond), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_the_stem_reads(dtype: torch.dtype, device: torch.device) -> None:
    image = two()[0]
    here, there = stem_input(image, None, dtype), stem_input(image.to(device), None, dtype)
    assert there.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(here, there.cpu())


def test_changes_at_a_smaller_size(device: torch.device) -> None:
    image, output = two()
    agree(balanced, device, output - image)
    agree(blurred_share, device, output)
    agree(
        where_blurred(lambda x: x * 0.5 + 0.2), device, torch.nn.functional.avg_pool2d(image, 3, 1)
    )
