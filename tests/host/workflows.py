"""Workflow files as the page saves them, turned into prompts as the server takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.host.environment import ROOT
from tests.host.server import Prompt

FOLDER = ROOT / "workflows"
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
"""A choice that brings inputs of its own."""

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC}
NOT_RUN = {"Note", "MarkdownNote"}
BYPASSED = 4


def workflow_files() -> list[Path]:
    """The shipped workflows."""
    return sorted(FOLDER.glob("*.json"))


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> Prompt:
    """The prompt that the page would send for a workflow.

    Args:
        workflow: as saved by the page: nodes with `widgets_values` in the order of their widgets.
        object_info: what the server says of its nodes.
    """
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt: Prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOT_RUN or node["mode"] == BYPASSED:
            continue
        inputs = widget_inputs(node, object_info[node["type"]])
        for slot in node.get("inputs", []):
            if slot.get("link") is not None:
                inputs[slot["name"]] = links[slot["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def widget_inputs(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """The widgets' values by the names of their inputs."""
    values = list(node.get("widgets_values", []))
    inputs = take_values(values, info["input"])
    if values:
        raise ValueError(f"node {node['id']} ({node['type']}) has values left over: {values}")
    return inputs


def take_values(values: list[Any], described: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Takes the values of the described inputs out of `values`, from the front.

    Args:
        values: of a node's widgets.
        described: required and optional inputs, as the server says.
        before: comes before the inputs' names; those of a dynamic combo's choice have its name.
    """
    inputs: dict[str, Any] = {}
    for kind in ("required", "optional"):
        for name, (input_type, *details) in described.get(kind, {}).items():
            options = details[0] if details else {}
            if isinstance(input_type, list):
                input_type = "COMBO"
            if input_type not in WIDGETS or options.get("forceInput"):
                continue
            dynamic = options["options"] if input_type == DYNAMIC else []
            if values:
                value = values.pop(0)
            else:  # saved before the node had this widget: the page takes its default
                value = dynamic[0]["key"] if dynamic else options["default"]
            inputs[before + name] = value
            for choice in dynamic:
                if choice["key"] == value:
                    inputs |= take_values(values, choice["inputs"], f"{before}{name}.")
            if options.get("control_after_generate"):
                values.pop(0)  # "fixed", "randomize", ...: a widget of the page alone
            if options.get("image_upload"):
                values.pop(0)  # the upload button
    return inputs
