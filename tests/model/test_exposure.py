"""The curve of a result: black held down, the mean of the scene, colours bounded."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from devudp_model.bands import rows
from devudp_model.ops.degrade import to_linear, to_srgb
from devudp_model.ops.light import power
from devudp_model.restoring.blocks import BLOCK, Blocks, blocks_of
from devudp_model.restoring.curve import Curve
from devudp_model.restoring.exposure import BLACK, black_limit, curve_for
from devudp_model.restoring.shadows import (
    DARK_SCENE,
    NIGHT,
    USUAL_MEAN,
    Shadows,
    between,
    shadows_of,
    sky_of,
)

from .engine_network import random_image


def night(sky: float = 2 / 255, lamps: float = 0.9) -> Tensor:
    """A sky over a city: two thirds are dark."""
    image = torch.full((1, 3, 96, 96), sky)
    image[..., 64:, :] = 0.2 * random_image(1, 3, 32, 96) + 0.05
    image[..., 80:88, 8:16] = lamps
    return image


def as_the_network_does(image: Tensor, noise: float = 0.0) -> Tensor:
    """Standardized to the mean of an average photograph: fog."""
    rng = torch.Generator().manual_seed(1)
    bright = (0.4 + 0.9 * (image - image.mean())).clamp(0, 1)
    return (bright + noise * torch.randn(image.shape, generator=rng)).clamp(0, 1)


def curve_of(
    image: Tensor, output: Tensor, predicted: float, weights: Tensor | None = None
) -> Curve:
    return curve_for(blocks_of(image, weights), blocks_of(output, weights), predicted, 1.0)


@pytest.mark.parametrize("predicted", [-1.0, 0.1, 0.3, 0.34])
def test_black_places_of_a_dark_scene_come_down(predicted: float) -> None:
    image = night()
    output = as_the_network_does(image)
    sky = output[..., :64, :].median()
    result = curve_of(image, output, predicted)(output)
    assert sky > 0.25
    assert result[..., :64, :].median() == pytest.approx(BLACK, abs=0.005)
    assert result[..., 80:88, 8:16].min() > 0.9 * output[..., 80:88, 8:16].min()  # the lamp


def seen_by_the_network(image: Tensor, noise: float = 0.0) -> Tensor:
    """As it makes dark images, whose shadows it sees as half bright."""
    rng = torch.Generator().manual_seed(1)
    return (image**0.35 + noise * torch.randn(image.shape, generator=rng)).clamp(0, 1)


def under_a_sky(level: float, noise: float = 0.0, clouds: float = 0.0) -> Tensor:
    """A black wood, a sky that is a little brighter, and a city."""
    image = night(sky=0.5 / 255)
    rng = torch.Generator().manual_seed(2)
    cloud = clouds * (torch.rand(1, 1, 3, 12, generator=rng) - 0.5)
    image[..., :24, :] = level + cloud.repeat_interleave(8, 2).repeat_interleave(8, 3)
    return (image + noise * torch.randn(image.shape, generator=rng)).clamp(0, 1)


@pytest.mark.parametrize(("level", "noise"), [(4.5, 0.0), (5.5, 1.0), (7.0, 2.0)])
def test_a_sky_just_above_black_stays_nearly_black(level: float, noise: float) -> None:
    """A monument before the night; clouds are no sky without anything in it."""
    image = under_a_sky(level / 255, noise / 255)
    clouds = under_a_sky(level / 255, noise / 255, clouds=6 / 255)
    output = seen_by_the_network(under_a_sky(level / 255), noise=0.02)
    result, cloudy = (curve_of(x, output, 0.2)(output) for x in (image, clouds))
    assert result[..., :24, :].quantile(0.9) <= BLACK + 0.01
    assert result[..., :24, :].std() < 0.02, "no grain"
    assert cloudy[..., :24, :].median() > result[..., :24, :].median() + 0.02
    lamp = (..., slice(80, 88), slice(8, 16))
    assert result[lamp].min() > 0.9 * output[lamp].min()


def test_what_is_no_sky_over_lamps_is_not_held_down() -> None:
    image = under_a_sky(5.5 / 255)
    blocks = blocks_of(image), blocks_of(seen_by_the_network(image))
    lit, unlit = (curve_for(*blocks, 0.2, lights) for lights in (1.0, 0.0))
    assert lit.black.mean() > unlit.black.mean() + 0.05
    assert (lit.ease, unlit.ease, lit.exponent) == (1, 0, unlit.exponent)
    assert sky_of(blocks_of(night(sky=9 / 255)))[1] == 0, "too bright"
    assert sky_of(blocks_of(night(sky=2 / 255)))[1] == 0, "black already"


def test_the_curve_that_eases_is_monotone_and_meets_its_lines() -> None:
    one = torch.ones(1, 3, 1, 1)
    x = torch.linspace(0, 1, 3000).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    for black, held in ((0.5, 0.06), (0.75, 0.05), (0.1, 0.099), (0.02, 0.001)):
        straight, eased = (Curve(one, one * black, one * held, 1.3, ease) for ease in (0.0, 1.0))
        values = eased(x)[0, 0, 0]
        assert (values.diff() >= -1e-6).all() and values.diff().max() < 3 * 6 / 3000
        dim = (x[0, 0, 0] > black) & (x[0, 0, 0] < black + 0.2 * (1 - black))
        assert (values[dim] <= straight(x)[0, 0, 0][dim] + 1e-6).all()
        ends = (x[0, 0, 0] < black) | (x[0, 0, 0] > 1 - 0.4 * (1 - black))
        torch.testing.assert_close(values[ends], straight(x)[0, 0, 0][ends])


def test_black_in_other_scenes_is_the_darkest_hundredth() -> None:
    grey = torch.linspace(0.002, 0.4, 1000)
    assert black_limit(grey, 0.3) == pytest.approx(4 / 255)
    assert black_limit(grey, 0.6) == pytest.approx(0.006, abs=1e-3)
    dim = grey / 40
    assert black_limit(dim, 0.3) == pytest.approx(4 / 255)
    assert black_limit(dim, 0.385) < dim.median()
    assert black_limit(grey + 0.2, 0.3) == pytest.approx(0.206, abs=1e-3)  # there always is some
    limits = [black_limit(dim, p / 1000) for p in range(300, 500)]
    steps = [abs(b - a) for a, b in pairwise(limits)]
    assert max(steps) < 0.001  # no jump between the kinds of scenes


def test_noise_of_black_places_is_held_down_with_them() -> None:
    image = night()
    calm, noisy = (as_the_network_does(image, noise) for noise in (0.0, 0.05))
    sky = curve_of(image, noisy, 0.2)(noisy)[..., :64, :]
    assert sky.std() < 0.6 * noisy[..., :64, :].std()
    assert (sky > 0.15).float().mean() < 0.1
    assert curve_of(image, noisy, 0.2).black.mean() > curve_of(image, calm, 0.2).black.mean() + 0.03


def test_the_curve_is_monotone_and_continuous_and_stays_within_the_range() -> None:
    x = torch.linspace(-0.1, 1.1, 2000).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    for predicted in (-0.5, 0.2, 0.4, 0.6, 0.9):
        for sky in (0.0, 2 / 255, 0.1):
            image = night(sky)
            y = curve_of(image, as_the_network_does(image, 0.02), predicted)(x)
            assert (y.diff(dim=3) >= 0).all() and y.min() >= 0 and y.max() <= 1
            inside = y[..., 220:]  # roots are steep at 0
            assert inside.diff(dim=3).max() < 0.01


@pytest.mark.parametrize("predicted", [0.2, 0.45, 0.5])
def test_the_result_has_the_mean_that_was_predicted(predicted: float) -> None:
    image = (0.1 * random_image(1, 3, 96, 96)).clamp(0, 1)
    output = 0.02 + 10 * image
    expected = {0.2: 0.252, 0.45: 0.45, 0.5: 0.47}[predicted]
    result = curve_of(image, output, predicted)(output)
    assert result.mean().item() == pytest.approx(expected, abs=0.02)


def room(noise: float = 0.01, light: float = 1.0) -> Tensor:
    """Walls and furniture in far too little light, in 8 bits, with the sensor's noise."""
    rng = torch.Generator().manual_seed(4)
    squares = torch.rand(1, 1, 12, 12, generator=rng) * 3 / 255 * light
    image = squares.repeat_interleave(16, 2).repeat_interleave(16, 3).expand(1, 3, -1, -1)
    image = image + noise * torch.randn(1, 3, 192, 192, generator=rng)
    image[..., 96:144, 176:] = 0.4  # a bright window, which is not white
    return (image.clamp(0, 1) * 255).round() / 255


def test_a_room_in_too_little_light_is_no_night() -> None:
    """What seems black stands out of the noise; nothing is as bright as a lamp."""
    found = shadows_of(blocks_of(room(0.004)))
    assert found.share > 0.9 and found.signal > 0.9 and found.quiet > 0.5 / 255
    assert found.correct(0.1, lights=0.0) == pytest.approx(USUAL_MEAN)
    assert found.correct(0.1, lights=1.0) == 0.1, "a lamp: a night"
    assert 0.2 < found.correct(0.1, lights=0.5) < 0.35, "no switch"
    assert found.correct(0.6, lights=0.0) == 0.6, "never darker"
    assert found.darken(0.5) == pytest.approx(DARK_SCENE[1]) or found.darken(0.5) > 0.4
    output = as_the_network_does(8 * room(0.004))
    blocks = blocks_of(room(0.004)), blocks_of(output)
    assert curve_for(*blocks, 0.1, 0.0)(output).mean() > 0.35
    assert curve_for(*blocks, 0.1, 1.0)(output).mean() < 0.2


def test_noise_a_finished_photograph_and_few_dark_places_are_no_such_room() -> None:
    noise = shadows_of(blocks_of(room(0.01, light=0.0)))
    assert noise.signal < 0.5 and noise.correct(0.1, 0.0) == 0.1
    finished = shadows_of(blocks_of(room(0.0)))
    assert finished.quiet == 0 and finished.correct(0.1, 0.0) == 0.1
    image = 0.3 + 0 * room(0.004)
    image[..., :16, :] = room(0.004)[..., :16, :]
    few = shadows_of(blocks_of(image))
    assert few.share < 0.1 and few.correct(0.1, 0.0) < 0.25
    assert shadows_of(blocks_of(image + 0.1)) == Shadows(0.0, 0.0, 0.0)


def test_black_places_without_anything_in_them_come_down_in_any_scene() -> None:
    """Stars, or dark wood, of which nothing is left but noise: the prediction knows nothing."""
    image = room(0.01, light=0.0)
    assert shadows_of(blocks_of(image)).darken(0.5) == pytest.approx(NIGHT[0])
    output = (0.45 + 8 * (image - image[..., :96].mean())).clamp(0, 1)
    black = output[..., :96]
    for predicted in (0.2, 0.45, 0.5):
        result = curve_of(image, output, predicted)(output)[..., :96]
        assert black.median() > 0.3 and result.median() < 0.1
    steps = [
        Shadows(share, signal, 0.01).darken(0.5)
        for signal in (0.6, 0.7, 0.8, 0.9)
        for share in (0.001, 0.5)
    ]
    assert steps[1] == pytest.approx(NIGHT[0]) and steps[-1] == pytest.approx(DARK_SCENE[1])
    assert steps[1] < steps[3] < steps[5] < steps[7] and steps[0] > steps[1]


@pytest.mark.parametrize("colour", [(1, 0, 0), (0, 0, 1), (0, 1, 0)])
def test_light_of_one_colour_keeps_it(colour: tuple[int, int, int]) -> None:
    light = torch.tensor(colour).view(1, 3, 1, 1)
    noise = 0.5 / 255 * torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    image = 0.2 * random_image(1, 1, 96, 96) * light + noise
    output = random_image(1, 3, 96, 96, seed=1)  # full contrast in all channels
    result = curve_of(image, output, 0.4)(output)
    there = result[:, [i for i in range(3) if colour[i]]]
    absent = result[:, [i for i in range(3) if not colour[i]]]
    assert there.mean() > 0.1 and absent.mean() == 0


def test_an_orange_lamp_may_be_corrected_and_a_lamp_of_another_colour_counts() -> None:
    warm = to_linear(random_image(1, 1, 96, 96)) * torch.tensor([1, 0.5, 0.2]).view(1, 3, 1, 1)
    output = random_image(1, 3, 96, 96, seed=1)
    assert (curve_of(to_srgb(warm), output, 0.4).gain == 1).all()
    yellow = night() * torch.tensor([1, 1, 0.02]).view(1, 3, 1, 1)
    assert curve_of(yellow, output, 0.2).gain[0, 2] < 0.5
    yellow[..., 88:96, 80:96] = torch.tensor([0.1, 0.2, 0.9]).view(1, 3, 1, 1)
    assert (curve_of(yellow, output, 0.2).gain == 1).all()


def test_a_fall_of_shadows_in_bright_scenes_has_a_limit() -> None:
    image = 0.4 + 0.2 * random_image(1, 3, 96, 96)  # mist: there is no black
    output = 0.5 + 0.4 * random_image(1, 3, 96, 96)
    curve = curve_of(image, output, 0.55)
    assert (curve.held >= 0.4 * curve.black * 0.999).all() and curve.black.min() > 0.4


def test_blocks_are_means_and_deviations_of_complete_squares() -> None:
    image = random_image(2, 3, 20, 27)
    found = blocks_of(image)
    parts = image[..., :16, :24].unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK).flatten(4)
    torch.testing.assert_close(found.means, parts.mean(4).movedim(1, 3).reshape(-1, 3))
    torch.testing.assert_close(
        found.deviations, parts.std(4, correction=0).movedim(1, 3).reshape(-1, 3)
    )
    grey = found.means.mean(1).view(2, 2, 3)
    around = torch.stack([grey[0, y, x] for y in (0, 0, 1) for x in (0, 0, 1)])
    torch.testing.assert_close(found.structure[0], around.std(correction=0))
    small = blocks_of((image[:, :1, :3, :5] * 255).byte())
    assert small.means.shape == (2, 3)


def test_blocks_are_the_same_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    image = random_image(2, 3, 20, 27)  # the last band has no complete square
    whole = blocks_of(image)
    monkeypatch.setattr(rows, "BAND_PIXELS", BLOCK * 27)
    for found, expected in zip(blocks_of(image), whole, strict=True):
        assert torch.equal(found, expected)


def test_blocks_that_are_hidden_do_not_count() -> None:
    image = random_image(1, 3, 16, 24)
    seen = torch.zeros(1, 1, 16, 24, dtype=torch.uint8)
    seen[..., :8, 8:20] = 255
    found, all_of_it = blocks_of(image, seen), blocks_of(image)
    assert torch.equal(found.means, all_of_it.means[[1, 2]])
    assert torch.equal(found.structure, all_of_it.structure[[1, 2]])
    assert isinstance(found, Blocks) and len(blocks_of(image, seen * 0).means) == 6


def test_between_goes_on_a_line() -> None:
    assert [between(v, 1.0, 3.0, 10.0, 20.0) for v in (0.0, 1.0, 2.0, 3.0, 9.0)] == [
        10.0, 10.0, 15.0, 20.0, 20.0,
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 15, 33, 100, 1321])
def test_a_power_is_the_same_wherever_a_value_lies(size: int) -> None:
    x = torch.rand(1, 3, size, 7)
    whole = power(x, 1.37)
    for cut in (1, 2, size // 2):
        parts = [power(part, 1.37) for part in (x[:, :, :cut], x[:, :, cut:])]
        assert torch.equal(torch.cat(parts, 2), whole)
