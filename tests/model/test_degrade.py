"""Camera shake, less light, sensor noise."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from devudp_model.ops.degrade import (
    apply_shake,
    camera_shake,
    darken,
    degrade,
    draw_shake,
    sensor_noise,
    shake_path,
    sweep_path,
    to_linear,
    to_srgb,
)

Draw = Callable[[torch.Generator, int], torch.Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_image(height: int = 48, width: int = 64) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=seeded(9))


def test_srgb_curve_at_known_points():
    assert to_linear(torch.tensor([0.0, 0.04045, 0.5, 1.0])).tolist() == pytest.approx(
        [0.0, 0.0031308, 0.2140411, 1.0], rel=1e-4
    )
    x = torch.linspace(0, 1, 1001)
    torch.testing.assert_close(to_srgb(to_linear(x)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("draw", [shake_path, sweep_path])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), poses=st.integers(2, 64))
def test_path_has_mean_0_and_span_1(draw: Draw, seed: int, poses: int):
    path = draw(seeded(seed), poses)
    span = path.amax(0) - path.amin(0)
    assert path.shape == (poses, 3)
    assert path.mean(0).abs().max() < 1e-4
    assert span[:2].max().item() == pytest.approx(1, abs=1e-3)
    assert span[2] <= 1.001


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), extent=st.floats(2, 20))
def test_sweep_is_smooth_and_without_gaps(seed: int, extent: float):
    """What tells it from a shake: no jerks, and fewer than three pixels between two poses."""
    shake = draw_shake(seeded(seed), extent=extent, sweep=True)
    steps = shake.path[:, :2].diff(dim=0) * extent
    jerks = steps.diff(dim=0).diff(dim=0)
    assert jerks.abs().max() < 1e-3
    assert steps.norm(dim=1).max() < 3


def test_streaks_of_sweeps_are_more_even_than_those_of_shakes():
    """A point's streak: the brightest pixel has a smaller share of the light."""
    image = torch.zeros(1, 3, 65, 65)
    image[..., 32, 32] = 1
    brightest = {}
    for sweep in (False, True):
        shakes = [draw_shake(seeded(s), extent=12, roll=0, sweep=sweep) for s in range(20)]
        streaks = [to_linear(apply_shake(image, shake)) for shake in shakes]
        brightest[sweep] = sum(streak.max() / streak[0, 0].sum() for streak in streaks) / 20
    assert brightest[True] < 0.7 * brightest[False]


def test_shake_of_no_extent_changes_nothing():
    image = random_image()
    still = camera_shake(image, seeded(), extent=0.0, roll=0.0)
    torch.testing.assert_close(still, image, atol=2e-5, rtol=0)


def test_shake_is_the_same_for_a_seed_and_another_for_another():
    image = random_image()
    first, again, other = (camera_shake(image, seeded(s), extent=8) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    shake = draw_shake(seeded(1), extent=8)
    assert torch.equal(apply_shake(image, shake), first)


def test_streak_of_a_point_is_as_long_as_asked():
    image = torch.zeros(1, 3, 65, 65)
    image[..., 32, 32] = 1
    for extent in (6, 16):
        blurred = camera_shake(image, seeded(3), extent=extent, roll=0.0, poses=64)[0, 0]
        rows, columns = (blurred > 0.02).nonzero().T
        longest = max(rows.max() - rows.min(), columns.max() - columns.min()).item()
        assert extent - 2 <= longest <= extent + 2


def test_light_is_kept_and_averaged_linearly():
    """Half black, half white, moved across: the mean in linear light stays, in sRGB it rises."""
    image = torch.zeros(1, 3, 32, 64)
    image[..., ::2] = 1
    blurred = camera_shake(image, seeded(), extent=10, roll=0.0)
    assert to_linear(blurred).mean().item() == pytest.approx(0.5, abs=0.02)
    assert blurred.mean() > 0.6


@pytest.mark.parametrize("curve", [1.0, 2.0, 5.0])
def test_blur_averages_the_light_of_its_tone_curve(curve: float):
    """The larger the exponent, the further bright things spread over dark ones."""
    image = torch.zeros(1, 3, 32, 64)
    image[..., ::2] = 1
    shake = draw_shake(seeded(), extent=10, roll=0.0, curve=curve)
    blurred = apply_shake(image, shake)
    assert (blurred**curve).mean().item() == pytest.approx(0.5, abs=0.02)
    assert blurred.mean().item() == pytest.approx(0.5 ** (1 / curve), abs=0.03)
    still = draw_shake(seeded(), extent=0.0, roll=0.0, curve=curve)
    bright = 0.3 + 0.7 * random_image()  # what rounding mixes in of a neighbour shows in black
    torch.testing.assert_close(apply_shake(bright, still), bright, atol=1e-3, rtol=0)


def test_blur_with_a_tone_curve_has_a_gradient_in_black():
    image = torch.zeros(1, 3, 8, 8, requires_grad=True)
    apply_shake(image, draw_shake(seeded(), extent=2, curve=3.0)).sum().backward()
    assert image.grad is not None and image.grad.isfinite().all()


def test_highlights_leave_brighter_streaks():
    image = torch.full((1, 3, 48, 48), 0.1)
    image[..., 24, 24] = 1
    plain, bright = (camera_shake(image, seeded(), extent=12, highlights=h) for h in (0.0, 4.0))
    assert bright.sum() > plain.sum() + 5


def test_blur_differs_over_the_image_when_the_camera_rolls():
    dots = torch.zeros(1, 3, 96, 96)
    dots[..., 8::16, 8::16] = 1
    peaks = camera_shake(dots, seeded(5), extent=2, roll=30)[0, 0].unfold(0, 16, 16)
    peaks = peaks.unfold(1, 16, 16).amax((-1, -2))
    assert peaks.max() > 1.5 * peaks.min()


def test_darken_is_a_gain_in_linear_light():
    image = random_image()
    torch.testing.assert_close(to_linear(darken(image, 0.1)), to_linear(image) * 0.1,
                               atol=1e-5, rtol=0)  # fmt: skip


@pytest.mark.parametrize("grain", [0.0, 0.5, 1.0])
def test_noise_has_about_the_standard_deviation_asked_for(grain: float):
    image = torch.full((1, 3, 128, 128), 0.5)
    noise = sensor_noise(image, seeded(), sigma=0.1, grain=grain) - image
    assert noise.mean().abs() < 0.01
    assert noise.std().item() == pytest.approx(0.1, rel=0.45)
    neighbours = torch.corrcoef(torch.stack([noise[..., :-1].flatten(), noise[..., 1:].flatten()]))[
        0, 1
    ]
    assert (neighbours > 0.3) == (grain > 0)


def test_levels_are_a_coarse_converter():
    noisy = sensor_noise(random_image(), seeded(), sigma=0.1, levels=8) * 8
    torch.testing.assert_close(noisy, noisy.round())


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 30), st.floats(0.01, 1), st.floats(0, 0.3), st.sampled_from([1, 3]))
def test_degrade_stays_in_range(blur: float, light: float, noise: float, channels: int):
    image = random_image(17, 23)[:, :channels]
    out = degrade(image, seeded(), blur=blur, light=light, noise=noise)
    assert out.shape == image.shape and out.min() >= 0 and out.max() <= 1 and out.isfinite().all()


def test_degrade_of_nothing_is_the_image():
    image = random_image()
    assert torch.equal(degrade(image, seeded()), image)
    dark = degrade(image, seeded(), light=0.1)
    assert dark.mean() < 0.5 * image.mean()


@pytest.mark.parametrize("wrong", [{"blur": -1.0}, {"noise": -0.1}, {"light": 0.0}, {"light": 2.0}])
def test_degrade_refuses_strengths_out_of_range(wrong: dict):
    with pytest.raises(ValueError, match="must be"):
        degrade(random_image(), seeded(), **wrong)


def test_roll_of_a_known_angle():
    """A camera that only rolls moves a point at the corner along an arc of the given length."""
    shake = draw_shake(seeded(2), extent=0.0, roll=20.0)._replace(pivot=(0.0, 0.0))
    image = torch.zeros(1, 3, 101, 101)
    image[..., 50, 50] = 1  # the pivot
    middle = apply_shake(image, shake)[0, 0]
    assert middle[50, 50].item() == pytest.approx(1, abs=0.02)
    image = torch.zeros(1, 3, 101, 101)
    image[..., 50, 95] = 1
    rows = (apply_shake(image, shake)[0, 0] > 0.05).any(1).nonzero().flatten()
    turn = (shake.path[:, 2].max() - shake.path[:, 2].min()).item()
    arc = turn * 20.0 * 45 / (math.hypot(101, 101) / 2)
    assert (rows.max() - rows.min()).item() == pytest.approx(arc, abs=2.5)
