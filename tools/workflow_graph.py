"""A workflow as the page saves it: nodes with their places, sockets and widgets, and links."""

from __future__ import annotations

import re
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from tests.host.environment import ROOT

VERSION = re.findall(
    r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M
)[0]
REGISTRY_ID = "devudp"
CORE = "comfy-core", "0.3.64"

Pair = tuple[int, int]

ACROSS = 320
"""The width of most nodes."""

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


class Graph:
    """Nodes and links of one workflow; columns from left to right, the note above all."""

    def __init__(self, note: str, size: Pair = (720, 140), at: Pair = (0, -240)):
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        # Said also where it is not so: pages of early 2026 else go on showing what opens as an app.
        self.extra: dict[str, Any] = {"linearMode": False}
        if note:
            self.add("MarkdownNote", at, "How to", [note], size=size)
            # Black as in ComfyUI's own: Nodes 2.0 writes in grey, hard to read on other colours.
            self.nodes[0].update(color="#222", bgcolor="#000")

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
        """Sets what the page's app mode shows (from 2026 on): widgets as (node, name), nodes."""
        self.extra["linearData"] = {"inputs": [list(pair) for pair in inputs], "outputs": outputs}


def slot(text: str) -> dict[str, Any]:
    name, kind = text.split(":")
    return {"name": name, "type": kind}


def identity(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"devudp/{name}"))


def properties(kind: str) -> dict[str, Any]:
    """Names what "install missing nodes" looks for: the pack in the registry, its version."""
    if kind == "MarkdownNote":
        return {}
    pack, version = (REGISTRY_ID, VERSION) if kind.startswith("DEvUDP") else CORE
    return {"cnr_id": pack, "ver": version, "Node name for S&R": kind}
