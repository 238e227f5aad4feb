"""Task `auto`: what an image needs, on the sample images and on what is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from devudp_model.images.reading import read_image
from devudp_model.ops.degrade import degrade
from devudp_model.restoring.auto import Choice, choose
from devudp_model.restoring.options import Options

ROOT = Path(__file__).parents[2]
GOOD = ROOT / "samples/good/flowers.jpg"


@pytest.fixture(scope="module")
def good() -> Tensor:
    return read_image(GOOD).pixels


def made_worse(image: Tensor, seed: int = 0, **changes: float) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return degrade(image, rng, **{"blur": 0.0, "light": 1.0, "noise": 0.0, **changes})


def test_a_good_photograph_stays_as_it_is(good: Tensor) -> None:
    choice = choose(good)
    assert choice.task is None and "left as it is" in choice.reason
    with pytest.raises(ValueError, match="stays as it is"):
        choice.options(Options())


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 3))])
@pytest.mark.parametrize(
    ("changes", "task"),
    [
        ({"blur": 16.0}, "deblur"),
        ({"light": 0.06}, "low light"),
        ({"light": 0.06, "noise": 0.01}, "low light"),
        ({"blur": 16.0, "light": 0.06}, "joint"),
        ({"blur": 16.0, "light": 0.06, "noise": 0.005}, "joint"),
        ({"noise": 0.02}, None),
    ],
)
def test_what_was_made_worse_is_found(
    good: Tensor, changes: dict[str, float], task: str | None, seed: int
) -> None:
    assert choose(made_worse(good, seed, **changes)).task == task


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("blurry_cat.jpg", "deblur"),
        ("dark_coffee.jpg", "low light"),
        ("dark_blurry_flowers.jpg", "joint"),
    ],
)
def test_the_sample_images(name: str, task: str) -> None:
    assert choose(read_image(ROOT / "samples" / name).pixels).task == task


def test_the_darker_the_stronger(good: Tensor) -> None:
    shares = [choose(made_worse(good, light=light)).darkness for light in (1.0, 0.3, 0.2, 0.1)]
    assert shares[0] == 0 and shares == sorted(shares) and shares[-1] > 0.9


@pytest.mark.slow
def test_size_grey_alpha_and_tiny_images(good: Tensor) -> None:
    large = torch.nn.functional.interpolate(
        good.repeat(1, 1, 3, 3), scale_factor=2.0, mode="bilinear"
    )
    assert choose(large).task is None, "soft at 100 %, but sharp as a whole"
    assert choose(good.mean(1, keepdim=True)).task is None
    alpha = torch.cat([good * 0.5, torch.ones_like(good[:, :1])], 1)
    assert choose(alpha) == choose(good * 0.5)
    for side in (1, 3, 5, 8):
        assert choose(torch.rand(1, 3, side, side)).blur == 0
    assert choose(torch.zeros(1, 3, 20, 20)).task is None
    assert choose(torch.full((2, 3, 20, 20), 0.01)).reason == "a single colour: left as it is"


def test_a_batch_is_measured_as_one(good: Tensor) -> None:
    dark = made_worse(good, light=0.05)
    both = choose(torch.cat([dark, dark * 0.9]))
    assert both.task == "low light"
    black = torch.zeros_like(dark)
    assert choose(torch.cat([dark, black])) == choose(dark)


def test_what_is_asked_for_goes_on_top() -> None:
    joint = Choice("joint", 0.8, 0.5, 0.05, 0.5, 0.3, 0.8, 0.0, "")
    options = joint.options(Options(strength=0.5, exposure=0.5, precision="fp32"))
    assert (options.task, options.strength, options.exposure) == ("joint", 0.4, 0.25)
    assert options.precision == "fp32"
    low = Choice("low light", 1.0, 1.0, 0.01, 1.0, 0.5, 0.0, 0.0, "")
    assert low.options(Options()).exposure is None, "the task's own"
    deblur = Choice("deblur", 1.0, 0.0, 0.2, 0.0, 0.3, 1.0, 0.0, "")
    assert deblur.options(Options(exposure=0.5)).exposure is None


@pytest.mark.slow
def test_noise_is_measured_and_does_not_look_sharp(good: Tensor) -> None:
    blurred = made_worse(good, blur=16.0)
    noisy = made_worse(good, blur=16.0, noise=0.02)
    assert choose(noisy).noise > 2 * choose(blurred).noise
    assert choose(noisy).sharpness == pytest.approx(choose(blurred).sharpness, abs=0.04)
