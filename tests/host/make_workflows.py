"""Writes the example workflows and blueprints: places, sizes, and the version of the pack.

    python -m tests.host.make_workflows

Run it after a change here or of the version in pyproject.toml; `test_layout.py` compares the files.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from tests.host.environment import ROOT

VERSION = re.findall(
    r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M
)[0]
REGISTRY_ID = "devudp"
CORE = "comfy-core", "0.3.64"

BYPASSED = 4
RESTORE = ["bundled", 1.0, 1.0, "auto", "each image"]
DEGRADE = [8.0, 0.2, 0.01, 1, "fixed"]

TASK_WIDGETS = ["task:COMBO", "checkpoint:COMBO", "strength:FLOAT", "exposure:FLOAT"]
KINDS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "LoadImage": ([], ["image:COMBO"], ["IMAGE:IMAGE", "MASK:MASK"]),
    "SaveImage": (["images:IMAGE"], ["filename_prefix:STRING"], []),
    "PreviewImage": (["images:IMAGE"], [], []),
    "ImageScale": (
        ["image:IMAGE"],
        ["upscale_method:COMBO", "width:INT", "height:INT", "crop:COMBO"],
        ["IMAGE:IMAGE"],
    ),
    "ImageScaleBy": (["image:IMAGE"], ["upscale_method:COMBO", "scale_by:FLOAT"], ["IMAGE:IMAGE"]),
    "ImageUpscaleWithModel": (["upscale_model:UPSCALE_MODEL", "image:IMAGE"], [], ["IMAGE:IMAGE"]),
    "RepeatImageBatch": (["image:IMAGE"], ["amount:INT"], ["IMAGE:IMAGE"]),
    "SolidMask": ([], ["value:FLOAT", "width:INT", "height:INT"], ["MASK:MASK"]),
    "MaskComposite": (
        ["destination:MASK", "source:MASK"],
        ["x:INT", "y:INT", "operation:COMBO"],
        ["MASK:MASK"],
    ),
    "CreateVideo": (["images:IMAGE", "audio:AUDIO"], ["fps:FLOAT"], ["VIDEO:VIDEO"]),
    "SaveVideo": (
        ["video:VIDEO"],
        ["filename_prefix:STRING", "format:COMBO", "codec:COMBO"],
        [],
    ),
    "DEvUDPRestore": (
        ["image:IMAGE", "mask:MASK"],
        [*TASK_WIDGETS, "precision:COMBO", "statistics:COMBO"],
        ["image:IMAGE"],
    ),
    "DEvUDPLoadUpscaleModel": (
        ["image:IMAGE"],
        [*TASK_WIDGETS, "precision:COMBO"],
        ["upscale_model:UPSCALE_MODEL"],
    ),
    "DEvUDPRestoreVideo": (
        ["video:VIDEO"],
        [*TASK_WIDGETS, "precision:COMBO"],
        ["video:VIDEO"],
    ),
    "DEvUDPDegrade": (
        ["image:IMAGE"],
        ["blur:FLOAT", "light:FLOAT", "noise:FLOAT", "seed:INT"],
        ["image:IMAGE"],
    ),
    "DEvUDPMeasure": (
        ["image:IMAGE", "reference:IMAGE"],
        [],
        ["PSNR:FLOAT", "SSIM:FLOAT", "MAE:FLOAT"],
    ),
    "MarkdownNote": ([], [], []),
}
"""A node's sockets, its widgets, its outputs, each as name:type."""

Pair = tuple[int, int]

ACROSS = 320
"""The width of most nodes."""

LARGE = 420, 420
NUMBERS = ACROSS, 180
BAD, GOOD = "devudp_dark_and_blurred.jpg", "devudp_good.jpg"


class Graph:
    """Nodes and links of one workflow; columns from left to right, the note above all."""

    def __init__(self, note: str, size: Pair = (720, 140), at: Pair = (0, -240)):
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        self.extra: dict[str, Any] = {}
        if note:
            self.add("MarkdownNote", at, "How to", [note], size=size)
            self.nodes[0].update(color="#432", bgcolor="#653")

    def add(
        self,
        kind: str,
        at: tuple[int, int],
        title: str,
        values: list[Any],
        *given: tuple[int, int] | None,
        size: tuple[int, int] | None = None,
        mode: int = 0,
    ) -> int:
        """Adds a node; `given`: (node, output) for each socket, or None. Returns its number."""
        number = len(self.nodes) + 1
        sockets, widgets, outputs = KINDS[kind]
        inputs = [slot(name) | {"link": None} for name in sockets]
        inputs += [
            slot(name) | {"link": None, "widget": {"name": name.split(":")[0]}} for name in widgets
        ]
        rows = max(len(sockets), len(outputs))
        node = {
            "id": number,
            "type": kind,
            "pos": list(at),
            "size": list(size or (ACROSS, 16 + 20 * rows + 24 * len(values))),
            "flags": {},
            "order": number - 1,
            "mode": mode,
            "inputs": inputs,
            "outputs": [slot(name) | {"links": []} for name in outputs],
            "properties": properties(kind),
            "widgets_values": values,
            "title": title,
        }
        self.nodes.append(node)
        for place, source in enumerate(given):
            if source is not None:
                self.link(source, number, place)
        return number

    def link(self, source: tuple[int, int], target: int, place: int) -> None:
        number = len(self.links) + 1
        output = self.nodes[source[0] - 1]["outputs"][source[1]]
        output["links"].append(number)
        self.nodes[target - 1]["inputs"][place]["link"] = number
        self.links.append([number, *source, target, place, output["type"]])

    def workflow(self, name: str) -> dict[str, Any]:
        """As the page saves it."""
        return {
            "id": identity(name),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": [],
            "config": {},
            "extra": self.extra,
            "version": 0.4,
        }

    def show_as_app(self, inputs: list[tuple[int, str]], outputs: list[int]) -> None:
        """What the page's app mode shows (hosts from 2026 on): widgets as (node, name), nodes."""
        self.extra["linearData"] = {"inputs": [list(pair) for pair in inputs], "outputs": outputs}


def slot(text: str) -> dict[str, Any]:
    name, kind = text.split(":")
    return {"name": name, "type": kind}


def identity(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"devudp/{name}"))


def properties(kind: str) -> dict[str, Any]:
    """What "install missing nodes" looks for: the registry's name of the pack, and its version."""
    if kind == "MarkdownNote":
        return {}
    pack, version = (REGISTRY_ID, VERSION) if kind.startswith("DEvUDP") else CORE
    return {"cnr_id": pack, "ver": version, "Node name for S&R": kind}


def load(graph: Graph, image: str, at: tuple[int, int], title: str = "Your photo") -> int:
    return graph.add("LoadImage", at, title, [image, "image"], size=(ACROSS, 400))


def demonstration(graph: Graph, at: tuple[int, int]) -> int:
    """DEvUDP Degrade, switched off and beside the way that the photo takes."""
    return graph.add("DEvUDPDegrade", at, "Demo: spoil a good photo", DEGRADE, mode=BYPASSED)


DEMO_NOTE = (
    "*Demo: spoil a good photo* is switched off (bypassed). To try it, select it, press Ctrl+B, "
    "and connect it between a good photo and **Restore**."
)


def fix() -> Graph:
    graph = Graph(
        "Choose your photo in **Your photo** and press **Run**.\n\n"
        "**task**: *auto* measures the photo, does what it needs, and shows on the node what it "
        "did; a good photo stays as it is. Or choose yourself: *joint* for dark **and** blurred, "
        "*low light* for dark, *deblur* for blurred. Result too strong? Lower *strength*.",
    )
    photo = load(graph, BAD, (0, 0))
    restored = graph.add("DEvUDPRestore", (400, 0), "Restore", ["auto", *RESTORE], (photo, 0))
    saved = graph.add(
        "SaveImage", (800, 0), "Fixed photo", ["devudp/restored"], (restored, 0), size=LARGE
    )
    settings = [(restored, name) for name in ("task", "strength", "exposure", "denoise")]
    graph.show_as_app([(photo, "image"), *settings], [saved])
    return graph


def compare() -> Graph:
    graph = Graph(
        "One photo, three tasks. *joint* is for a photo that is dark **and** blurred, *deblur* for "
        "a blurred one with good light, *low light* for a dark, sharp one.\n\n" + DEMO_NOTE,
        (ACROSS, 330),
        (0, 500),
    )
    photo = load(graph, BAD, (0, 0))
    for row, task in enumerate(("joint", "deblur", "low light")):
        y = 384 * row
        restored = graph.add("DEvUDPRestore", (440, y), task, [task, *RESTORE], (photo, 0))
        # The images stand beside it: no view of its own, which would cover the next row.
        graph.nodes[restored - 1]["properties"]["before_after"] = False
        graph.add("PreviewImage", (840, y), f"After {task}", [], (restored, 0), size=(340, 310))
    demonstration(graph, (0, 910))
    return graph


def mask() -> Graph:
    graph = Graph(
        "Only what is white in the mask is restored: here the right half, to show both.\n\n"
        "To paint a mask, right-click **Your photo**, choose *Open in MaskEditor*, and connect its "
        "MASK to **Restore**. A mask of another size is fitted to the photo. " + DEMO_NOTE,
    )
    photo = load(graph, BAD, (0, 0))
    black = graph.add("SolidMask", (0, 540), "Black: keep", [0.0, 512, 512])
    white = graph.add("SolidMask", (0, 780), "White: restore", [1.0, 256, 512])
    both = graph.add("MaskComposite", (400, 540), "Mask", [256, 0, "add"], (black, 0), (white, 0))
    restored = graph.add(
        "DEvUDPRestore", (800, 0), "Restore", ["auto", *RESTORE], (photo, 0), (both, 0)
    )
    graph.add(
        "SaveImage",
        (1200, 0),
        "Right half fixed",
        ["devudp/right_half"],
        (restored, 0),
        size=LARGE,
    )
    demonstration(graph, (400, 150))
    return graph


def enlarge() -> Graph:
    graph = Graph(
        "**Restore as model** offers the restoration to every node that takes an upscale model. It "
        "does not enlarge: **Enlarge** does that afterwards. If you have an upscale model, replace "
        "**Enlarge** by **Load Upscale Model** and a second **Upscale Image (using Model)**.\n\n"
        "Connect the same photo to both nodes. Transparency is lost: **Apply model** carries three "
        "colour channels only. To keep it, use **DEvUDP Restore**.",
    )
    photo = load(graph, BAD, (0, 0))
    model = graph.add(
        "DEvUDPLoadUpscaleModel",
        (400, 180),
        "Restore as model",
        ["auto", *RESTORE[:4]],
        (photo, 0),
    )
    restored = graph.add(
        "ImageUpscaleWithModel", (800, 0), "Apply model", [], (model, 0), (photo, 0)
    )
    large = graph.add("ImageScaleBy", (1200, 0), "Enlarge", ["lanczos", 2.0], (restored, 0))
    graph.add(
        "SaveImage", (1600, 0), "Fixed and enlarged", ["devudp/restored_and_upscaled"], (large, 0),
        size=LARGE,
    )  # fmt: skip
    return graph


def video() -> Graph:
    graph = Graph(
        "Here the video is one photo, repeated. For your own, replace the first four nodes by "
        "**Load Video**: it may have any length, and its sound is kept.\n\n"
        "**Restore Video** measures the frames of a scene together, so that they do not flicker. "
        + DEMO_NOTE.replace("**Restore**", "**Frame size**"),
        (1120, 100),
        (0, -200),
    )
    photo = load(graph, BAD, (0, 0))
    size = ["lanczos", 512, 384, "center"]
    scaled = graph.add("ImageScale", (380, 0), "Frame size", size, (photo, 0), size=(250, 132))
    frames = graph.add("RepeatImageBatch", (690, 0), "Six frames", [6], (scaled, 0), size=(200, 60))
    made = graph.add(
        "CreateVideo", (950, 0), "Make a video", [8.0], (frames, 0), None, size=(200, 80)
    )
    values = ["auto", *RESTORE[:4]]
    restored = graph.add("DEvUDPRestoreVideo", (1210, 0), "Restore Video", values, (made, 0))
    graph.add(
        "SaveVideo", (1590, 0), "Fixed video", ["video/devudp", "auto", "auto"], (restored, 0),
        size=LARGE,
    )  # fmt: skip
    demonstration(graph, (690, 240))
    return graph


def measure() -> Graph:
    graph = Graph(
        "**Measure** says how close a photo is to the reference, before and after the restoration. "
        "PSNR and SSIM: higher is closer. MAE: lower is closer. Both photos need the same size.\n\n"
        + DEMO_NOTE,
    )
    photo = load(graph, BAD, (0, 0))
    truth = load(graph, GOOD, (0, 540), "Reference: the good photo")
    restored = graph.add("DEvUDPRestore", (400, 0), "Restore", ["joint", *RESTORE], (photo, 0))
    graph.add("SaveImage", (800, 0), "Fixed photo", ["devudp/measured"], (restored, 0), size=LARGE)
    graph.add(
        "DEvUDPMeasure",
        (800, 540),
        "Measure after",
        [],
        (restored, 0),
        (truth, 0),
        size=NUMBERS,
    )
    graph.add(
        "DEvUDPMeasure",
        (400, 740),
        "Measure before",
        [],
        (photo, 0),
        (truth, 0),
        size=NUMBERS,
    )
    demonstration(graph, (800, 840))
    return graph


WORKFLOWS = {
    "Fix a dark or blurred photo": fix,
    "Compare deblur, brighten and both": compare,
    "Fix part of a photo with a mask": mask,
    "Fix a photo, then enlarge it": enlarge,
    "Fix a dark or shaky video": video,
    "Measure how well a photo was fixed": measure,
}


def fix_inside(task: str = "auto") -> tuple[Graph, list[tuple[str, int, int]]]:
    graph = Graph("")
    graph.add("DEvUDPRestore", (0, 0), "Restore", [task, *RESTORE])
    return graph, [("image", 1, 0), ("task", 1, 2), ("strength", 1, 4)]


def enlarge_inside() -> tuple[Graph, list[tuple[str, int, int]]]:
    graph, promoted = fix_inside()
    graph.add("ImageScaleBy", (400, 0), "Enlarge", ["lanczos", 2.0], (1, 0))
    return graph, [*promoted, ("scale_by", 2, 2)]


FIRST, MEASURED = "Fix a dark or blurred photo", "Measure how well a photo was fixed"

BLUEPRINTS = {
    "Fix this photo": (
        fix_inside,
        "Unblur and sharpen a photo, brighten low light and correct the exposure.",
    ),
    "Fix this photo, then enlarge": (
        enlarge_inside,
        "Unblur and brighten a photo, then make it larger.",
    ),
    "Brighten, denoise low light photo": (
        partial(fix_inside, "low light"),
        "Correct the exposure of a dark, sharp photo.",
    ),
    "Unblur and sharpen photo": (
        partial(fix_inside, "deblur"),
        "Remove the blur of a photo with good light.",
    ),
}


def blueprint(name: str) -> dict[str, Any]:
    """One node on the outside that holds others: only the chosen sockets and widgets show."""
    make, description = BLUEPRINTS[name]
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
        "category": "image/restoration",
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
        "extra": {},
    }


LINK_FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def files() -> dict[Path, str]:
    """What every file should hold."""
    made = {ROOT / "workflows" / f"{n}.json": make().workflow(n) for n, make in WORKFLOWS.items()}
    made |= {ROOT / "subgraphs" / f"{name}.json": blueprint(name) for name in BLUEPRINTS}
    return {path: json.dumps(content, indent=1) + "\n" for path, content in made.items()}


def main() -> None:
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
