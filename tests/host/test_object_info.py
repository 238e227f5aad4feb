"""What the running host says of the nodes: what is frozen, and what only newer hosts are told."""

from __future__ import annotations

import json
import os
import urllib.error
from typing import Any

from tests.host.environment import HERE, given_tree
from tests.host.server import Server
from tests.host.test_nodes import NODES

STORED = HERE / "object_info.json"


def frozen_part(info: dict[str, Any]) -> dict[str, Any]:
    """What workflows depend on, without what depends on the installation."""
    info = json.loads(json.dumps(info))
    info.pop("python_module")
    checkpoint = info["input"]["required"].get("checkpoint")
    if checkpoint:
        checkpoint[1]["options"] = [o for o in checkpoint[1]["options"] if "." not in o]
    return info


def without_news(info: Any, stored: Any) -> Any:
    """What a newer host says of a node, without the fields that 0.3.75 does not know."""
    if isinstance(info, dict) and isinstance(stored, dict):
        inputs = info.keys() if "required" in stored else stored.keys()  # no input may be new
        return {key: without_news(info[key], stored.get(key)) for key in inputs if key in info}
    if isinstance(info, list) and isinstance(stored, list) and len(info) == len(stored):
        return [without_news(*pair) for pair in zip(info, stored, strict=True)]
    return info


def test_ids_inputs_and_their_order_are_frozen(server: Server) -> None:
    info = {name: frozen_part(server.get(f"/object_info/{name}")[name]) for name in NODES}
    if os.environ.get("DEVUDP_FREEZE_AGAIN"):
        STORED.write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    frozen = json.loads(STORED.read_text(encoding="utf-8"))
    known = without_news(info, frozen) if given_tree() else info
    assert known == frozen, (
        "nodes changed, which breaks saved workflows; if that is meant, set DEVUDP_FREEZE_AGAIN=1"
    )
    for name, node in info.items():  # equal dictionaries may differ in order
        assert node["input_order"] == frozen[name]["input_order"]


def test_newer_hosts_are_told_more(server: Server) -> None:
    """Words to be found by; which outputs a reloaded page needs again; that one node goes."""
    for name in NODES:
        info = server.get(f"/object_info/{name}")[name]
        assert not info.get("essentials_category"), "pages leave such nodes out of 'Extensions'"
        assert info["deprecated"] == (name == "DEvUDPLoadUpscaleModel")
        if "search_aliases" in info:
            restores = {"deblur", "motion blur", "night"} <= set(info["search_aliases"])
            assert restores == (name in ("DEvUDPRestore", "DEvUDPRestoreVideo"))
        if "has_intermediate_output" in info:
            assert info["has_intermediate_output"] == (name != "DEvUDPDegrade")


def test_what_comes_in_place_of_the_upscale_model(server: Server) -> None:
    try:
        [found] = server.get("/node_replacements")["DEvUDPLoadUpscaleModel"]
    except urllib.error.HTTPError:
        assert "search_aliases" not in server.get("/object_info/DEvUDPRestore")["DEvUDPRestore"]
        return
    assert found["new_node_id"] == "DEvUDPRestore"
    order = server.get("/object_info/DEvUDPLoadUpscaleModel")["DEvUDPLoadUpscaleModel"]
    inputs = [*order["input_order"]["required"], *order["input_order"]["optional"]]
    assert found["old_widget_ids"] == [name for name in inputs if name != "image"]
    known = server.get("/object_info/DEvUDPRestore")["DEvUDPRestore"]["input"]["required"]
    for each in found["input_mapping"]:
        assert each["old_id"] in inputs and each["new_id"] in known
