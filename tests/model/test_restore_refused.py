"""What restore() refuses, and what it does when the network's numbers are not finite."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from devudp_model.restoring import restoration
from devudp_model.restoring.options import Options
from tests.model.restore_network import FP32, generator, random_image


def test_a_mask_that_is_not_finite_is_refused() -> None:
    mask = torch.ones(16, 16)
    mask[3, 3] = torch.nan
    with pytest.raises(ValueError, match="mask has values that are not finite"):
        restoration.restore(random_image(1, 3, 16, 16), generator(), mask=mask)


def test_what_overflows_in_half_precision_is_done_again(caplog: pytest.LogCaptureFixture) -> None:
    net, image = generator(), random_image(2, 3, 16, 16)
    net.get_parameter("encode1.0.conv1.weight").mul_(1e6)
    with caplog.at_level(logging.WARNING, "devudp"):
        result = restoration.restore(image, net, Options(precision="fp16"))
    assert torch.equal(result, restoration.restore(image, net, FP32))
    assert len(caplog.records) == 1 and "again in fp32" in caplog.text


def test_a_broken_generator_is_told_even_in_float32() -> None:
    net = generator()
    net.get_parameter("encode1.0.conv1.weight").fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="checkpoint is broken"):
        restoration.restore(random_image(1, 3, 16, 16), net, FP32)


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(3, 5, 5),
        torch.zeros(1, 2, 5, 5),
        torch.zeros(1, 3, 0, 5),
        torch.zeros(1, 3, 5, 5, dtype=torch.int32),
        torch.full((1, 3, 5, 5), torch.nan),
        torch.full((1, 3, 5, 5), torch.inf),
    ],
)
def test_bad_images_are_refused(image: Tensor) -> None:
    with pytest.raises(ValueError, match="image"):
        restoration.restore(image, generator())


@pytest.mark.parametrize("shape", [(5,), (3, 5, 5), (1, 3, 5, 5)])
def test_bad_masks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="mask has shape"):
        restoration.restore(random_image(2, 3, 5, 5), generator(), mask=torch.zeros(shape))


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "sharpen"},
        {"precision": "int4"},
        {"statistics": "mine"},
        {"strength": 1.5},
        {"exposure": -0.1},
        {"memory": 0},
    ],
)
def test_bad_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Options(**wrong)
