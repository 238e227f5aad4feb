"""Hidden pixels and frames: they change nothing, and come back as they were."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from devudp_model.engine import statistics as statistics_module
from devudp_model.engine import strips
from devudp_model.engine.hooks import hooked
from devudp_model.engine.network import Network
from devudp_model.engine.statistics import Moments, channel_moments, moments_of, weighted_moments
from devudp_model.engine.whole import WholeExecution
from devudp_model.network.generator import Generator
from devudp_model.ops.dtypes import from_unit
from devudp_model.restoring.facts import Facts
from devudp_model.restoring.frozen import FrozenRestorer, VideoRestorer
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.scene import SceneModel, features
from devudp_model.restoring.tasks import TASKS, Task
from devudp_model.restoring.validate import is_flat

from .restore_network import FP32, generator, random_image


def with_scene() -> Generator:
    """A network whose results get the curve of a dark scene."""
    net = generator()
    count = len(features(torch.rand(3, 8, 8)))
    scene = SceneModel((0.0,) * count, (1.0,) * count, (0.01,) * count, 0.2)
    net.facts = Facts(scene=scene)
    return net


def cut_out(colour: float | Tensor, size: tuple[int, int] = (72, 96)) -> Tensor:
    """A subject before hidden pixels, with a hole, and a soft edge."""
    alpha = torch.zeros(1, 1, *size)
    alpha[..., 10:60, 8:80] = 1
    alpha[..., 30:40, 30:50] = 0
    alpha[..., 10:14, 8:80] = 0.3
    subject = random_image(1, 3, *size, seed=4) * 0.6
    return torch.cat([torch.where(alpha > 0, subject, torch.as_tensor(colour)), alpha], 1)


def framed(inner: Tensor, colour: float = 0.0, width: int = 6) -> Tensor:
    height, length = (n + 2 * width for n in inner.shape[2:])
    image = torch.full((*inner.shape[:2], height, length), colour)
    image[..., width:-width, width:-width] = inner
    return image


HIDDEN = (0.0, 1.0, random_image(1, 3, 72, 96, seed=9))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("dtype", "memory"),
    [(torch.float32, None), (torch.uint16, None), (torch.float32, 10**5), (torch.uint8, 10**5)],
)
def test_the_colour_of_hidden_pixels_changes_no_byte(
    task: Task, dtype: torch.dtype, memory: int | None
) -> None:
    net = with_scene() if task != "deblur" else generator("devudp-dt")
    options = Options(task, precision="fp32", memory=memory, strength=0.8)
    results = [restore(from_unit(cut_out(colour), dtype), net, options) for colour in HIDDEN]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    image = from_unit(cut_out(0.0), dtype)
    assert torch.equal(results[0][:, 3], image[:, 3])
    assert not torch.equal(results[0][..., 20:30, 60:70], image[..., 20:30, 60:70])


def test_hidden_pixels_of_a_batch_with_common_statistics() -> None:
    options = dataclasses.replace(FP32, statistics="shared")
    other = torch.cat([random_image(1, 3, 72, 96), torch.ones(1, 1, 72, 96)], 1)
    results = [restore(torch.cat([cut_out(c), other]), with_scene(), options) for c in HIDDEN]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_a_small_subject_decides_and_not_the_canvas_round_it() -> None:
    """What is far from the hidden pixels comes out as without them."""
    subject = random_image(1, 3, 40, 200, seed=4) * 0.5
    alone = restore(subject, with_scene(), FP32)
    canvas = torch.full((1, 4, 160, 320), 0.9)
    canvas[:, 3] = 0
    canvas[:, :3, 60:100, 40:240], canvas[:, 3, 60:100, 40:240] = subject, 1
    result = restore(canvas, with_scene(), FP32)[:, :3, 60:100, 40:240]
    torch.testing.assert_close(result, alone, rtol=0, atol=1e-5)


def test_where_nothing_is_restored_hidden_pixels_keep_their_colour() -> None:
    image = cut_out(random_image(1, 3, 72, 96, seed=9))
    assert torch.equal(restore(image, generator(), dataclasses.replace(FP32, strength=0.0)), image)
    mask = torch.zeros(1, 1, 72, 96)
    mask[..., 48:] = 1
    result = restore(image, generator(), FP32, mask=mask)
    assert torch.equal(result[..., :48], image[..., :48])
    assert not torch.equal(result[:, :3, :, 48:], image[:, :3, :, 48:])


def test_nothing_visible_comes_back_as_it_is() -> None:
    image = torch.cat([random_image(1, 3, 40, 50), torch.zeros(1, 1, 40, 50)], 1)
    assert torch.equal(restore(image, generator(), FP32), image)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("colour", [0.0, 1.0])
@pytest.mark.parametrize("width", [1, 6, 24])
def test_frames_stay_and_what_is_within_is_restored_alone(
    task: Task, colour: float, width: int
) -> None:
    net = with_scene() if task != "deblur" else generator("devudp-dt")
    inner = random_image(1, 3, 60, 80) * 0.5
    image, options = framed(inner, colour, width), Options(task, precision="fp32")
    result = restore(image, net, options).clone()
    within = (..., slice(width, -width), slice(width, -width))
    assert torch.equal(result[within], restore(inner, net, options))
    result[within] = inner
    assert torch.equal(result, image)


def test_a_frame_with_mask_and_alpha() -> None:
    inner = random_image(1, 3, 60, 80) * 0.5
    mask = random_image(1, 1, 72, 92, seed=3)
    result = restore(framed(inner), with_scene(), FP32, mask=mask)
    expected = restore(inner, with_scene(), FP32, mask=mask[..., 6:-6, 6:-6])
    assert torch.equal(result[..., 6:-6, 6:-6], expected)
    opaque = torch.cat([framed(inner), torch.ones(1, 1, 72, 92)], 1)
    assert torch.equal(restore(opaque, with_scene(), FP32, mask=mask)[:, :3], result)


def test_whole_rows_are_shown_frame_by_frame() -> None:
    image = framed(random_image(2, 3, 60, 80) * 0.5)
    shown: list[tuple[Tensor, int, int]] = []

    def finished(rows: Tensor, start: int, height: int) -> None:
        shown.append((rows.clone(), start, height))

    with hooked(finished=finished):
        result = restore(image, with_scene(), dataclasses.replace(FP32, statistics="shared"))
    frames: list[list[Tensor]] = []
    for rows, start, height in shown:
        assert height == 72 and rows.shape[3] == 92
        if start == 0:
            frames.append([])
        assert start == sum(part.shape[2] for part in frames[-1])
        frames[-1].append(rows)
    assert torch.equal(torch.cat([torch.cat(parts, 2) for parts in frames]), result)


def test_frames_of_a_video_have_one_region_and_bars_stay() -> None:
    frames = framed(random_image(3, 3, 60, 80) * 0.5)
    video = VideoRestorer(with_scene(), frames, FP32)
    expected = restore(frames, with_scene(), dataclasses.replace(FP32, statistics="shared"))
    for frame, wanted in zip(frames.split(1), expected.split(1), strict=True):
        torch.testing.assert_close(video(frame), wanted, rtol=0, atol=1e-5)
        assert torch.equal(video(frame)[..., :6, :], frame[..., :6, :])
    subtitle = frames[:1].clone()
    subtitle[..., 68:71, 20:60] = 0.9
    assert torch.equal(video(subtitle)[..., 66:, :], subtitle[..., 66:, :])
    torch.testing.assert_close(video(subtitle)[..., :66, :], video(frames[:1])[..., :66, :])


def test_hidden_pixels_of_frames_with_kept_statistics() -> None:
    frozen = FrozenRestorer(with_scene(), cut_out(0.0), FP32, pieces=False)
    results = [frozen(cut_out(colour)) for colour in HIDDEN]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_all_frames_and_tiles_have_the_same_curve() -> None:
    frames = random_image(2, 3, 64, 64) * torch.tensor([0.1, 0.5]).view(2, 1, 1, 1)
    frozen = FrozenRestorer(with_scene(), frames, FP32)
    curve = frozen.matched.curve
    assert curve is not None and curve.gain.shape == curve.black.shape == (1, 3, 1, 1)
    whole = restore(frames, with_scene(), dataclasses.replace(FP32, statistics="shared"))
    for index in range(2):
        result = frozen(frames[index : index + 1])
        torch.testing.assert_close(result[0], whole[index], rtol=0, atol=1e-5)


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_a_lens_cap_comes_back_as_it_is(levels: int, dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    noise = (2 + levels * torch.randn(1, 3, 96, 128, generator=rng)).clamp(0, 255).round() / 255
    image = from_unit(noise, dtype)
    assert is_flat(image)
    assert torch.equal(restore(image, with_scene(), FP32), image)


def test_a_dim_scene_and_a_faint_pattern_are_no_lens_cap() -> None:
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 3, 96, 128, generator=rng)
    scene = torch.linspace(0, 3, 128).expand(1, 3, 96, 128)
    assert not is_flat((2 + scene + noise).clamp(min=0) / 255)
    stars = (2 + noise).clamp(min=0) / 255
    stars[..., 10::30, 10::40] = 0.5
    assert not is_flat(stars)
    checks = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(48, 64).expand(1, 3, 96, 128)
    assert not is_flat(0.1 + 0.04 * checks)


def test_black_frames_of_a_video_do_not_count() -> None:
    black = (torch.randint(0, 3, (1, 3, 72, 96)) / 255).float()
    scene = random_image(1, 3, 72, 96) * 0.5
    video, alone = (
        VideoRestorer(with_scene(), sample, FP32) for sample in (torch.cat([black, scene]), scene)
    )
    assert torch.equal(video(scene), alone(scene))
    pause = VideoRestorer(with_scene(), black, FP32)
    assert torch.equal(pause(black), black)


def test_weighted_moments_are_those_of_what_is_visible() -> None:
    x = random_image(2, 3, 12, 20)
    weights = (random_image(2, 1, 12, 20, seed=1) > 0.4).float()
    found = weighted_moments(x, weights)
    seen = x.movedim(1, 0).flatten(1)[:, weights.flatten() > 0]
    assert found.size == seen.shape[1]
    torch.testing.assert_close(found.mean.flatten(), seen.mean(1))
    torch.testing.assert_close(found.var.flatten(), seen.var(1, correction=0))
    parts = moments_of(
        lambda i: x[:, :, 4 * i : 4 * i + 4], 3, lambda i: weights[:, :, 4 * i : 4 * i + 4]
    )
    torch.testing.assert_close(parts.mean, found.mean)
    torch.testing.assert_close(parts.var, found.var)
    plain = moments_of(lambda i: x, 1)
    assert torch.equal(plain.mean, channel_moments(x).mean)
    assert weighted_moments(x, weights * 0).mean.abs().max() == 0


def frozen_in(network: Network) -> list[Moments]:
    """The statistics that a run of a network has kept."""
    places: list[Any] = [*network.frozen, network.frozen_image]
    return [place.moments for place in places if place.moments is not None]


def kept_of(image: Tensor, weights: Tensor, **changes: Any) -> list[Moments]:
    network = Network(generator(), torch.float32)
    network(image, weights=weights, freeze=True, **changes)
    return frozen_in(network)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("memory", [None, 52 * 2**20])
def test_weighted_statistics_do_not_depend_on_strips_or_threads(
    threads: int, memory: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, weights = random_image(1, 3, 150, 90), random_image(1, 1, 150, 90, seed=1)
    monkeypatch.setattr(statistics_module, "GROUP_NUMBERS", 2**11)
    expected = kept_of(image, weights)
    monkeypatch.setattr(strips, "CACHE_BYTES", 2**18)
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = kept_of(image, weights, memory=memory)
    finally:
        torch.set_num_threads(usual)
    assert len(found) == len(expected) > 10
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.mean, other.mean) and torch.equal(one.var, other.var)


def test_whole_features_have_the_same_weighted_statistics() -> None:
    image, weights = random_image(2, 3, 36, 44), random_image(2, 1, 36, 44, seed=1)
    network = Network(generator(), torch.float32)
    execution = WholeExecution(network, image, True, weights)
    execution.run(torch.empty(2, 3, 36, 44))
    for place, moments in execution.to_freeze:
        place.freeze(moments)
    found, expected = frozen_in(network), kept_of(image, weights)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.mean, other.mean, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(one.var, other.var, rtol=1e-3, atol=1e-4)
