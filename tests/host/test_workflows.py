"""Every shipped workflow, run in a real ComfyUI and compared with the command line's result."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from devudp_model.cli.main import main as command_line
from tests.host.environment import ROOT
from tests.host.prompts import Builder
from tests.host.server import Prompt, Run, Server
from tests.host.test_nodes import TRUNCATION, difference
from tests.host.workflows import load, to_prompt, workflow_files
from tools import make_workflows

VIDEO = "DEvUDPRestoreVideo"
RESTORERS = {"DEvUDPRestore", "ImageUpscaleWithModel", VIDEO}
EXPECTED = set(make_workflows.WORKFLOWS)


def test_all_examples_are_there_with_a_thumbnail() -> None:
    assert {path.stem for path in workflow_files()} == EXPECTED
    for path in workflow_files():
        with Image.open(path.with_suffix(".jpg")) as thumbnail:
            assert thumbnail.format == "JPEG" and min(thumbnail.size) >= 200


def test_no_two_thumbnails_look_the_same() -> None:
    small = {
        path.stem: np.asarray(Image.open(path.with_suffix(".jpg")).convert("L").resize((64, 48)))
        for path in workflow_files()
    }
    for (one, a), (other, b) in combinations(small.items(), 2):
        assert np.abs(a.astype(float) - b).mean() > 5, f"{one} and {other}"


@pytest.mark.parametrize("path", workflow_files(), ids=lambda path: path.stem)
def test_workflow(server: Server, tmp_path: Path, path: Path) -> None:
    run_and_compare(server, to_prompt(load(path), server.get("/object_info")), tmp_path)


def run_and_compare(server: Server, prompt: Prompt, folder: Path) -> Run:
    """Runs a workflow with small images; the command line has to make the same ones of them."""
    make_small(prompt, server)
    build = Builder(prompt)
    round_degraded(build)
    taps = [tap(build, node) for node in list(prompt) if prompt[node]["class_type"] in RESTORERS]
    run = server.run(build.prompt)
    assert run.status == "success", run.error
    assert taps
    for number, (options, *saved) in enumerate(taps):
        compare(server, run, options, saved, folder / str(number))
    ends = [node for node in prompt if is_output(server, prompt[node]["class_type"])]
    assert all(run.outputs[node] for node in ends)
    return run


def make_small(prompt: Prompt, server: Server) -> None:
    """Small images are enough here, as dark as the samples in whose place they come."""
    with Image.open(ROOT / "samples/dark_blurry_flowers.jpg") as image:
        image.resize((128, 128)).save(server.base / "input" / "small.png")
    for node in prompt.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = "small.png"
        if node["class_type"] == "ImageScale":
            node["inputs"].update(width=64, height=48)


def round_degraded(build: Builder) -> None:
    """Rounds what DEvUDP Degrade makes to 8 bits, so that files of it lose nothing."""
    for degraded in [n for n, d in build.prompt.items() if d["class_type"] == "DEvUDPDegrade"]:
        rounded = build.add("TestsRoundTo8Bits", image=[degraded, 0])
        for number, node in build.prompt.items():
            for name, value in node["inputs"].items():
                if value == [degraded, 0] and number != rounded:
                    node["inputs"][name] = [rounded, 0]


def tap(build: Builder, node: str) -> tuple[dict[str, object], str, str, str | None]:
    """Saves what goes into a restoring node, what comes out, and its mask; and its options."""
    inputs = build.prompt[node]["inputs"]
    options = inputs
    if build.prompt[node]["class_type"] == VIDEO:
        ends = inputs["video"], [node, 0]
        frames = [[build.add("GetVideoComponents", video=end), 0] for end in ends]
        before, after = map(build.save, frames)
        return {**inputs, "statistics": "shared"}, before, after, None
    if "upscale_model" in inputs:
        options = build.prompt[inputs["upscale_model"][0]]["inputs"]
    mask = None
    if "mask" in inputs:
        mask = build.save([build.add("MaskToImage", mask=inputs["mask"]), 0])
    return options, build.save(inputs["image"]), build.save([node, 0]), mask


def compare(
    server: Server,
    run: Run,
    options: dict[str, object],
    saved: list[str | None],
    folder: Path,
) -> None:
    """The command line restores what was saved, and it must come out alike."""
    given, restored, mask = saved
    assert given and restored
    source = folder / "given"
    source.mkdir(parents=True)
    images = server.images(run, given)
    for number, image in enumerate(images):
        Image.fromarray(image).save(source / f"{number:03d}.png")
    statistics = "shared" if options.get("statistics") == "shared" else "each"
    arguments = [
        "restore", str(source), "--out", str(folder / "out"), "--device", "cpu",
        "--task", str(options["task"]).replace(" ", "-"), "--strength", str(options["strength"]),
        "--statistics", statistics,
    ]  # fmt: skip
    if mask:
        Image.fromarray(server.images(run, mask)[0]).save(folder / "mask.png")
        arguments += ["--mask", str(folder / "mask.png")]
    assert command_line(arguments) == 0
    for number, by_node in enumerate(server.images(run, restored)):
        by_command = np.asarray(Image.open(folder / "out" / f"{number:03d}.png"))
        assert difference(by_node, by_command) <= TRUNCATION
        assert difference(by_node, images[number]) > TRUNCATION


def is_output(server: Server, node_type: str) -> bool:
    return server.get(f"/object_info/{node_type}")[node_type]["output_node"]
