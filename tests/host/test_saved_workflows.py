"""Workflows that were saved with 0.6.1 open today, mean what they meant, and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.host.browser import find_chromium, look
from tests.host.environment import CACHE, HERE, Host, version
from tests.host.server import Server
from tests.host.test_workflows import run_and_compare
from tests.host.workflows import load, to_prompt, widget_inputs

SAVED: dict[str, dict[str, Any]] = load(HERE / "workflows-0.6.1.json")

WIDGETS = {
    "DEvUDPRestore": ("task", "checkpoint", "strength", "exposure", "precision", "statistics"),
    "DEvUDPLoadUpscaleModel": ("task", "checkpoint", "strength", "exposure", "precision"),
    "DEvUDPDegrade": ("blur", "light", "noise", "seed"),
    "DEvUDPMeasure": (),
}
"""0.6.1's widgets, in the order in which their values were saved."""

SHOWING = ("SaveImage", "PreviewImage")

TODAY: dict[str, Any] = load(HERE / "object_info.json")


@pytest.mark.parametrize("name", SAVED)
def test_saved_values_and_links_have_a_place(name: str) -> None:
    """Without the host: each of our nodes still has these inputs, and takes these values."""
    for node in SAVED[name]["nodes"]:
        if node["type"] not in WIDGETS:
            continue
        info = TODAY[node["type"]]
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert inputs.keys() >= {slot["name"] for slot in node["inputs"]}
        values = widget_inputs(node, info)
        saved = dict(zip(WIDGETS[node["type"]], node["widgets_values"], strict=False))
        assert values == values | saved
        for key, value in saved.items():
            options = inputs[key][1]
            if key != "checkpoint":  # those that are installed
                assert value in options.get("options", [value]), key
            assert not isinstance(value, float) or options["min"] <= value <= options["max"]
        types = [slot["type"] for slot in node["outputs"]]
        assert types == info["output"][: len(types)]


def check_meaning(name: str, prompt: dict[str, Any]) -> None:
    """Every node of ours has the values that were saved for it, by the names they had then."""
    ours = [node for node in SAVED[name]["nodes"] if node["type"] in WIDGETS]
    assert ours
    for node in ours:
        found = prompt[str(node["id"])]
        assert found["class_type"] == node["type"]
        values = dict(zip(WIDGETS[node["type"]], node["widgets_values"], strict=False))
        assert found["inputs"] == found["inputs"] | values
        linked = {slot["name"] for slot in node["inputs"] if slot["link"] is not None}
        assert {key for key, value in found["inputs"].items() if isinstance(value, list)} == linked


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_workflow_runs(server: Server, tmp_path: Path, name: str) -> None:
    """In the real host, with the values that were saved, on small images.

    The weights have changed since 0.6.1, so the images need not be those of that time. They have to
    be those that today's command line makes with the same settings, which `run_and_compare` checks.
    """
    prompt = to_prompt(SAVED[name], server.get("/object_info"))
    check_meaning(name, prompt)
    run = run_and_compare(server, prompt, tmp_path)
    check_meaning(name, prompt)  # as it was queued, but for the small images
    ends = [number for number, node in prompt.items() if node["class_type"] in SHOWING]
    assert ends
    for number in ends:
        for image in server.images(run, number):
            assert image.ndim == 3 and image.min() < image.max(), "blank"


def test_saved_workflows_open_in_the_page(host: Host, server: Server, tmp_path: Path) -> None:
    chromium = find_chromium()
    if not chromium:
        pytest.skip("no Chromium: the page was NOT tested")
    for name, workflow in SAVED.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(workflow), encoding="utf-8")
    files = sorted(tmp_path.glob("*.json"))
    page = look(
        host, server, chromium, CACHE / "screenshots" / version() / "0.6.1", files, run=False
    )
    assert page["workflows"].keys() == SAVED.keys()
    for name, seen in page["workflows"].items():
        assert seen["unknown"] == [] and seen["alerts"] == [], name
        check_meaning(name, seen["prompt"])
