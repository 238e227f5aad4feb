"""Workflows and blueprints as a user sees them: nothing lies on anything else, titles are whole."""

from __future__ import annotations

import json
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.host.environment import ROOT
from tests.host.workflows import BYPASSED, load, workflow_files
from tools import make_workflows
from tools.workflow_graph import VERSION

TITLE = 30
"""A node's title, above its place."""

ROW, WIDGET, FRAME = 26, 40, 60
"""Nodes 2.0 are taller: pixels for a socket, for a widget, and around both."""

Box = tuple[float, float, float, float]


def both_kinds_of_box(node: dict[str, Any]) -> list[Box]:
    """Left, top, right, bottom: as saved, and with what Nodes 2.0 makes of it."""
    (x, y), (width, height) = node["pos"], node["size"]
    sockets = [slot for slot in node["inputs"] if "widget" not in slot]
    rows = max(len(sockets), len(node["outputs"]))
    taller = FRAME + ROW * rows + WIDGET * len(node.get("widgets_values", []))
    if node["type"] == "MarkdownNote":
        taller = height
    return [(x, y - TITLE, x + width, y + h) for h in (height, max(height, taller))]


@pytest.mark.parametrize("path", workflow_files(), ids=lambda path: path.stem)
def test_nodes_do_not_overlap(path: Path) -> None:
    for one, other in combinations(load(path)["nodes"], 2):
        for a, b in zip(both_kinds_of_box(one), both_kinds_of_box(other), strict=True):
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, (one["title"], other["title"])


@pytest.mark.parametrize("path", workflow_files(), ids=lambda path: path.stem)
def test_no_link_runs_behind_a_node(path: Path) -> None:
    workflow = load(path)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, output, target, place, _ in workflow["links"]:
        start, end = nodes[source], nodes[target]
        assert start["pos"][0] + start["size"][0] < end["pos"][0], f"link {number} runs backwards"
        points = curve(
            (start["pos"][0] + start["size"][0], start["pos"][1] + 14 + 20 * output),
            (end["pos"][0], end["pos"][1] + 14 + 20 * place),
        )
        for node in nodes.values():
            left, top, right, bottom = both_kinds_of_box(node)[1]
            for x, y in points[1:-1]:
                assert not (left < x < right and top < y < bottom), (number, node["title"])


def curve(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Points of a link as the page draws it."""
    reach = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5 / 4
    points = []
    for i in range(41):
        t = i / 40
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
        xs, ys = (
            (start[0], start[0] + reach, end[0] - reach, end[0]),
            (start[1],) * 2 + (end[1],) * 2,
        )
        points.append(tuple(sum(w * v for w, v in zip(weights, c, strict=True)) for c in (xs, ys)))
    assert all(a != b for a, b in pairwise(points))
    return points


@pytest.mark.parametrize("path", workflow_files(), ids=lambda path: path.stem)
def test_titles_fit(path: Path) -> None:
    for node in load(path)["nodes"]:
        assert 9 * len(node["title"]) + 50 <= node["size"][0], node["title"]


@pytest.mark.parametrize("path", workflow_files(), ids=lambda path: path.stem)
def test_the_photo_goes_straight_into_restore(path: Path) -> None:
    """DEvUDP Degrade is bypassed, and nothing needs it."""
    workflow = load(path)
    degraders = {n["id"]: n for n in workflow["nodes"] if n["type"] == "DEvUDPDegrade"}
    assert all(n["mode"] == BYPASSED and "Demo" in n["title"] for n in degraders.values())
    assert not [link for link in workflow["links"] if link[1] in degraders]
    loaded = [n["widgets_values"][0] for n in workflow["nodes"] if n["type"] == "LoadImage"]
    assert loaded and loaded[0] == make_workflows.PHOTOS.get(path.stem, make_workflows.BAD)


@pytest.mark.parametrize("path", workflow_files(), ids=lambda path: path.stem)
def test_each_workflow_says_whether_it_opens_as_an_app(path: Path) -> None:
    """Without that, pages of early 2026 open it as they opened the one before."""
    assert load(path)["extra"]["linearMode"] is path.stem.endswith(".app")


def test_files_are_as_written_by_the_script() -> None:
    """So they have this version's number: python -m tools.make_workflows."""
    for path, text in make_workflows.files().items():
        assert json.loads(path.read_text(encoding="utf-8")) == json.loads(text), path.name


@pytest.mark.parametrize(
    "path", [*workflow_files(), *sorted((ROOT / "subgraphs").glob("*.json"))], ids=lambda p: p.stem
)
def test_every_node_says_which_pack_it_is_from(path: Path) -> None:
    workflow = load(path)
    inner = workflow.get("definitions", {}).get("subgraphs", [])
    nodes = [node for graph in [workflow, *inner] for node in graph["nodes"]]
    ours = [node["properties"] for node in nodes if node["type"].startswith("DEvUDP")]
    assert ours
    for properties in ours:
        assert properties["cnr_id"] == "devudp"
        assert properties["ver"] == VERSION
