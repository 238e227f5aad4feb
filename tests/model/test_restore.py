"""restore() and freeze(): every shape, type and option, and any memory."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from devudp_model.bands import rows as image_rows
from devudp_model.engine.statistics import channel_moments
from devudp_model.network.generator import STRIDE, Generator
from devudp_model.ops.dtypes import from_unit, to_unit
from devudp_model.ops.filters import noise_variance
from devudp_model.ops.fringes import calm_colours
from devudp_model.restoring import coarse_to_fine as coarse
from devudp_model.restoring import restoration
from devudp_model.restoring.compose import apply_task
from devudp_model.restoring.frozen import FrozenRestorer, VideoRestorer
from devudp_model.restoring.image_stats import match
from devudp_model.restoring.options import Options, Statistics
from devudp_model.restoring.tasks import TASK_SPECS, TASKS, Task
from devudp_model.restoring.validate import is_flat
from tests.model.restore_network import FP32, generator, random_image


@pytest.fixture(autouse=True)
def small_images_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deblurring begins coarse with images as small as those of these tests."""
    monkeypatch.setattr(coarse, "MIN_SIDE", 32)


def direct(net: Generator, image: Tensor) -> Tensor:
    """The generator's image of 3 channels, as it is."""
    with torch.no_grad():
        return (net(image * 2 - 1) + 1) / 2


def joint(net: Generator, image: Tensor) -> Tensor:
    """The joint task on the generator's image, image by image."""
    results = []
    for one, output in zip(image.split(1), direct(net, image).split(1), strict=True):
        moments = (channel_moments(one), channel_moments(output))
        found = match(*moments, 1.0, TASK_SPECS["joint"].detail, noise=noise_variance(one))
        results.append(apply_task(one, output, "joint", found))
    return torch.cat(results)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3), (33, 50)])
def test_every_shape(size: tuple[int, int], channels: int, task: Task) -> None:
    image = random_image(2, channels, *size)
    before = image.clone()
    options = Options(task=task, exposure=0.5, precision="fp32")
    result = restoration.restore(image, generator(), options, mask=random_image(5, 4))
    assert result.shape == image.shape and result.dtype == image.dtype
    assert result.isfinite().all() and result.min() >= 0 and result.max() <= 1
    assert torch.equal(image, before)
    if channels == 4:
        assert torch.equal(result[:, 3], image[:, 3])


def test_the_joint_task() -> None:
    net, image = generator(), random_image(2, 3, 37, 29)
    result = restoration.restore(image, net, FP32)
    assert (result - joint(net, image)).abs().max() < 1e-4


def test_the_generators_very_image() -> None:
    net, image = generator(), random_image(2, 3, 37, 29)
    result = restoration.restore(image, net, Options("deblur", exposure=1, precision="fp32"))
    assert (result - direct(net, image)).abs().max() < 1e-4


def test_deblur_is_the_generators_image_within_what_the_input_has_nearby() -> None:
    net, image = generator("devudp-dt"), random_image(2, 3, 70, 80) * 0.3 + 0.3
    output = direct(net, image)
    result = restoration.restore(image, net, Options("deblur", coarse=False, precision="fp32"))
    expected = calm_colours(image, output)
    assert (result - expected).abs().max() < 1e-4
    assert (result - output).abs().max() > 0.01  # something was cut


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_types(dtype: torch.dtype) -> None:
    net, image = generator(), random_image(1, 3, 20, 20).to(dtype)
    result = restoration.restore(image, net, FP32)
    assert result.dtype == dtype
    assert (result.float() - joint(net, image.float())).abs().max() < 1e-2


def test_grey_is_the_mean_of_its_colours() -> None:
    net, image = generator(), random_image(1, 1, 20, 24)
    result = restoration.restore(image, net, FP32)
    expected = joint(net, image.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
    assert (result - expected).abs().max() < 1e-4


def test_an_empty_batch_comes_back() -> None:
    assert restoration.restore(torch.zeros(0, 3, 5, 5), generator()).shape == (0, 3, 5, 5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("channels", [3, 4])
def test_a_flat_coloured_image_comes_back_as_it_is(task: Task, channels: int) -> None:
    """Each channel counts on its own: this one has no contrast, whatever lies between channels."""
    colour = torch.tensor([40, 80, 160, 200.0])[:channels].view(1, -1, 1, 1) / 255
    image = colour.expand(1, channels, 24, 32).contiguous()
    assert torch.equal(restoration.restore(image, generator(), Options(task)), image)


@pytest.mark.parametrize("task", TASKS)
def test_a_single_pixel_makes_no_contrast(task: Task) -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, 7, 9] = 1 / 255
    assert torch.equal(restoration.restore(image, generator(), Options(task)), image)
    image[:, :, 10:20, 10:20] = 1  # and this does
    assert not is_flat(image)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_image_without_contrast_comes_back_as_it_is(value: float) -> None:
    image = torch.full((1, 3, 16, 20), value)
    assert torch.equal(restoration.restore(image, generator(), FP32), image)
    assert is_flat(image) and not is_flat(image + random_image(1, 3, 16, 20) / 255)


def test_strength_and_mask() -> None:
    net, image = generator(), random_image(2, 3, 16, 20)
    full = restoration.restore(image, net, FP32)
    half = restoration.restore(image, net, dataclasses.replace(FP32, strength=0.5))
    torch.testing.assert_close(half, (image + full) / 2)
    mask = torch.zeros(16, 20)
    mask[:8] = 1
    for shaped in (mask, mask[None], mask[None, None], mask.expand(2, 16, 20)):
        result = restoration.restore(image, net, FP32, mask=shaped)
        torch.testing.assert_close(result[:, :, :8], full[:, :, :8])
        assert torch.equal(result[:, :, 8:], image[:, :, 8:])
    each = torch.stack([mask, 1 - mask])
    result = restoration.restore(image, net, FP32, mask=each)
    assert torch.equal(result[0, :, 8:], image[0, :, 8:])
    assert torch.equal(result[1, :, :8], image[1, :, :8])


def test_a_mask_of_another_size_is_resized() -> None:
    net, image = generator(), random_image(1, 3, 16, 20)
    ones, full = torch.ones(64, 64), restoration.restore(image, net, FP32)
    torch.testing.assert_close(restoration.restore(image, net, FP32, mask=ones), full)


def test_each_image_has_its_own_statistics_unless_they_are_shared() -> None:
    net = generator()
    image = torch.cat([random_image(1, 3, 24, 24) * 0.2, random_image(1, 3, 24, 24, seed=1)])
    alone = torch.cat([restoration.restore(x[None], net, FP32) for x in image])
    assert torch.equal(restoration.restore(image, net, FP32), alone)
    shared = restoration.restore(image, net, dataclasses.replace(FP32, statistics="shared"))
    assert (shared - alone).abs().max() > 0.01
    assert shared[0].mean() != pytest.approx(shared[1].mean().item(), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("statistics", ["each image", "shared"])
def test_any_memory_gives_the_same(
    task: Task, statistics: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = generator("devudp-dt" if task == "deblur" else "devudp")
    image = random_image(2, 4, 161, 147)
    options = Options(task=task, precision="fp32", statistics=statistics, exposure=0.3)
    whole = restoration.restore(image, net, options)
    for memory, strip in ((1, 500), (100_000, 100), (10**9, 1)):
        monkeypatch.setattr(image_rows, "BAND_PIXELS", strip)
        bounded = restoration.restore(image, net, dataclasses.replace(options, memory=memory))
        assert (bounded - whole).abs().max() < 1e-4


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("dtype", [torch.uint8, pytest.param(torch.uint16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_in_its_files_own_depth_gives_the_same_to_the_bit(
    task: Task, dtype: torch.dtype, channels: int
) -> None:
    """In memory pixel after pixel, as files have it; with any memory limit."""
    net = generator("devudp-dt" if task == "deblur" else "devudp")
    stored = from_unit(random_image(1, channels, 75, 83), dtype)
    stored = stored.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for options in (FP32, dataclasses.replace(FP32, strength=0.5, memory=1)):
        options = dataclasses.replace(options, task=task)
        wanted = restoration.restore(to_unit(stored), net, options)
        found = restoration.restore(stored, net, options)
        assert found.dtype == dtype and found.stride() == stored.stride()
        assert torch.equal(to_unit(found[:, :3]), to_unit(from_unit(wanted[:, :3], dtype)))
        assert (found[:, :3].float() != stored[:, :3].float()).any()
        assert channels < 4 or torch.equal(to_unit(found[:, 3]), to_unit(stored[:, 3]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("size", [(75, 83), (40, 40)])
def test_a_mask_in_its_files_own_depth_gives_the_same_to_the_bit(
    dtype: torch.dtype, size: tuple[int, int]
) -> None:
    net, image = generator(), random_image(1, 3, 75, 83)
    mask = from_unit(random_image(1, 1, *size), dtype)
    wanted = restoration.restore(image, net, FP32, mask=to_unit(mask))
    assert torch.equal(restoration.restore(image, net, FP32, mask=mask), wanted)
    video = VideoRestorer(net, image, FP32)
    assert torch.equal(video(image, mask), video(image, to_unit(mask)))


@pytest.mark.parametrize("task", TASKS)
def test_a_frame_in_its_files_own_depth_with_kept_statistics(task: Task) -> None:
    net = generator("devudp-dt" if task == "deblur" else "devudp")
    frame = from_unit(random_image(1, 3, 75, 83), torch.uint8)
    options = dataclasses.replace(FP32, task=task)
    wanted = VideoRestorer(net, to_unit(frame), options)(to_unit(frame))
    for memory in (None, 10**6):
        video = VideoRestorer(net, frame, dataclasses.replace(options, memory=memory))
        assert torch.equal(video(frame), from_unit(wanted, torch.uint8))


def test_progress_after_each_image_and_interruption() -> None:
    net, image, calls = generator(), random_image(3, 3, 8, 8), []
    restoration.restore(image, net, FP32, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]

    class Interrupted(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        restoration.restore(image, net, FP32, progress=interrupt)


@pytest.mark.parametrize(
    "task", [pytest.param(t, marks=[pytest.mark.slow] * (t == "deblur")) for t in TASKS]
)
def test_frozen_tiles_are_pieces_of_the_whole(task: Task) -> None:
    if task == "deblur":  # large and blurred enough to begin with a smaller image
        net = generator("devudp-dt")
        image = F.interpolate(random_image(1, 3, 94, 90), scale_factor=4.0, mode="bilinear")
    else:
        net, image = generator("devudp"), random_image(1, 3, 160, 148)
    options = Options(task=task, precision="fp32", exposure=0.4, strength=0.9)
    frozen = FrozenRestorer(net, image, options)
    given = frozen.given
    assert torch.equal(given, image) == (task != "deblur")
    whole = restoration.restore(image, net, options)
    assert frozen.overlap % STRIDE == 0 and frozen.overlap >= frozen.network.layers.radius
    torch.testing.assert_close(frozen(image), whole, atol=1e-5, rtol=0)
    top, edge = 20, frozen.overlap
    tile = frozen(image[:, :, top:, :], given=given[:, :, top:, :])
    torch.testing.assert_close(tile[:, :, edge:], whole[:, :, top + edge :], atol=1e-4, rtol=0)


def test_frozen_for_other_frames_and_channels() -> None:
    net, frames = generator(), random_image(3, 3, 24, 24)
    shared = dataclasses.replace(FP32, statistics="shared")
    frozen = FrozenRestorer(net, frames, shared)
    torch.testing.assert_close(frozen(frames), restoration.restore(frames, net, shared))
    rgba = torch.cat([frames, frames[:, :1]], 1)
    assert torch.equal(frozen(rgba)[:, 3], frames[:, 0])
    assert frozen(frames[:, :1].half()).shape == (3, 1, 24, 24)
