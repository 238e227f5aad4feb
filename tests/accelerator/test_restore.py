"""Restoring on an accelerator gives the processor's images, wherever the input lies."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from devudp_model.engine import statistics
from devudp_model.engine.output_cache import OutputCache
from devudp_model.engine.precision import Precision
from devudp_model.network.generator import Generator, Variant
from devudp_model.ops.filters import SHARPEN
from devudp_model.restoring.auto import choose
from devudp_model.restoring.frozen import FrozenRestorer, VideoRestorer
from devudp_model.restoring.options import Options, Statistics
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.tasks import TASK_SPECS, TASKS, Task
from tests.accelerator.conftest import photos, small_generator

TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1}
"""How far strips of another size may round otherwise: see docs/performance.md."""


def agree(
    there: Tensor, here: Tensor, precision: Precision, device: torch.device, task: Task = "deblur"
) -> None:
    """The most that pixels differ by grows with the contrast that a task's sharpening adds."""
    contrast = 1 + SHARPEN * ("sharpen" in TASK_SPECS[task].before)
    assert there.device == device and there.dtype == here.dtype
    difference = (there.cpu() - here).abs()
    assert difference.max() < TOLERANCE[precision] * contrast
    assert difference.mean() < TOLERANCE[precision] / 10


def generator_for(task: Task) -> Generator:
    return small_generator(TASK_SPECS[task].variant)


@pytest.mark.parametrize(
    "precision", ["fp32", *(pytest.param(p, marks=pytest.mark.slow) for p in ("fp16", "bf16"))]
)
@pytest.mark.parametrize("task", TASKS)
def test_every_task_and_precision(
    task: Task, precision: Precision, device: torch.device, coarser: None
) -> None:
    net, images = generator_for(task), photos(1, 3, 44, 52)
    options = Options(task, precision=precision)
    expected = restore(images, net, options)
    net.to(device)
    for home in (torch.device("cpu"), device):
        agree(restore(images.to(home), net, options), expected, precision, home, task)


CASES: dict[str, tuple[tuple[int, ...], Options]] = {
    "grey": ((1, 1, 30, 41), Options("low light")),
    "alpha": ((1, 4, 30, 41), Options("joint")),
    "one pixel": ((1, 3, 1, 1), Options("joint")),
    "own exposure": ((1, 3, 30, 41), Options("joint", exposure=0.3, denoise=0.7)),
    "part": ((1, 3, 30, 41), Options("deblur", strength=0.6)),
    "shared": ((3, 3, 24, 33), Options("joint", statistics="shared")),
    "each image": ((2, 3, 24, 33), Options("low light", statistics="each image")),
    "shared deblur": ((2, 3, 44, 48), Options("deblur", statistics="shared")),
    "bounded": ((1, 3, 64, 48), Options("joint", memory=1)),
    "bounded deblur": ((1, 3, 64, 48), Options("deblur", memory=1)),
    "bounded by half": ((1, 3, 64, 48), Options("joint", memory=48 * 2**20 + 2**19)),
    "other network": ((1, 3, 44, 48), Options("low light")),
}


MIXED = ("shared", "each image", "part")
"""Cases in which image and mask lie on two devices, too."""


@pytest.mark.parametrize("masked", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_every_option(name: str, masked: bool, device: torch.device, coarser: None) -> None:
    shape, options = CASES[name]
    options = replace(options, precision="fp32")
    net = small_generator("devudp-dt") if name == "other network" else generator_for(options.task)
    images = photos(*shape)
    mask = torch.linspace(0, 1, 11).expand(shape[0], 9, 11) if masked else None
    expected = restore(images, net, options, mask=mask)
    net.to(device)
    cpu = torch.device("cpu")
    places = [(cpu, cpu), (device, device)]
    places += [(cpu, device), (device, cpu)] if name in MIXED and masked else []
    for home, where in places:
        there = None if mask is None else mask.to(where)
        agree(restore(images.to(home), net, options, mask=there), expected, "fp32", home)


@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
def test_an_accelerator_without_the_kernel_behind_batchnorm(
    variant: Variant, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apple's, for instance."""
    monkeypatch.setattr(statistics, "BATCH_NORM_STATS", frozenset())
    net, images = small_generator(variant), photos(1, 3, 30, 41)
    options = Options("joint", precision="fp32")
    expected = restore(images, net, options)
    agree(restore(images.to(device), net.to(device), options), expected, "fp32", device)


def test_what_overflows_is_computed_again_in_fp32(device: torch.device) -> None:
    net, images = small_generator("devudp-dt"), photos(1, 3, 30, 41)
    net.stem.conv.weight.mul_(1e7)
    assert isinstance(net.stem.norm, torch.nn.BatchNorm2d)
    net.stem.norm.running_var.fill_(1e14)  # pyright: ignore
    net.encode1[0].conv1.weight.mul_(1e7)  # pyright: ignore
    options = Options("deblur", precision="fp16")
    expected = restore(images, net, options)
    agree(restore(images.to(device), net.to(device), options), expected, "fp32", device)


def test_kept_outputs_lie_in_main_memory(device: torch.device) -> None:
    net, images = small_generator("devudp").to(device), photos(1, 3, 30, 41)
    cache = OutputCache(10**6)
    first = restore(images.to(device), cache.network(net, torch.float32))
    assert all(output.device.type == "cpu" for output in cache.outputs.values())
    again = restore(images.to(device), cache.network(net, torch.float32))
    assert cache.hits == 1 and torch.equal(first, again)
    assert torch.equal(first, restore(images.to(device), net, Options(precision="fp32")))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("task", TASKS)
def test_pieces_with_the_whole_images_statistics(
    task: Task, precision: Precision, device: torch.device, coarser: None
) -> None:
    net, images, options = (
        generator_for(task),
        photos(1, 3, 40, 60),
        Options(task, precision=precision),
    )
    here = FrozenRestorer(copy.deepcopy(net), images, options)
    piece = (..., slice(0, 24), slice(8, 60))
    expected = here(images[piece], here.given[piece])
    net.to(device)
    for home in (torch.device("cpu"), device):
        there = FrozenRestorer(net, images.to(home), options)
        for place in (torch.device("cpu"), device):
            given = there.given[piece].to(place)
            agree(there(images[piece].to(place), given), expected, precision, place)
        agree(there(images.to(home)), here(images), precision, home)


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_frames_of_a_video(task: Task, masked: bool, device: torch.device, coarser: None) -> None:
    net, frames, options = (
        generator_for(task),
        photos(4, 3, 40, 44),
        Options(task, precision="fp32"),
    )
    mask = torch.linspace(0, 1, 44).expand(40, 44) if masked else None
    here = VideoRestorer(copy.deepcopy(net), frames[:2], options)
    expected = here(frames[3:], mask)
    for home in (torch.device("cpu"), device):
        video = VideoRestorer(net.to(device), frames[:2].to(home), options)
        agree(video(frames[3:].to(home), mask), expected, "fp32", home)
        video.set_memory(1)
        agree(video(frames[3:].to(home), mask), expected, "fp32", home)
        if masked:
            there = None if mask is None else mask.to(device)
            agree(video(frames[3:].to(home), there), expected, "fp32", home)


@pytest.mark.parametrize("statistics", ["each image", "shared"])
def test_frames_without_contrast(statistics: Statistics, device: torch.device) -> None:
    net, black = small_generator("devudp").to(device), torch.zeros(2, 3, 20, 24, device=device)
    assert torch.equal(restore(black, net, Options(statistics=statistics)), black)
    assert torch.equal(VideoRestorer(net, black, Options())(black[:1]), black[:1])


def test_what_images_need_is_found_where_they_lie(device: torch.device) -> None:
    for images in (photos(2, 3, 60, 80) * 0.1, photos(1, 1, 33, 40), torch.zeros(1, 3, 9, 9)):
        here, there = choose(images).as_dict(), choose(images.to(device)).as_dict()
        assert here == pytest.approx(there, abs=1e-4)


def test_weights_that_change_are_packed_again(device: torch.device) -> None:
    """What is kept of a network is known by its weights, also by those of another device."""
    net, images = small_generator("devudp"), photos(1, 3, 30, 41)
    before = restore(images, net.to(device))
    net.head.weight.neg_()
    after = restore(images, net)
    net.to("cpu")
    torch.testing.assert_close(restore(images, net), after, atol=1e-4, rtol=0)
    assert (before - after).abs().max() > 0.01
