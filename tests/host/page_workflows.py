"""Workflows for the tests of the page: the shipped ones, made quicker, and blueprints in use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.host.environment import CACHE, ROOT
from tests.host.server import Server
from tests.host.workflows import load, workflow_files
from tools import make_workflows


def first_workflow(image: str = "", **widgets: Any) -> dict[str, Any]:
    """The first of the shipped workflows, with another image and values of `DEvUDPRestore`."""
    workflow = load(next(p for p in workflow_files() if p.stem == make_workflows.FIRST))
    names = ["task", "checkpoint", "strength"]
    for node in workflow["nodes"]:
        if node["type"] == "LoadImage" and image:
            node["widgets_values"][0] = image
        if node["type"] == "DEvUDPRestore":
            for name, value in widgets.items():
                node["widgets_values"][names.index(name)] = value
    return workflow


def again(strength: float) -> Path:
    """The first workflow with another strength: what has been run before is not run again."""
    path = CACHE / f"Fix it again, {strength}.json"
    path.write_text(json.dumps(first_workflow(strength=strength)), encoding="utf-8")
    return path


def blueprint_again(strength: float) -> Path:
    """The first blueprint in use, likewise."""
    workflow = load(next(p for p in blueprints_in_use() if p.stem == "Fix this photo"))
    path = CACHE / f"Blueprint again, {strength}.json"
    path.write_text(json.dumps(with_strength(workflow, strength)), encoding="utf-8")
    return path


def with_strength(workflow: dict[str, Any], strength: float) -> dict[str, Any]:
    """The same workflow; what is restored inside its blueprint has this strength."""
    for node in workflow["definitions"]["subgraphs"][0]["nodes"]:
        if node["type"] == "DEvUDPRestore":
            node["widgets_values"][2] = round(strength, 2)
    return workflow


def slow_workflow(server: Server, photo: np.ndarray) -> Path:
    """Takes so long that it can be stopped."""
    Image.fromarray(photo).resize((1024, 768)).save(server.base / "input" / "large.png")
    path = CACHE / "slow.json"
    path.write_text(json.dumps(first_workflow("large.png", task="joint")), encoding="utf-8")
    return path


def small_workflows() -> list[Path]:
    """The shipped workflows; the video's frames are made smaller, to save time."""
    folder = CACHE / "small-workflows"
    folder.mkdir(parents=True, exist_ok=True)
    for path in workflow_files():
        workflow = load(path)
        for node in workflow["nodes"]:
            if node["type"] == "ImageScale":
                node["widgets_values"][1:3] = 64, 48
        (folder / path.name).write_text(json.dumps(workflow), encoding="utf-8")
    return sorted(folder.glob("*.json"))


def blueprints_in_use() -> list[Path]:
    """Each blueprint between a loaded and a shown image, as a user would put it.

    Each has another strength: what one has computed, older hosts would not tell the next one.
    """
    folder = CACHE / "blueprints-in-use"
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted((ROOT / "subgraphs").glob("*.json"))):
        blueprint = with_strength(load(path), 0.75 - 0.05 * number)
        graph = make_workflows.Graph("")
        loaded = make_workflows.load(graph, make_workflows.BAD, (0, 0))
        shown = graph.add("PreviewImage", (800, 0), "Fixed photo", [], size=(320, 340))
        [node] = blueprint["nodes"]
        node.update(id=3, pos=[400, 0], order=2)
        graph.nodes.append(node)
        graph.link((loaded, 0), 3, 0)
        graph.link((3, 0), shown, 0)
        # Not called as the blueprint: one id for both would confuse the page (1.58.1).
        workflow = graph.workflow(f"{path.stem} in use")
        workflow["definitions"] = blueprint["definitions"]
        (folder / path.name).write_text(json.dumps(workflow), encoding="utf-8")
    return sorted(folder.glob("*.json"))
