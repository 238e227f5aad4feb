"""The nodes in a real ComfyUI: what they make, what they refuse, and how they leave the host."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.checkpoint import bundled, load_checkpoint, save_checkpoint
from devudp_model.cli.main import main as command_line
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.tasks import Task, bundled_variant
from tests.host.conftest import NEIGHBOURS, PACK, small_generator
from tests.host.prompts import Builder
from tests.host.server import RefusedError, Server

NODES = (
    *("DEvUDPRestore", "DEvUDPLoadUpscaleModel", "DEvUDPDegrade", "DEvUDPMeasure"),
    "DEvUDPRestoreVideo",
)
TRUNCATION = 1
"""SaveImage cuts the fraction of a grey level off where the command line rounds."""


def difference(a: np.ndarray, b: np.ndarray) -> int:
    """The largest one, in grey levels."""
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_all_packs_are_loaded_and_nobody_is_led_astray(server: Server) -> None:
    log = server.log_text()
    assert "IMPORT FAILED" not in log and "Cannot import" not in log
    for name in (PACK, *NEIGHBOURS):
        assert name in log
    assert server.get("/object_info/TestsRoundTo8Bits")


def test_every_input_and_output_is_explained(server: Server) -> None:
    for name in NODES:
        info = server.get(f"/object_info/{name}")[name]
        inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
        assert all(details[0]["tooltip"] for _, *details in inputs.values()), name
        assert all(info["output_tooltips"]) and info["description"], name


@pytest.mark.parametrize("task", ["joint", "deblur", "low light"])
def test_node_command_line_and_python_make_the_same_image(
    server: Server, photo: np.ndarray, tmp_path: Path, task: Task
) -> None:
    """With the bundled weights."""
    build = Builder()
    saved = build.save(build.restore(build.load(), task=task, checkpoint="bundled"))
    [by_node] = server.images(server.run(build.prompt), saved)
    source = server.base / "input" / "example.png"
    arguments = ["restore", str(source), "--out", str(tmp_path), "--device", "cpu"]
    assert command_line([*arguments, "--task", task.replace(" ", "-")]) == 0
    by_command = np.asarray(Image.open(tmp_path / "example.png"))
    assert difference(by_node, by_command) <= TRUNCATION
    generator = load_checkpoint(bundled(bundled_variant(task))).generator
    image = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255
    by_python = (restore(image, generator, Options(task=task)) * 255).round()
    assert difference(by_command, by_python[0].permute(1, 2, 0).numpy()) == 0
    if task == "joint":
        assert difference(by_node, photo) > 10


def test_widgets_have_their_effect(server: Server, photo: np.ndarray) -> None:
    build = Builder()
    image = build.load()
    nodes = {
        "full": build.save(build.restore(image)),
        "none": build.save(build.restore(image, strength=0.0)),
        "kept": build.save(build.restore(image, exposure=0.0)),
    }
    run = server.run(build.prompt)
    full, none, kept = (server.images(run, node)[0] for node in nodes.values())
    assert difference(none, photo) <= TRUNCATION
    assert difference(full, photo) > 10
    assert abs(kept.mean() - photo.mean()) < 2 < abs(full.mean() - photo.mean())


def test_an_unpainted_mask_does_not_silence_and_a_painted_one_is_fitted(
    server: Server, photo: np.ndarray
) -> None:
    build = Builder()
    image = build.load()
    half = build.add(
        "MaskComposite",
        destination=[build.add("SolidMask", value=0.0, width=64, height=48), 0],
        source=[build.add("SolidMask", value=1.0, width=32, height=48), 0],
        x=32,
        y=0,
        operation="add",
    )
    plain = build.save(build.restore(image))
    unpainted = build.save(build.restore(image, mask=[image[0], 1]))
    halved = build.save(build.restore(image, mask=[half, 0]))
    run = server.run(build.prompt)
    images = {node: server.images(run, node)[0] for node in (plain, unpainted, halved)}
    assert difference(images[plain], images[unpainted]) == 0
    assert difference(images[halved][:, :60], photo[:, :60]) <= TRUNCATION
    assert difference(images[halved][:, 68:], images[plain][:, 68:]) <= TRUNCATION


def test_masks_of_the_wrong_number_are_refused_in_plain_words(server: Server) -> None:
    build = Builder()
    image = build.load()
    three = build.add("ImageToMask", image=build.repeat(image, 3), channel="red")
    build.save(build.restore(build.repeat(image, 2), mask=[three, 0]))
    run = server.run(build.prompt)
    assert run.status == "error"
    assert "3 masks for 2 images" in run.error


def test_transparency_is_kept(server: Server) -> None:
    build = Builder()
    image = build.load()
    alpha = build.add("ImageToMask", image=image, channel="green")
    rgba = [build.add("JoinImageWithAlpha", image=image, alpha=[alpha, 0]), 0]
    nothing_hidden = build.add("SolidMask", value=0.0, width=64, height=64)
    opaque = [build.add("JoinImageWithAlpha", image=image, alpha=[nothing_hidden, 0]), 0]
    given, restored = build.save(rgba), build.save(build.restore(rgba))
    visible = build.save(build.restore(opaque))
    degraded, plain = build.save(build.degrade(rgba)), build.save(build.restore(image))
    run = server.run(build.prompt)
    before, after, worse, colours = (
        server.images(run, node)[0] for node in (given, restored, degraded, plain)
    )
    assert after.shape[2] == worse.shape[2] == 4
    assert difference(after[..., 3], before[..., 3]) == 0
    assert difference(worse[..., 3], before[..., 3]) == 0
    # What is hidden has no say in the exposure; where nothing is, alpha changes nothing.
    assert difference(server.images(run, visible)[0][..., :3], colours) == 0


def test_a_batch_of_forty(server: Server) -> None:
    build = Builder()
    frames = build.degrade(build.repeat(build.load(), 40))
    each, shared = (
        build.save(build.restore(frames, statistics=s)) for s in ("each image", "shared")
    )
    first = [build.add("ImageFromBatch", image=frames, batch_index=7, length=1), 0]
    alone = build.save(build.restore(first))
    run = server.run(build.prompt)
    images = server.images(run, each)
    assert len(images) == len(server.images(run, shared)) == 40
    assert difference(images[7], server.images(run, alone)[0]) == 0
    assert difference(images[7], images[8]) > 0


def test_measure_and_degrade(server: Server) -> None:
    build = Builder()
    image = build.load()
    worse = build.degrade(image)
    build.save(worse)
    same = build.add("DEvUDPMeasure", image=image, reference=image)
    different = build.add("DEvUDPMeasure", image=worse, reference=image)
    run = server.run(build.prompt)
    assert "PSNR ∞ dB" in run.outputs[same]["text"][0]
    text = run.outputs[different]["text"][0]
    assert 5 < float(text.split()[1]) < 30


def test_images_of_two_sizes_cannot_be_measured(server: Server) -> None:
    build = Builder()
    image = build.load()
    build.add("DEvUDPMeasure", image=image, reference=build.resize(image, 64, 48))
    run = server.run(build.prompt)
    assert run.status == "error"
    assert "128x96" in run.error and "64x48" in run.error


def test_the_second_prompt_comes_from_the_cache_unless_something_changed(server: Server) -> None:
    path = server.base / "models" / "devudp" / "changing.safetensors"
    save_checkpoint(path, small_generator(3), {})
    build = Builder()
    restored = build.restore(build.load(), checkpoint=path.name)
    saved = build.save(restored)
    [before] = server.images(server.run(build.prompt), saved)
    assert restored[0] in server.run(build.prompt).cached
    save_checkpoint(path, small_generator(4), {})
    changed = server.run(build.prompt)
    assert restored[0] not in changed.cached
    assert difference(server.images(changed, saved)[0], before) > 10
    path.unlink()
    with pytest.raises(RefusedError, match=r"changing\.safetensors") as refused:
        server.submit(build.prompt)
    assert len(refused.value.errors[restored[0]]["errors"]) == 1, "said once, not per argument"


def test_unknown_and_damaged_checkpoints(server: Server) -> None:
    options = server.get("/object_info/DEvUDPRestore")["DEvUDPRestore"]["input"]["required"]
    listed = options["checkpoint"][1]["options"]
    assert listed[0] == "bundled" and "small.safetensors" in listed and "notes.txt" not in listed
    assert_works(server)
    before = server.get("/tests/memory")
    build = Builder()
    build.save(build.restore(build.load(), checkpoint="missing.safetensors"))
    with pytest.raises(RefusedError, match=r"no checkpoint 'missing\.safetensors'"):
        server.submit(build.prompt)
    build = Builder()
    build.save(build.restore(build.load("other.png"), checkpoint="cut off.safetensors"))
    run = server.run(build.prompt)
    assert run.status == "error"
    assert "cut off.safetensors" in run.error and "Download or copy it again" in run.error
    assert_works(server)
    assert_memory_is_back(server, before)


@pytest.mark.parametrize("statistics", ["each image", "shared"])
def test_an_interrupted_batch_stops_and_leaves_nothing_behind(
    server: Server, statistics: str
) -> None:
    assert_works(server, "bundled")
    before = server.get("/tests/memory")
    build = Builder()
    # A minute or more of work, if nobody interrupts it.
    large = build.degrade(build.resize(build.load("other.png"), 256, 192), blur=0.0)
    batch = build.repeat(large, 120)
    build.save(build.restore(batch, checkpoint="bundled", statistics=statistics))
    number = server.submit(build.prompt)
    started = time.monotonic()
    while not server.get("/queue")["queue_running"] and time.monotonic() < started + 20:
        time.sleep(0.05)
    time.sleep(2)
    server.post("/interrupt", {})
    asked = time.monotonic()
    assert server.wait(number).status == "interrupted"
    assert time.monotonic() - asked < 10
    assert_works(server)
    assert_memory_is_back(server, before)


def test_out_of_memory_is_answered_with_less_memory(server: Server) -> None:
    build = Builder()
    saved = build.save(build.restore(build.load(), strength=0.9))
    server.post("/tests/scarce", {"times": 2})
    run = server.run(build.prompt)
    server.post("/tests/scarce", {"times": 0})
    assert run.status == "success" and server.images(run, saved)
    assert server.log_text().count("trying again within") >= 2


def test_out_of_memory_for_good_leaves_the_host_working(server: Server) -> None:
    assert_works(server)
    before = server.get("/tests/memory")
    build = Builder()
    build.save(build.restore(build.load(), strength=0.8))
    server.post("/tests/scarce", {"times": 1000})
    run = server.run(build.prompt)
    server.post("/tests/scarce", {"times": 0})
    assert run.status == "error"
    assert "Out of memory on cpu" in run.error and "smaller" in run.error
    assert_works(server)
    assert_memory_is_back(server, before)


def assert_works(server: Server, checkpoint: str = "small.safetensors") -> None:
    """The next prompt succeeds."""
    build = Builder()
    saved = build.save(build.restore(build.load(), strength=0.7, checkpoint=checkpoint))
    run = server.run(build.prompt)
    assert run.status == "success" and server.images(run, saved)


def assert_memory_is_back(server: Server, before: dict[str, int]) -> None:
    after = server.get("/tests/memory")
    assert after["loaded_models"] == before["loaded_models"]
    assert after["tensors"] <= before["tensors"] + 2 * 2**20
