"""Starry skies stay dark, whatever glows behind the stars; other dark images are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from devudp_model.images.reading import read_image
from devudp_model.ops.degrade import darken, to_linear
from devudp_model.ops.dtypes import to_unit
from devudp_model.ops.filters import noise_variance
from devudp_model.restoring.auto import choose
from devudp_model.restoring.exposure import scene_curve
from devudp_model.restoring.first_look import made_small
from devudp_model.restoring.scene import SceneModel
from devudp_model.restoring.stars import stars_of

ROOT = Path(__file__).parents[2]
GLOWS = {"grey": (17, 17, 17), "town": (20, 17, 14), "dusk": (13, 16, 20), "dark": (6, 6, 7)}


def noisy(image: Tensor, levels: float, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return ((image + torch.randn(image.shape, generator=rng) * levels / 255) * 255).clamp(0, 255)


def starry(
    glow: tuple[int, int, int], count: int = 400, seed: int = 0, light_of_stars: float = 0.5
) -> Tensor:
    """Stars of all sizes over a black ridge, 8 bits: 1,3,400,600."""
    rng = torch.Generator().manual_seed(seed)
    light = torch.zeros(1, 1, 400, 600)
    rank = torch.rand(count, generator=rng).clamp(min=0.002)
    light.view(-1)[torch.randperm(400 * 600, generator=rng)[:count]] = light_of_stars * rank**-0.8
    window = torch.exp(-torch.arange(-3, 4).square() / (2 * 0.9**2))
    light = F.conv2d(light, (window[:, None] * window)[None, None], padding=3)
    sky = (
        torch.tensor(glow).view(1, 3, 1, 1) / 255 * torch.linspace(0.7, 1.3, 400).view(1, 1, -1, 1)
    )
    image = (sky + light).clamp(max=1)
    image[:, :, 350:] = 3 / 255
    return noisy(image, 2.0).round().byte()


def over_a_wood(sky: Tensor) -> Tensor:
    """The same with glittering leaves instead of its lower 40 %."""
    rng = torch.Generator().manual_seed(7)
    leaves = F.avg_pool2d(torch.randn(1, 1, 402, 602, generator=rng), 3, 1)
    leaves = (14 / 255 * (2.1 * leaves).exp()).clamp(max=1)
    return torch.cat([sky[:, :, :240], (leaves * 255).byte().expand(1, 3, -1, -1)[:, :, 240:]], 2)


def windows(across: int, down: int, lit: float, seed: int) -> Tensor:
    """A dark front of windows so many pixels apart, of which this share is lit."""
    rng = torch.Generator().manual_seed(seed)
    image = torch.full((1, 1, 400, 600), 0.012)
    for y in range(10, 390, down):
        for x in range(5, 590, across):
            if torch.rand(1, generator=rng) < lit:
                image[..., y : y + 3, x : x + 2] = 0.3 + 0.5 * torch.rand(1, generator=rng)
    image = F.avg_pool2d(image, 3, 1, 1).expand(-1, 3, -1, -1)
    return noisy(image, 2.0).round().byte()


def found(image: Tensor) -> float:
    grey = made_small(image).mean(1, keepdim=True)
    return stars_of(grey, noise_variance(grey).sqrt().item())


@pytest.mark.parametrize("glow", GLOWS.values(), ids=GLOWS)
def test_a_starry_sky_is_left_as_it_is(glow: tuple[int, int, int]) -> None:
    """By their mean these are images with four stops too little light, or more."""
    for seed in range(3):
        choice = choose(starry(glow, seed=seed))
        assert choice.task is None
        assert choice.reason == "a starry sky, sharp: left as it is"


@pytest.mark.parametrize("glow", GLOWS.values(), ids=GLOWS)
def test_stars_over_a_landscape_are_found_but_no_landscape_is_stars(
    glow: tuple[int, int, int],
) -> None:
    for seed in range(3):
        landscape = over_a_wood(starry(glow, 900, seed))
        assert found(landscape) > 0.9
        assert found(landscape.flip(2)) == 0, "upside down"
        assert found(landscape[:, :, 240:]) == 0


def test_faint_stars_are_found_too() -> None:
    """The twentieth is little brighter than what glows behind it."""
    for seed in range(3):
        assert found(starry(GLOWS["grey"], 900, seed, light_of_stars=0.012)) > 0.8


@pytest.mark.parametrize("glow", [GLOWS["grey"], GLOWS["dark"]], ids=["grey", "dark"])
def test_its_scene_is_dark_for_who_asks_to_brighten_it(glow: tuple[int, int, int]) -> None:
    image = to_unit(starry(glow))
    output = (image - image.mean()) / image.std() * 0.22 + 0.45  # as the generator would
    output = output.clamp(0, 1)
    count = len(SCENE.center)
    assert SCENE.predict(image[0]) == pytest.approx(0.45) and count == 21
    curve = scene_curve(SCENE, image, output, None, lambda x: x)
    plain = scene_curve(
        SCENE, noisy(image * 0 + image.mean(), 2.0) / 255, output, None, lambda x: x
    )
    assert curve(output).mean() < 0.26 < 0.3 < plain(output).mean()


SCENE = SceneModel((0.0,) * 21, (1.0,) * 21, (0.0,) * 21, 0.45)
"""Takes everything for an average photograph."""


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return to_unit(read_image(ROOT / "samples/good/flowers.jpg").pixels)


@pytest.mark.parametrize("light", [0.12, 0.03])
@pytest.mark.parametrize("noise", [0.5, 2.0, 6.0])
def test_a_dark_photograph_is_no_starry_sky(photo: Tensor, light: float, noise: float) -> None:
    dark = noisy(darken(photo, light), noise).round().byte()
    assert found(dark) == 0
    choice = choose(dark)
    assert choice.task in ("low light", "joint") and choice.stars == 0


@pytest.mark.parametrize("across, down", [(9, 10), (8, 9), (12, 12)])
@pytest.mark.parametrize("lit", [0.2, 0.4])
def test_lit_windows_are_no_stars(across: int, down: int, lit: float) -> None:
    for seed in range(2):
        front = windows(across, down, lit, seed)
        assert found(front) == 0
        skyline = torch.cat([torch.zeros_like(front)[:, :, :50], front[:, :, 50:250]], 2)
        assert found(torch.cat([skyline, skyline.flip(2) // 3], 2)) == 0


def test_neither_hot_pixels_nor_noise_nor_lines_nor_few_points_are_stars() -> None:
    rng = torch.Generator().manual_seed(1)
    sky = noisy(torch.full((1, 3, 400, 600), 17 / 255), 2.0).round().byte()
    assert found(sky) == 0
    hot = sky.clone()
    hot.flatten(2)[:, :, torch.randperm(400 * 600, generator=rng)[:400]] = 120
    assert found(hot) == 0
    grid = sky.clone()
    grid[:, :, ::20] = 200
    grid[:, :, :, ::20] = 200
    assert found(grid) == 0
    assert found(starry(GLOWS["grey"], count=25)) == 0
    assert found(sky[..., :20, :20]) == 0, "too small to tell"


def test_a_bright_image_is_not_searched(monkeypatch: pytest.MonkeyPatch, photo: Tensor) -> None:
    """It costs a look at all of the image."""
    monkeypatch.setattr("devudp_model.restoring.exposure.starriness", lambda image: 1 / 0)
    assert to_linear(photo).mean() > 0.1
    scene_curve(SCENE, photo, photo, None, lambda x: x)
    with pytest.raises(ZeroDivisionError):
        scene_curve(SCENE, photo * 0.2, photo, None, lambda x: x)
