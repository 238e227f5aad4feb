"""What all ways in restore by: what an image needs, its weights, less memory, and what is said."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import devudp_model
from devudp_model import restorer as module
from devudp_model import task_weights
from devudp_model.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from devudp_model.network.generator import Generator
from devudp_model.restorer import Restorer
from devudp_model.restoring.auto import choose
from devudp_model.restoring.facts import Facts
from devudp_model.restoring.frozen import VideoRestorer
from devudp_model.restoring.options import Options
from devudp_model.restoring.progress import ImageProgress
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.scene import SceneModel, features
from devudp_model.restoring.tasks import TASKS, Task, bundled_variant
from devudp_model.system.memory import MemoryApi, first_limit, is_out_of_memory
from tests.model.restore_network import FP32, generator, random_image

SIDES = (3, 64, 64)


def good() -> Tensor:
    """Sharp and bright enough: what `auto` leaves as it is."""
    rng = torch.Generator().manual_seed(0)
    squares = torch.rand(1, 3, 8, 8, generator=rng)  # mere noise would be left alone in the dark
    squares = squares.repeat_interleave(8, 2).repeat_interleave(8, 3)
    return 0.95 * squares + 0.05 * torch.rand(1, *SIDES, generator=rng)


def dark() -> Tensor:
    return good() * 0.1


@pytest.fixture(scope="module")
def nets() -> dict[str, Generator]:
    return {variant: generator(variant) for variant in ("devudp", "devudp-dt")}


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Small networks in place of the bundled ones; the list tells which were read."""
    read: list[str] = []
    for variant in ("devudp", "devudp-dt"):
        save_checkpoint(tmp_path / f"{variant}.safetensors", generator(variant), {})

    def load(path: Path) -> Checkpoint:
        read.append(path.stem)
        return load_checkpoint(path)

    monkeypatch.setattr(
        task_weights, "bundled", lambda variant: tmp_path / f"{variant}.safetensors"
    )
    monkeypatch.setattr(task_weights, "load_checkpoint", load)
    return read


def test_it_is_public() -> None:
    assert devudp_model.Restorer is Restorer and devudp_model.choose is choose
    assert isinstance(choose(good()), devudp_model.Choice)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_what_restore_does(task: Task, nets: dict[str, Generator]) -> None:
    net, image = nets[bundled_variant(task)], random_image(3, 3, 24, 28)
    mask = random_image(3, 1, 24, 28, seed=1)
    restorer = Restorer(net, task, Options(strength=0.7, precision="fp32"))
    wanted = restore(image, net, Options(task, strength=0.7, precision="fp32"), mask=mask)
    assert torch.equal(restorer(image, mask), wanted)
    assert restorer.choices == [] and restorer.reason == ""
    assert torch.equal(Restorer(net, task.replace(" ", "-"), FP32)(image), restore(
        image, net, Options(task, precision="fp32")))  # fmt: skip


def test_auto_does_what_each_image_needs_and_says_so(nets: dict[str, Generator]) -> None:
    """The options go on top of what was found, and each image has its own mask."""
    net, batch = nets["devudp"], torch.cat([dark(), good(), dark() * 0.9])
    options, mask = Options(exposure=0.6, precision="fp32"), torch.rand(3, 64, 64)
    restorer = Restorer(net, options=options)
    restored = restorer(batch, mask)
    found = [choose(image) for image in batch.split(1)]
    assert restorer.choices == found
    assert [choice.task for choice in found] == ["low light", None, "low light"]
    assert restorer.reason == "\n".join(f"{i}. {c.reason}" for i, c in enumerate(found, 1))
    assert torch.equal(restored[1], batch[1])
    for i in (0, 2):
        wanted = restore(batch[i : i + 1], net, found[i].options(options), mask=mask[i : i + 1])
        assert torch.equal(restored[i : i + 1], wanted)
    restorer(batch[1:2])
    assert restorer.reason == found[1].reason, "of the last call alone"


def test_weights_are_read_when_they_are_needed_and_once(bundle: list[str]) -> None:
    restorer = Restorer(device="cpu")
    restorer(good())
    assert bundle == []
    with torch.inference_mode():
        restorer(dark())
        restorer(dark())
    assert bundle == ["devudp"]
    model: Any = restorer.weights("joint")
    assert bundle == ["devudp", "devudp-dt"], "the second network of `joint`"
    assert not any(weight.is_inference() for weight in model.generator.parameters())
    restorer.weights("deblur")
    assert len(bundle) == 2
    assert torch.equal(Restorer(task="deblur", device="cpu")(dark()), restore(
        dark(), load_checkpoint(task_weights.bundled("devudp-dt")), Options("deblur")))  # fmt: skip
    assert bundle == ["devudp", "devudp-dt", "devudp-dt"]


def test_a_file_a_checkpoint_a_generator_or_a_function(tmp_path: Path) -> None:
    path, image = tmp_path / "own.safetensors", random_image(1, 3, 20, 24)
    save_checkpoint(path, generator(), {})
    checkpoint = load_checkpoint(path)
    given: list[Any] = [path, str(path), checkpoint, checkpoint.generator, lambda task: checkpoint]
    wanted = restore(image, checkpoint.generator, FP32)
    for each in given:
        device = "cpu" if isinstance(each, (str, Path)) else None
        assert torch.equal(Restorer(each, "joint", FP32, device=device)(image), wanted)
    with pytest.raises(CheckpointError, match="nowhere"):
        Restorer(tmp_path / "nowhere.safetensors", "joint")(image)
    with pytest.raises(TypeError, match="checkpoint is int: give a file"):
        Restorer(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="unknown task 'sharpen'"):
        Restorer(checkpoint, "sharpen")


def test_a_loaded_generator_restores_as_its_checkpoint(tmp_path: Path) -> None:
    """What was fitted to the generator counts either way; one with the same weights has none."""
    count = len(features(torch.rand(3, 8, 8)))
    night = SceneModel((0.0,) * count, (1.0,) * count, (0.0,) * count, 0.0)
    save_checkpoint(tmp_path / "a.safetensors", generator(), {"scene": night.to_json()})
    checkpoint, options = load_checkpoint(tmp_path / "a.safetensors"), Options("low light")
    image = dark()
    image[..., 3:9, 4:10] = 1.0  # a lamp
    restored = restore(image, checkpoint, options)
    assert torch.equal(restored, restore(image, checkpoint.generator, options))
    assert torch.equal(restored, Restorer(checkpoint, "low light")(image))
    assert checkpoint.scene == night and checkpoint.generator.facts == Facts(scene=night)
    bare = Generator("devudp", 8, 1).eval()
    bare.load_state_dict(checkpoint.generator.state_dict())
    assert not torch.equal(restored, restore(image, bare, options))


def test_memory_that_runs_out_is_asked_for_again_and_less_taken(
    nets: dict[str, Generator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What worked goes on with the next image; an image that needs more does not spoil the next."""
    limits: list[int | None] = []
    held: list[weakref.ref[Tensor]] = []
    enough, emptied = 2**30, []

    def scarce(image: Tensor, model: Any, options: Options, **_: Any) -> Tensor:
        assert all(reference() is None for reference in held), "the last attempt's tensors"
        limits.append(options.memory)
        if options.memory is None or options.memory > enough:
            held.append(weakref.ref(work := torch.ones(9)))
            raise torch.OutOfMemoryError(f"out of memory with {len(work)}")
        return image.clone()

    monkeypatch.setattr(module, "restore", scarce)
    api = MemoryApi(is_out_of_memory, lambda device: 4 * 2**30, lambda: emptied.append(1))
    restorer = Restorer(nets["devudp"], "joint", memory=api)
    restorer(dark())
    first = first_limit(4 * 2**30)
    assert limits == [first, first // 2, first // 4] and len(emptied) == 2
    restorer(dark())
    assert limits[-1] == first // 4 == restorer.limit
    enough = 0
    with pytest.raises(MemoryError, match="even with a limit of 256 MiB"):
        restorer(dark())
    assert restorer.limit == first // 4
    limits.clear()
    own = Restorer(nets["devudp"], "joint", Options(memory=2**28), memory=api)
    with pytest.raises(MemoryError, match="256 MiB"):
        own(dark())
    assert limits == [2**28], "the user's limit comes first"


def test_progress_tells_of_parts_of_images_and_of_those_left_alone(
    nets: dict[str, Generator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devudp_model.restoring.progress.SECONDS", 0.0)
    told: list[float] = []
    restorer = Restorer(nets["devudp"])
    restorer(torch.cat([dark(), dark(), good()]), progress=told.append)
    assert told == sorted(told) and told[-1] == 3 and {1, 2} <= set(told)
    assert sum(0 < done < 1 for done in told) > 3
    progress = ImageProgress(told.append)
    progress.images = 5
    restorer(good(), progress=progress)
    assert told[-1] == 6 == progress.images


def frames() -> Iterator[Tensor]:
    """Two scenes of twelve frames: a dark one, then one that needs nothing."""
    return (image * (0.9 + 0.01 * i) for image in (dark(), good()) for i in range(12))


def test_frames_of_a_scene_share_what_they_need(nets: dict[str, Generator]) -> None:
    net, options = nets["devudp"], Options(precision="fp32")
    restorer = Restorer(net, options=options)
    restored = list(restorer(frames()))
    assert [choice.task for choice in restorer.choices] == ["low light", None]
    given = list(frames())
    sample = torch.cat([given[i] for i in (0, 2, 3, 5, 6, 8, 9, 11)])
    assert restorer.choices[0] == choose(sample)
    video = VideoRestorer(net, sample, restorer.choices[0].options(options))
    for i, frame in enumerate(given):
        assert torch.equal(restored[i], video(frame) if i < 12 else frame)


def test_frames_are_read_as_results_are_asked_for(nets: dict[str, Generator]) -> None:
    """A scene is read to its end, and nothing beyond."""
    read: list[int] = []

    def source() -> Iterator[Tensor]:
        for i, frame in enumerate(frames()):
            read.append(i)
            yield frame

    restored = Restorer(nets["devudp"], options=FP32)(source())
    assert read == []
    next(restored)
    assert read == list(range(13))


def test_shared_statistics_of_a_batch_are_those_of_a_sample(nets: dict[str, Generator]) -> None:
    net, batch = nets["devudp"], torch.cat([dark(), dark().flip(3) * 0.5])
    options, masks = Options(statistics="shared", precision="fp32"), torch.rand(2, 64, 64)
    restorer = Restorer(net, "joint", options)
    video = VideoRestorer(net, batch, options)
    wanted = [video(frame, masks[i : i + 1]) for i, frame in enumerate(batch.split(1))]
    assert torch.equal(restorer(batch, masks), torch.cat(wanted))
    auto = Restorer(net, options=options)
    auto(batch)
    assert auto.choices == [choose(batch)] and auto.reason == choose(batch).reason


def test_nothing_and_what_is_no_image(nets: dict[str, Generator]) -> None:
    restorer = Restorer(nets["devudp"])
    assert restorer(torch.empty(0, *SIDES)).shape == (0, *SIDES)
    assert list(restorer([])) == []
    with pytest.raises(ValueError, match="image has shape"):
        restorer(torch.rand(*SIDES))
    with pytest.raises(ValueError, match="not finite"):
        restorer(dark() * float("nan"))
