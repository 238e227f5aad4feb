"""The tasks are pure functions: exposure, detail, strength, mask."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from devudp_model.engine.statistics import Moments, channel_moments
from devudp_model.ops.filters import FILTERS, GREY_LEVEL, Filter, fill_dots, keep_white
from devudp_model.ops.rims import fill_rims
from devudp_model.ops.windows import window_max, window_mean
from devudp_model.restoring.compose import apply_task, both_exposures, is_bounded, reach
from devudp_model.restoring.curve import Curve
from devudp_model.restoring.image_stats import Affine, ImageStats, match
from devudp_model.restoring.tasks import (
    DEFAULT_TASK,
    MAX_DENOISE,
    ROWS,
    TASK_SPECS,
    TASKS,
    Task,
    TaskSpec,
    bundled_variant,
    describe_tasks,
    task_of_word,
)


def random_image(*shape: int, seed: int = 0) -> Tensor:
    """In [0.2, 0.8]: an exposure match clips none of it."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 0.6 + 0.2


def matched(image: Tensor, output: Tensor, exposure: float, detail: float = 0.0) -> ImageStats:
    return match(channel_moments(image), channel_moments(output), exposure, detail)


def moments(x: Tensor) -> Moments:
    return channel_moments(x)


def test_the_table_of_tasks() -> None:
    """What saved workflows, scripts and the nodes rely on; a new task adds its line."""
    found = {
        task: (spec.word, spec.variant, spec.exposure, spec.detail, reach(task))
        for task, spec in TASK_SPECS.items()
    }
    assert found == {
        "joint": ("joint", "devudp", 1.0, 0.58, 68),
        "deblur": ("deblur", "devudp-dt", 0.0, 0.0, 0),
        "low light": ("low-light", "devudp", 1.0, 0.7, 65),
    }
    assert tuple(found) == TASKS and DEFAULT_TASK == "joint"
    for task, spec in TASK_SPECS.items():
        assert spec.name == task and spec.help and bundled_variant(task) == spec.variant
        assert task_of_word(spec.word) == task_of_word(task) == task
    with pytest.raises(ValueError, match="choose one of joint, deblur, low light"):
        task_of_word("sharpen")


def test_what_the_tasks_do_beside_the_network() -> None:
    """`deblur` alone starts from coarser scales and has no exposure to choose."""
    assert [spec.coarse_to_fine for spec in ROWS] == [False, True, False]
    assert [spec.exposure_is_fixed for spec in ROWS] == [False, True, False]
    plain = TaskSpec("denoise", "devudp", exposure=0.0, detail=0.0, help="less noise")
    assert not plain.coarse_to_fine and not plain.exposure_is_fixed
    assert (plain.detail_with_shortcut, plain.before, plain.bounds, plain.after) == (0, (), (), ())
    with pytest.raises(dataclasses.FrozenInstanceError):  # every image reads the same rows
        ROWS[0].detail = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_the_tasks_in_words() -> None:
    """As they stand in the nodes' tooltips, and as in the command line's help."""
    assert describe_tasks().startswith("joint: remove blur and correct the exposure. deblur: ")
    assert ". low light: correct the exposure, keep most of the image's own" in describe_tasks()
    lines = describe_tasks("\n", words=True).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["joint", "deblur", "low-light"]


def test_a_new_row_is_a_new_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else has to be told of it."""
    spec = TaskSpec(
        "denoise", "devudp", exposure=0.0, detail=0.0, after=("keep_white",), help="less noise"
    )
    monkeypatch.setitem(TASK_SPECS, "denoise", spec)
    image, output = random_image(1, 3, 20, 30), random_image(1, 3, 20, 30, seed=1)
    result = apply_task(image, output, "denoise", matched(image, output, spec.exposure))
    torch.testing.assert_close(moments(result).mean, moments(image).mean, rtol=0, atol=1e-3)
    assert reach("denoise") == 0


def test_exposure_0_has_mean_and_standard_deviation_of_the_input_in_each_channel() -> None:
    image = random_image(1, 3, 20, 30) * torch.tensor([0.3, 0.5, 0.4]).view(1, 3, 1, 1)
    output = random_image(1, 3, 20, 30, seed=1)
    result = apply_task(image, output, "deblur", matched(image, output, 0.0))
    expected = moments(image)
    torch.testing.assert_close(moments(result).mean, expected.mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(moments(result).var.sqrt(), expected.var.sqrt(), rtol=1e-2, atol=0)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task without filters."""
    spec = TaskSpec("plain", "devudp", exposure=1.0, detail=0.5, help="")
    monkeypatch.setitem(TASK_SPECS, spec.name, spec)
    return spec.name


def test_exposure_1_is_the_models_image_untouched(plain: Task) -> None:
    image, output = random_image(1, 3, 9, 9) * 0.5, random_image(1, 3, 9, 9, seed=1)
    assert torch.equal(apply_task(image, output, plain, matched(image, output, 1.0)), output)


@pytest.mark.parametrize("exposure", [0.25, 0.5])
def test_exposure_between_is_the_blend_of_both_ends(exposure: float) -> None:
    image, output = random_image(1, 3, 16, 16) * 0.5, random_image(1, 3, 16, 16, seed=1)
    ends = [apply_task(image, output, "deblur", matched(image, output, e)) for e in (0.0, 1.0)]
    between = apply_task(image, output, "deblur", matched(image, output, exposure))
    torch.testing.assert_close(between, torch.lerp(ends[0], ends[1], exposure))


def test_flat_images_do_not_explode() -> None:
    flat, lively = torch.full((1, 3, 8, 8), 0.3), random_image(1, 3, 8, 8)
    almost = flat + GREY_LEVEL * 0.1 * (lively - 0.5)
    result = apply_task(flat, lively, "deblur", matched(flat, lively, 0.0))
    torch.testing.assert_close(result, flat, atol=1e-3, rtol=0)  # flat in, flat out
    exposure = matched(lively * 50, almost, 0.0).exposure
    assert exposure is not None and (exposure.gain == 8).all(), "however flat it is"


def squared() -> Curve:
    """A curve that is nothing but an exponent."""
    one = torch.ones(1, 3, 1, 1)
    return Curve(one, one * 0.1, one * 0.1, 2.0)


def test_what_is_taken_from_whole_images() -> None:
    """Detail is what exceeds a twentieth of the variance, four of the noise, a grey level."""
    image, output = random_image(2, 3, 9, 11), random_image(2, 3, 9, 11, seed=1)
    taken, made = moments(image), moments(output)
    plain = match(taken, made, 1.0)
    assert plain.exposure is None and (plain.detail, plain.curve, plain.share) == (0, None, 1)
    torch.testing.assert_close(plain.floor, 0.05 * taken.var)
    curve = squared()
    noisy = match(taken, made, 0.25, 0.5, noise=taken.var, curve=curve)
    torch.testing.assert_close(noisy.floor, 4.05 * taken.var)
    assert noisy.exposure is not None and not noisy.bounded
    assert (noisy.detail, noisy.curve, noisy.share) == (0.5, curve, 0.25)
    flat = match(moments(torch.zeros(1, 3, 4, 4)), made, 1.0)
    torch.testing.assert_close(flat.floor, torch.full((1, 3, 1, 1), 255.0**-2))


def test_an_exposure_is_only_changed_where_it_is_asked_for() -> None:
    image, output = random_image(1, 3, 5, 6), random_image(1, 3, 5, 6, seed=1) * 0.9
    darker = Affine(torch.full((1, 3, 1, 1), 0.5), torch.zeros(1, 3, 1, 1))
    floor = torch.zeros(1, 3, 1, 1)
    brighter = Filter(lambda image, output: output + 1, 0)
    for share in (0.0, 0.5, 1.0):  # what has the scene's exposure is repaired alone
        stats = ImageStats(darker, floor, share=share)
        plain = both_exposures(image, output, stats, ())
        torch.testing.assert_close(plain, output * (0.5 + 0.5 * share))
        repaired = both_exposures(image, output, stats, [brighter])
        torch.testing.assert_close(repaired, plain + share)
    curved = ImageStats(darker, floor, curve=squared(), share=1.0)
    torch.testing.assert_close(both_exposures(image, output, curved, ()), output**2)


def test_the_inputs_exposure_makes_no_grey_ring_round_a_lamp() -> None:
    """The network's lamps are larger than the input's, with its glow, and white throughout."""
    near = (torch.linspace(0, 1, 21) * 2 - 1).abs()
    glow = (1.2 - torch.maximum(near[:, None], near)).clamp(0, 1) ** 2
    image = glow.expand(1, 3, -1, -1) * torch.tensor([1.0, 0.8, 0.5]).view(1, 3, 1, 1)
    output = (3 * image).clamp(0, 1)
    darker = Affine(torch.full((1, 3, 1, 1), 0.5), torch.zeros(1, 3, 1, 1))
    for share in (0.0, 0.5):
        stats = ImageStats(darker, torch.zeros(1, 3, 1, 1), share=share)
        result = both_exposures(image, output, stats, ())
        assert bool((result[..., 10, 1:11] - result[..., 10, :10] >= -1e-6).all()), share
        middle = result[0, :, 10, 10]
        torch.testing.assert_close(middle, image[0, :, 10, 10] * (1 - share) + share)


def test_strength_and_mask(plain: Task) -> None:
    image, output = random_image(2, 3, 8, 10) * 0.5, random_image(2, 3, 8, 10, seed=1)
    found = ImageStats(None, torch.zeros(1, 3, 1, 1))
    half = apply_task(image, output, plain, found, strength=0.5)
    torch.testing.assert_close(half, (image + output) / 2)
    assert torch.equal(apply_task(image, output, plain, found, strength=0.0), image)
    mask = torch.zeros(1, 1, 8, 10)
    mask[..., :5] = 1
    result = apply_task(image, output, plain, found, strength=0.5, mask=mask)
    torch.testing.assert_close(result[..., :5], half[..., :5])
    assert torch.equal(result[..., 5:], image[..., 5:])


def test_low_light_takes_the_exposure_of_the_model_and_the_detail_of_the_input() -> None:
    torch.manual_seed(0)
    forms = torch.rand(1, 3, 10, 10).repeat_interleave(8, -2).repeat_interleave(8, -1) * 0.1
    image, bright = 0.05 + forms, 0.5 + 4 * forms
    smooth = window_mean(bright, 2)  # a model that washed out the edges
    found = matched(image, smooth, 1.0, TASK_SPECS["low light"].detail_for(shortcut=False))
    result = apply_task(image, smooth, "low light", found)

    def fine(x: Tensor) -> Tensor:
        return (x - window_mean(x, 2)).flatten()

    def likeness(x: Tensor, y: Tensor) -> float:
        return torch.corrcoef(torch.stack([fine(x), fine(y)]))[0, 1].item()

    assert likeness(result, image) > 0.9
    assert likeness(result, image) > likeness(smooth, image)
    assert (result.mean() - smooth.mean()).abs() < 0.02


def test_low_light_leaves_faint_noise_behind() -> None:
    """What is fainter than the image's contrast and not in the model's image is noise."""
    torch.manual_seed(0)
    forms = torch.rand(1, 3, 10, 10).repeat_interleave(8, -2).repeat_interleave(8, -1) * 0.1
    noise = 0.01 * torch.randn(1, 3, 80, 80)
    bright = 0.5 + 4 * forms
    image = 0.05 + forms + noise
    result = apply_task(image, bright, "low light", matched(image, bright, 1.0, detail=1.0))
    left = (result - bright).std() / (4 * noise).std()
    assert left < 0.6  # 0.9 with windows of 17 pixels and a floor of 0.02


def image_with_lamps(*shape: int) -> Tensor:
    """Dark, with small bright places of which the last rows have none."""
    lamps = random_image(*shape) > 0.797
    lamps[..., -shape[-2] // 2 :, :] = False
    return (random_image(*shape) * 0.3).maximum(window_max(lamps.float(), 2))


def stats_for(task: Task, image: Tensor, output: Tensor, exposure: float = 1.0) -> ImageStats:
    shortcut = task == "deblur"
    detail = TASK_SPECS[task].detail_for(shortcut=shortcut)
    found = matched(image, output, exposure, detail)
    return found._replace(bounded=is_bounded(task, shortcut))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("exposure", [1.0, 0.5])
def test_a_task_looks_no_further_than_it_says(task: Task, exposure: float) -> None:
    r = reach(task)
    side = 2 * r + 12
    image = image_with_lamps(1, 3, side + 40, side + 40)
    output = random_image(1, 3, side + 40, side + 40, seed=1) + 0.7
    output = output.clamp(max=1)  # white with dark spots
    found = stats_for(task, image, output, exposure)
    whole = apply_task(image, output, task, found)
    part = (..., slice(20, 20 + side), slice(20, 20 + side))
    cut = apply_task(image[part], output[part], task, found)
    inside = cut[..., r : side - r, r : side - r]
    assert inside.shape[-1] == 12
    expected = whole[..., 20 + r : 20 + side - r, 20 + r : 20 + side - r]
    torch.testing.assert_close(inside, expected)
    assert 0 == reach("deblur") < reach("low light") < reach("joint")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("exposure", [1.0, 0.5])
def test_rows_that_are_only_looked_at_are_left_out_step_by_step(
    task: Task, exposure: float
) -> None:
    """To the last bit what the whole image gives, with lamps, without, and at its borders."""
    image = image_with_lamps(1, 3, 300, 40)
    output = random_image(1, 3, 300, 40, seed=1) * 1.3
    found = stats_for(task, image, output, exposure)
    mask = random_image(1, 1, 300, 40, seed=2)
    whole = apply_task(image, output, task, found, strength=0.9, mask=mask)
    r = reach(task)
    for start, stop in ((0, 20), (30, 31), (100, 170), (240, 300)):
        top, bottom = max(start - r, 0), min(stop + r, 300)
        rows = slice(top, bottom)
        result = apply_task(
            image[:, :, rows], output[:, :, rows], task, found,
            strength=0.9, mask=mask[:, :, rows], above=start - top, below=bottom - stop,
        )  # fmt: skip
        assert torch.equal(result, whole[:, :, start:stop]), (start, stop)


def test_an_idle_filter_would_change_nothing() -> None:
    """No lamps in the input: `fill_rims` and its 44 rows around are left out."""
    dark = random_image(1, 3, 60, 60) * 0.4
    lamp = dark.clone()
    lamp[..., 30:40, 30:40] = 0.9
    output = random_image(1, 3, 60, 60, seed=1)
    _, _, idle = FILTERS["fill_rims"]
    assert idle(dark) and not idle(lamp)
    assert torch.equal(fill_rims(dark, output), output)
    assert not torch.equal(fill_rims(lamp, output), output)


def test_joint_has_a_part_of_the_inputs_own_detail(plain: Task) -> None:
    image, output = random_image(1, 3, 30, 30) * 0.3, random_image(1, 3, 30, 30, seed=1)
    assert (
        0
        < TASK_SPECS["joint"].detail_for(shortcut=False)
        < TASK_SPECS["low light"].detail_for(shortcut=False)
        < 1
    )
    none, some, all_of_it = (
        apply_task(image, output, plain, matched(image, output, 1.0, detail))
        for detail in (0.0, 0.25, 1.0)
    )
    assert torch.equal(none, output)
    torch.testing.assert_close(some, torch.lerp(none, all_of_it, 0.25))


def test_a_network_with_the_shortcut_keeps_exposure_and_detail_by_itself() -> None:
    assert [TASK_SPECS[task].exposure_for(shortcut=True) for task in TASKS] == [1.0, 1.0, 1.0]
    assert [TASK_SPECS[task].exposure_for(shortcut=False) for task in TASKS] == [1.0, 0.0, 1.0]
    assert [TASK_SPECS[task].detail_for(shortcut=True) for task in TASKS] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("shortcut", [False, True])
def test_denoise_goes_from_the_inputs_detail_to_the_models(shortcut: bool) -> None:
    """All detail is the input's at 0, the task's share at 1, none at 2; straight lines between."""
    assert MAX_DENOISE == 2
    mine = TaskSpec("mine", "devudp", exposure=1.0, detail=0.3, detail_with_shortcut=0.1, help="")
    for spec in (*ROWS, mine):
        own = spec.detail_for(shortcut)
        for denoise in (0.0, 0.25, 0.5, 1.0, 1.25, 1.5, MAX_DENOISE):
            found = spec.detail_at(denoise, shortcut)
            expected = np.interp(denoise, [0, 1, 2], [1, own, 0]) if own else 0.0
            assert found == pytest.approx(expected, abs=1e-12), (spec.name, denoise)


def test_only_what_keeps_the_inputs_exposure_is_bounded_by_it() -> None:
    assert [is_bounded(task, shortcut=True) for task in TASKS] == [False, True, False]
    assert not any(is_bounded(task, shortcut=False) for task in TASKS)


def test_dots_in_blown_out_lights_are_filled() -> None:
    image, output = torch.full((1, 3, 40, 40), 0.3), torch.full((1, 3, 40, 40), 0.4)
    image[..., 10:30, 10:30], output[..., 10:30, 10:30] = 0.9, 1.0  # a lamp
    clean = output.clone()
    for channel, row, column in ((0, 12, 15), (1, 20, 20), (1, 20, 21), (2, 27, 24)):
        output[0, channel, row, column] = 0.0
    assert torch.equal(fill_dots(image, clean), clean)
    torch.testing.assert_close(fill_dots(image, output), clean)
    stats = matched(image, output, 1.0)
    result, expected = (apply_task(image, x, "joint", stats) for x in (output, clean))
    torch.testing.assert_close(result, expected)


def test_white_stays_white() -> None:
    image = torch.tensor([1.0, 0.98, 0.89, 0.8, 0.2]).view(1, 1, 1, 5).repeat(1, 3, 1, 1)
    tinted = torch.tensor([0.95, 0.85, 0.9]).view(1, 3, 1, 1).expand_as(image) * image
    result = keep_white(image, tinted)
    assert torch.equal(result[..., :2], image[..., :2])
    torch.testing.assert_close(result[..., 2], (image + tinted)[..., 2] / 2)
    assert torch.equal(result[..., 3:], tinted[..., 3:])
    yellow = image * torch.tensor([1.0, 1.0, 0.5]).view(1, 3, 1, 1)
    assert torch.equal(keep_white(yellow, tinted), tinted)  # bright in two colours is not white
    brighter = (image + 0.1).clamp(max=1)
    assert torch.equal(keep_white(image, brighter), brighter)
    for task in ("joint", "low light"):
        found = ImageStats(None, torch.zeros(1, 3, 1, 1))
        assert torch.equal(apply_task(image, tinted, task, found)[..., 0], image[..., 0])


def test_the_models_image_is_clipped_before_the_filters() -> None:
    image, output = random_image(1, 3, 20, 30), random_image(1, 3, 20, 30, seed=1) * 3 - 1
    clipped = output.clamp(0, 1)
    found = matched(image, clipped, 1.0, detail=0.5)
    for task in ("joint", "low light"):
        assert torch.equal(
            apply_task(image, output, task, found), apply_task(image, clipped, task, found)
        )


def test_the_tone_curve_is_blended_with_the_inputs_exposure(plain: Task) -> None:
    image, output = random_image(1, 3, 9, 9) * 0.5, random_image(1, 3, 9, 9, seed=1)
    taken, made = moments(image), moments(output)
    scene = apply_task(image, output, plain, match(taken, made, 1.0, curve=squared()))
    torch.testing.assert_close(scene, output**2)
    own = apply_task(image, output, plain, match(taken, made, 0.0, curve=squared()))
    torch.testing.assert_close(own, apply_task(image, output, plain, match(taken, made, 0.0)))
    half = apply_task(image, output, plain, match(taken, made, 0.5, curve=squared()))
    torch.testing.assert_close(half, (own + scene) / 2)
