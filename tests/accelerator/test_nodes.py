"""All nodes in a stand-in host that computes on an accelerator and keeps images here or there."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from devudp_model.checkpoint import save_checkpoint
from devudp_model.restoring.tasks import TASK_SPECS, TASKS
from tests.accelerator.conftest import photos, small_generator
from tests.accelerator.counts import NAME, STATE, watching_memory
from tests.host.fakes import Pack, load_pack

pytestmark = pytest.mark.slow  # they take seconds together

CPU = torch.device("cpu")
TASK_CHOICES = (*TASKS, "auto")


@pytest.fixture(params=["old", "new"])
def pack(
    request: pytest.FixtureRequest,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Pack:
    """The pack, with small weights in place of the bundled ones."""
    pack = load_pack(monkeypatch, request.param, str(tmp_path))
    for variant in ("devudp", "devudp-dt"):
        save_checkpoint(tmp_path / f"{variant}.safetensors", small_generator(variant), {})
    monkeypatch.setattr(
        pack.module("nodes.checkpoints"),
        "bundled",
        lambda variant: tmp_path / f"{variant}.safetensors",
    )
    stats = pack.module("devudp_model.engine.statistics")
    monkeypatch.setattr(stats, "BATCH_NORM_STATS", {NAME})
    monkeypatch.setattr(pack.module("devudp_model.restoring.coarse_to_fine"), "MIN_SIDE", 20)
    gc.collect()
    return pack


def compute_on(pack: Pack, device: torch.device, images: torch.device) -> None:
    pack.management.get_torch_device = lambda: device
    pack.management.intermediate_device = lambda: images


def host_image(pack: Pack, *shape: int) -> Tensor:
    """IMAGE B,H,W,C as the host gives it."""
    count, height, width, channels = shape
    dtype = getattr(pack.management, "intermediate_dtype", lambda: torch.float32)()
    return photos(count, channels, height, width).movedim(1, -1).contiguous().to(dtype)


def agree(there: Tensor, here: Tensor, home: torch.device) -> None:
    assert there.device == home and there.dtype == here.dtype and there.shape == here.shape
    assert (there.cpu().float() - here.float()).abs().max() < 0.01


def leaves_nothing(taken: int) -> bool:
    gc.collect()
    return STATE.in_use() == taken


@pytest.mark.parametrize("task", TASK_CHOICES)
@pytest.mark.parametrize("shared", ["each image", "shared"])
def test_restore(task: str, shared: str, pack: Pack, device: torch.device) -> None:
    node, image = pack.nodes["DEvUDPRestore"], host_image(pack, 2, 40, 44, 4)
    mask = torch.linspace(0, 1, 40)[:, None].expand(1, 40, 44)
    widgets = (task, "bundled", 0.9, 1.0, "fp32", shared)
    compute_on(pack, CPU, CPU)
    expected = node.execute(image, *widgets, mask=mask).args[0]
    for home in (CPU, device):
        compute_on(pack, device, home)
        given, where = image.to(home), mask.to(home)
        taken = STATE.in_use()
        result = node.execute(given, *widgets, mask=where).args[0]
        agree(result, expected, home)
        if home == CPU and shared == "each image":  # by outputs that were kept
            assert torch.equal(node.execute(given, *widgets, mask=where).args[0], result)
        del result
        assert leaves_nothing(taken)


@pytest.mark.parametrize("pack", ["new"], indirect=True)
@pytest.mark.parametrize("task", TASK_CHOICES)
def test_upscale_model(task: str, pack: Pack, device: torch.device) -> None:
    """Tiles as the host cuts them; afterwards it moves the model away."""
    node, image = pack.nodes["DEvUDPLoadUpscaleModel"], host_image(pack, 1, 48, 60, 3)
    image = image.float()
    parts = (slice(0, 32), slice(16, 48))

    def tiles(home: torch.device) -> list[Tensor]:
        model = node.execute(task, "bundled", 1.0, 1.0, "fp32", image.to(home)).args[0]
        model.to(pack.management.get_torch_device())
        place = pack.management.get_torch_device()
        cut = image.movedim(-1, 1)
        done = [model(cut[:, :, part].to(place)).cpu() for part in parts]
        model.to(CPU)
        gc.collect()
        stays.append(STATE.in_use() - (image.nbytes if home != CPU else 0))
        return done

    stays: list[int] = []
    compute_on(pack, CPU, CPU)
    expected = tiles(CPU)
    for home in (CPU, device):
        compute_on(pack, device, home)
        for there, here in zip(tiles(home), expected, strict=True):
            agree(there, here, CPU)
    assert stays == [0, 0, 0]


@pytest.mark.parametrize("pack", ["new"], indirect=True)
def test_upscale_model_without_an_image(pack: Pack, device: torch.device) -> None:
    node, image = pack.nodes["DEvUDPLoadUpscaleModel"], photos(1, 3, 40, 44)
    compute_on(pack, device, CPU)
    model = node.execute("deblur", "bundled", 1.0, 1.0, "fp16").args[0]
    there = model.to(device)(image.to(device))
    assert there.device == device
    agree(there, model.to(CPU)(image), device)


@pytest.mark.parametrize("pack", ["new"], indirect=True)
def test_degrade(pack: Pack, device: torch.device) -> None:
    node, image = pack.nodes["DEvUDPDegrade"], host_image(pack, 2, 24, 28, 4)
    compute_on(pack, CPU, CPU)
    expected = node.execute(image, 5.0, 0.3, 0.02, 7).args[0]
    for home in (CPU, device):
        compute_on(pack, device, home)
        agree(node.execute(image.to(home), 5.0, 0.3, 0.02, 7).args[0], expected, home)


@pytest.mark.parametrize("pack", ["new"], indirect=True)
@pytest.mark.parametrize("homes", [("cpu", NAME), (NAME, "cpu"), (NAME, NAME)])
def test_measure(homes: tuple[str, str], pack: Pack, device: torch.device) -> None:
    node, image = pack.nodes["DEvUDPMeasure"], host_image(pack, 1, 24, 28, 3)
    worse = (image * 0.9).clamp(0, 1)
    expected = node.execute(image, worse).args
    compute_on(pack, device, device)
    found = node.execute(image.to(homes[0]), worse.to(homes[1])).args
    assert found == pytest.approx(expected, abs=1e-4)


@dataclass
class Components:
    """The host's: what a video is made of."""

    images: Tensor


class Video:
    """The host's VIDEO that is made of frames."""

    def __init__(self, components: Components):
        self.components = components

    def get_components(self) -> Components:
        return self.components


@pytest.mark.parametrize("pack", ["new"], indirect=True)
@pytest.mark.parametrize("task", TASK_CHOICES)
def test_restore_video(
    task: str, pack: Pack, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pack.module("nodes.restore_video")
    monkeypatch.setattr(module.host, "video_types", lambda: (Pack, Video))
    node, frames = module.DEvUDPRestoreVideo, host_image(pack, 4, 40, 44, 3)

    def run(home: torch.device) -> Tensor:
        video = Video(Components(frames.to(home)))
        restored = node.execute(video, task, "bundled", 1.0, 1.0, "fp32").args[0]
        return restored.get_components().images

    compute_on(pack, CPU, CPU)
    expected = run(CPU)
    for home in (CPU, device):
        compute_on(pack, device, home)
        agree(run(home), expected, home)
        assert leaves_nothing(0)


@pytest.mark.parametrize("pack", ["new"], indirect=True)
def test_nothing_stays_when_memory_runs_out(pack: Pack, device: torch.device) -> None:
    """The host's weights go back to the processor, whatever happens."""
    node, image = pack.nodes["DEvUDPRestore"], host_image(pack, 1, 40, 44, 3)
    widgets = ("deblur", "bundled", 1.0, 1.0, "fp32", "each image")
    compute_on(pack, CPU, CPU)
    expected = node.execute(image, *widgets).args[0]
    compute_on(pack, device, CPU)
    for place in (1, 2, 30, 60, 61, 75, 90, 120):
        given = image.clone()  # nothing is kept of it
        with watching_memory(lambda number, place=place: number == place):
            try:
                agree(node.execute(given, *widgets).args[0], expected, CPU)
            except torch.OutOfMemoryError:
                assert place < 60  # the weights themselves did not fit: the host says so
        gc.collect()
        assert STATE.in_use() == 0, place
    with watching_memory(lambda number: number >= 80), pytest.raises(MemoryError, match="limit of"):
        node.execute(image.clone(), *widgets)
    gc.collect()
    assert STATE.in_use() == 0


@pytest.mark.parametrize("pack", ["new"], indirect=True)
def test_a_second_network_that_is_needed_later_leaves_the_device_too(
    pack: Pack, device: torch.device
) -> None:
    """`auto` finds a dark image first, then a dark and blurred one: with the same first network."""
    run_on_host = pack.module("nodes.run_on_host")
    make_options = pack.module("devudp_model.restoring.options").Options
    restore = pack.module("devudp_model.restoring.restoration").restore
    options = make_options(precision="fp32")
    compute_on(pack, device, CPU)
    image = photos(1, 3, 40, 44)
    with run_on_host.restorer_on_host("bundled", "auto", options, lambda *_: 0) as restorer:
        for task in ("low light", "joint"):
            restore(image, restorer.weights(task), make_options(task, precision="fp32"))
    assert leaves_nothing(0)


def test_every_node_is_tested_here(pack: Pack) -> None:
    """The video's is offered only by hosts that have videos, which the stand-in has not."""
    assert set(pack.nodes) == {
        "DEvUDPRestore",
        "DEvUDPLoadUpscaleModel",
        "DEvUDPDegrade",
        "DEvUDPMeasure",
    }
    assert f"{pack.name}.nodes.restore_video" in sys.modules
    assert {spec.variant for spec in TASK_SPECS.values()} == {"devudp", "devudp-dt"}
