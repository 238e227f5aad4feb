"""The blueprints: one node on the outside that holds others, as ComfyUI's subgraphs do."""

from __future__ import annotations

from functools import partial
from typing import Any

from tools.workflow_graph import ACROSS, REGISTRY_ID, VERSION, Graph, identity

RESTORE = ["bundled", 1.0, 1.0, "auto", "each image"]

LINK_FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def fix_inside(task: str = "auto") -> tuple[Graph, list[tuple[str, int, int]]]:
    graph = Graph("")
    graph.add("DEvUDPRestore", (0, 0), "Restore", [task, *RESTORE])
    return graph, [("image", 1, 0), ("task", 1, 2), ("strength", 1, 4)]


def enlarge_inside() -> tuple[Graph, list[tuple[str, int, int]]]:
    graph, promoted = fix_inside()
    graph.add("ImageScaleBy", (400, 0), "Enlarge", ["lanczos", 2.0], (1, 0))
    return graph, [*promoted, ("scale_by", 2, 2)]


BLURRED = ["deblur", "unblur photo", "motion blur", "camera shake", "shaky", "restoration"]
DARK = ["dark", "night", "underexposed", "exposure", "noise", "restoration"]
CATEGORY = "Image Tools/Restoration"
"""Beside the blueprints that ComfyUI brings with it."""

BLUEPRINTS = {
    "Fix this photo": (
        fix_inside,
        "Unblur and sharpen a photo, brighten low light and correct the exposure.",
        [*BLURRED, *DARK[:-1]],
    ),
    "Fix this photo, then enlarge": (
        enlarge_inside,
        "Unblur and brighten a photo, then make it larger.",
        [*BLURRED, *DARK[:-1], "upscale"],
    ),
    "Brighten, denoise low light photo": (
        partial(fix_inside, "low light"),
        "Correct the exposure of a dark, sharp photo.",
        DARK,
    ),
    "Unblur and sharpen photo": (
        partial(fix_inside, "deblur"),
        "Remove the blur of a photo with good light.",
        BLURRED,
    ),
}
"""Name: what is inside, a description, and words to be found by."""


def blueprint(name: str) -> dict[str, Any]:
    """One node on the outside that holds others: only the chosen sockets and widgets show."""
    make, description, words = BLUEPRINTS[name]
    graph, promoted = make()
    inside = {node["id"]: node for node in graph.nodes}
    links = [dict(zip(LINK_FIELDS, link, strict=True)) for link in graph.links]
    inputs, outer = [], []
    for place, (label, target, at) in enumerate(promoted):
        number = len(links) + 1
        inner = inside[target]["inputs"][at]
        inner["link"] = number
        links.append(
            dict(zip(LINK_FIELDS, (number, -10, place, target, at, inner["type"]), strict=True))
        )
        described = {"name": label, "type": inner["type"]}
        inputs.append({"id": identity(f"{name}/{label}"), **described, "linkIds": [number]})
        widget = {"widget": {"name": label}} if "widget" in inner else {}
        outer.append({**described, **widget, "link": None})
    last = graph.nodes[-1]
    number = len(links) + 1
    last["outputs"][0]["links"].append(number)
    links.append(dict(zip(LINK_FIELDS, (number, last["id"], 0, -20, 0, "IMAGE"), strict=True)))
    result = {"name": "image", "type": "IMAGE"}
    output = {"id": identity(f"{name}/out"), **result, "linkIds": [number]}
    right = last["pos"][0] + ACROSS + 80
    subgraph = {
        "id": identity(name),
        "version": 1,
        "state": {
            "lastGroupId": 0,
            "lastNodeId": len(graph.nodes),
            "lastLinkId": len(links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": name,
        "description": description,
        "category": CATEGORY,
        "inputNode": {"id": -10, "bounding": [-240, 0, 140, 40 + 20 * len(inputs)]},
        "outputNode": {"id": -20, "bounding": [right, 0, 120, 60]},
        "inputs": inputs,
        "outputs": [output],
        "widgets": [],
        "nodes": graph.nodes,
        "groups": [],
        "links": links,
        "extra": {},
    }
    number = len(graph.nodes) + 1
    node = {
        "id": number,
        "type": subgraph["id"],
        "pos": [0, 0],
        "size": [ACROSS, 40 + 24 * len(outer)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": outer,
        "outputs": [result | {"links": []}],
        "properties": {"cnr_id": REGISTRY_ID, "ver": VERSION},
        "widgets_values": [],
        "title": name,
    }
    return {
        "id": identity(f"{name}/workflow"),
        "revision": 0,
        "last_node_id": number,
        "last_link_id": 0,
        "nodes": [node],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {"BlueprintDescription": description, "BlueprintSearchAliases": words},
    }
