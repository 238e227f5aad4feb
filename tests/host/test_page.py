"""ComfyUI's page, with the pack in a folder of its usual name, in a real browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from tests.host.browser import find_chromium, look
from tests.host.conftest import fill_base
from tests.host.environment import CACHE, ROOT, Host, version
from tests.host.page_workflows import (
    again,
    blueprint_again,
    blueprints_in_use,
    slow_workflow,
    small_workflows,
)
from tests.host.prompts import Builder
from tests.host.server import Server, install_pack, serve
from tests.host.test_nodes import NODES
from tests.host.test_texts import COMPLAINTS, WORDS
from tests.host.workflows import load, to_prompt, workflow_files
from tools import make_workflows

PACK = "comfyui-devudp"
NAME = "DEvUDP Restore"
"""What the README says to look for."""
SCREENSHOTS = CACHE / "screenshots" / version().replace(" ", "-")


@pytest.fixture(scope="module")
def plain_server(
    host: Host, photo: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A second ComfyUI: the pack's usual folder name, and the user's own model folder."""
    base = tmp_path_factory.mktemp("plain")
    fill_base(base, photo)
    install_pack(base / "custom_nodes" / PACK)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "weights" / "mine").mkdir(parents=True)
    models = base / "models" / "devudp"
    shutil.move(models / "small.safetensors", elsewhere / "weights" / "mine" / "own.safetensors")
    settings = elsewhere / "extra_model_paths.yaml"
    settings.write_text(
        f"mine:\n  base_path: {elsewhere.as_posix()}\n  devudp: weights\n", encoding="utf-8"
    )
    with serve(host, base, ["--extra-model-paths-config", str(settings)]) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> str:
    """A browser."""
    chromium = find_chromium()
    if not chromium:
        pytest.skip(
            "no Chromium: the page was NOT tested. Install one (Debian: apt-get install chromium) "
            "or name it in the environment variable CHROMIUM."
        )
    return chromium


@pytest.fixture(scope="module")
def page(host: Host, plain_server: Server, chromium: str, photo: np.ndarray) -> dict[str, Any]:
    """What was found in it: every workflow opened and run, a help page read."""
    return look(
        host,
        plain_server,
        chromium,
        SCREENSHOTS,
        [*blueprints_in_use(), *small_workflows()],
        help=NODES,
        tabs=[make_workflows.FIRST, make_workflows.MEASURED],
        search=[*WORDS, NAME, *(COMPLAINTS if aliases_are_searched(plain_server) else ())],
        filtered="Extensions" if output_comes_again(plain_server) else "",
        cancel=slow_workflow(plain_server, photo),
        reload=again(0.8),
    )


def aliases_are_searched(server: Server) -> bool:
    """Whether this is a ComfyUI of 2026, whose page looks for more than names."""
    return "search_aliases" in server.get("/object_info/DEvUDPRestore")["DEvUDPRestore"]


def output_comes_again(server: Server) -> bool:
    """Whether a page that was loaded anew gets what is cached; its search has filters then, too."""
    info = server.get("/object_info/DEvUDPRestore")["DEvUDPRestore"]
    return bool(info.get("has_intermediate_output"))


def test_weights_in_the_users_own_folders_are_found(plain_server: Server) -> None:
    info = plain_server.get("/object_info/DEvUDPRestore")["DEvUDPRestore"]
    name = "mine/own.safetensors"
    assert name in [
        o.replace("\\", "/") for o in info["input"]["required"]["checkpoint"][1]["options"]
    ]
    build = Builder()
    saved = build.save(build.restore(build.load(), checkpoint=str(Path(name))))
    run = plain_server.run(build.prompt)
    assert run.status == "success", run.error
    assert plain_server.images(run, saved)


def test_examples_and_translations_are_served(plain_server: Server) -> None:
    offered = plain_server.get("/api/workflow_templates")[PACK]
    assert sorted(offered) == sorted(path.stem for path in workflow_files())
    for name in map(quote, offered):
        thumbnail = plain_server.download(f"/api/workflow_templates/{PACK}/{name}.jpg")
        assert thumbnail[:2] == b"\xff\xd8"
        assert plain_server.get(f"/api/workflow_templates/{PACK}/{name}.json")["nodes"]
    languages = plain_server.get("/api/i18n")
    for path in (ROOT / "locales").iterdir():
        assert "DEvUDPRestore" in languages[path.name]["nodeDefs"]


def test_every_workflow_opens_and_runs_in_the_page(
    page: dict[str, Any], plain_server: Server
) -> None:
    info = plain_server.get("/object_info")
    assert set(page["workflows"]) >= {path.stem for path in workflow_files()}
    for path in small_workflows():
        seen = page["workflows"][path.stem]
        assert seen["unknown"] == [], path.stem
        assert seen["alerts"] == [], path.stem
        assert seen["status"] == "success", path.stem
        prompt = {
            number: {"class_type": node["class_type"], "inputs": node["inputs"]}
            for number, node in seen["prompt"].items()
        }
        assert prompt == to_prompt(load(path), info), path.stem


def test_the_samples_are_copied_once(plain_server: Server) -> None:
    """They are there from the first start on, and the log says so."""
    names = {path.name for path in (plain_server.base / "input").glob("devudp_*")}
    assert {make_workflows.BAD, make_workflows.GOOD} <= names
    assert "DEvUDP copied sample images" in plain_server.log_text()
    told = (plain_server.base / "user" / "devudp_samples.txt").read_text(encoding="utf-8")
    assert set(told.split()) == names


def test_blueprints_are_offered_and_run(page: dict[str, Any], plain_server: Server) -> None:
    offered = plain_server.get("/api/global_subgraphs").values()
    names = {entry["name"] for entry in offered if PACK in entry["info"]["node_pack"]}
    assert names == set(make_workflows.BLUEPRINTS)
    for name in names:
        seen = page["workflows"][name]
        assert seen["unknown"] == [] and seen["alerts"] == []
        assert seen["status"] == "success"
        kinds = {node["class_type"] for node in seen["prompt"].values()}
        assert {"LoadImage", "DEvUDPRestore", "PreviewImage"} <= kinds
        assert "a view" in seen["shown"][name], "on the outside"
        [inside] = [n for n in seen["prompt"].values() if n["class_type"] == "DEvUDPRestore"]
        texts = [text for text in seen["shown"][name] if text != "a view"]
        assert len(texts) == (inside["inputs"]["task"] == "auto"), "what auto did, too"


def test_the_numbers_are_still_there_when_the_tab_is_opened_again(page: dict[str, Any]) -> None:
    assert page["tabs"] == page["workflows"][make_workflows.MEASURED]["texts"]


@pytest.mark.parametrize("word", WORDS)
def test_the_node_search_finds_it(page: dict[str, Any], word: str) -> None:
    assert [entry for entry in page["search"][word] if "devudp" in entry.lower()], page["search"][
        word
    ]


def test_the_first_that_is_found_by_its_name_is_for_photos(page: dict[str, Any]) -> None:
    assert "Video" not in page["search"][NAME][0], page["search"][NAME]


@pytest.mark.parametrize("word", COMPLAINTS)
def test_who_has_a_bad_photo_does_not_find_what_makes_bad_ones(
    page: dict[str, Any], plain_server: Server, word: str
) -> None:
    """First what helps; with the filter Extensions, before the nodes of ComfyUI itself, too."""
    if not aliases_are_searched(plain_server):
        pytest.skip("this page looks for names only")
    filtered = output_comes_again(plain_server)
    for found in (page["search"][word], *([page["filtered"][word]] if filtered else [])):
        ours = [entry for entry in found if "DEvUDP" in entry]
        assert "Restore" in ours[0], found
        assert "Degrade" not in "".join(ours[:2])
    if filtered:
        assert "Restore" in page["filtered"][word][0]


def test_what_nodes_show_is_back_after_a_reload(page: dict[str, Any], plain_server: Server) -> None:
    shown = page["reloaded"]
    assert "a view" in shown["before"]["Restore"]
    if not output_comes_again(plain_server):
        pytest.skip("this ComfyUI sends a page that was loaded anew nothing of what it has cached")
    assert shown["after"] == shown["before"]


def test_the_page_has_no_errors_of_ours(page: dict[str, Any]) -> None:
    ours = [e for e in page["errors"] if PACK in e or "devudp" in e.lower()]
    assert not ours


def test_no_preview_stays_on_a_node_that_has_run(page: dict[str, Any]) -> None:
    """It would be the result a second time, and cover the nodes below."""
    assert not any(seen["previews"] for seen in page["workflows"].values())


def test_no_preview_stays_on_a_node_that_was_stopped(page: dict[str, Any]) -> None:
    assert page["cancelled"] == {"previews": [], "views": []}


def test_the_numbers_are_shown_on_the_node(page: dict[str, Any]) -> None:
    texts = page["workflows"][make_workflows.MEASURED]["texts"]
    assert len(texts) == 2
    assert all("PSNR" in text and "SSIM" in text and "MAE" in text for text in texts.values())


@pytest.mark.parametrize("node", NODES)
def test_the_help_page_opens_with_its_image(page: dict[str, Any], node: str) -> None:
    """Ours, not the one that the page makes from the tooltips."""
    ours = (ROOT / "web" / "docs" / node / "en.md").read_text(encoding="utf-8")
    help = page["help"][node]
    last = (
        ours.strip().splitlines()[-1].replace("*", "").replace("`", "").removeprefix("- ").strip()
    )
    assert last in " ".join(help["text"].split())
    [image] = re.findall(r"!\[[^]]+\]\(([^)]+)\)", ours)
    [[source, width]] = help["images"]
    assert source.endswith(image) and width >= 300


def test_the_page_in_another_language(host: Host, plain_server: Server, chromium: str) -> None:
    files = [path for path in workflow_files() if path.stem == make_workflows.FIRST]
    # Of this language the page has texts of its own, with which older pages replaced ours.
    locale = "fr" if aliases_are_searched(plain_server) else "de"
    seen = look(
        host,
        plain_server,
        chromium,
        SCREENSHOTS / locale,
        files,
        run=False,
        help=["DEvUDPRestore"],
        locale=locale,
    )
    names, question = {
        "fr": (["image", "masque", "tâche"], "Quelle tâche"),
        "de": (["Bild", "Maske", "Aufgabe"], "Welche Aufgabe?"),
    }[locale]
    assert seen["names"][1:4] == names
    assert question in seen["help"]["DEvUDPRestore"]["text"]


def test_the_view_is_large_enough(page: dict[str, Any]) -> None:
    seen = page["workflows"]
    assert len(seen[make_workflows.FIRST]["views"]) == 1
    graphs = [one for name, one in seen.items() if not name.endswith(".app")]  # a form instead
    assert all(height >= 200 for one in graphs for height in one["views"])


def test_the_view_is_as_large_in_nodes_2(host: Host, plain_server: Server, chromium: str) -> None:
    """Beside the text of `auto`, which would take half of the room."""
    paths = [again(0.9), blueprint_again(0.55)]
    seen = look(host, plain_server, chromium, SCREENSHOTS / "nodes2", paths, nodes2=True)
    for path in paths:
        [height] = seen["workflows"][path.stem]["views"]
        assert 200 <= height < 300, path.stem
        assert not seen["workflows"][path.stem]["previews"], "the result a second time"
        [shown] = seen["workflows"][path.stem]["shown"].values()
        assert len(shown) == 2, "what auto did, too"
