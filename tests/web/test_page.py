"""The page in a real browser: drop, restore, compare, change, download; nobody else is asked."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.checkpoint import save_checkpoint
from devudp_model.cli import main as cli
from devudp_model.network.generator import Generator
from devudp_model.web.serve import PASSWORD, samples
from tests.host.browser import find_chromium

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = pytest.mark.slow

SECONDS = 120_000.0  # milliseconds, of a busy machine
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web")
    torch.manual_seed(0)
    generator = Generator("devudp", width=4, depth=1)
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    save_checkpoint(folder / "tiny.safetensors", generator, {}, dtype=torch.float32)
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.png"):
        Image.fromarray(rng.integers(0, 60, (240, 320, 3), np.uint8)).save(folder / name)
    (folder / "bad.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    """`devudp web` in a process of its own."""
    command = [sys.executable, "-m", "devudp_model.cli", "web", "--no-browser", "--device", "cpu"]
    command += ["--out", str(place / "out"), "--checkpoint", str(place / "tiny.safetensors")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            found = next(filter(None, (re.search(r"http://\S+", s) for s in process.stdout)), None)
            assert found, "the page did not start"
            yield found[0]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = find_chromium()
    if not chromium:
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as running:
        yield running.chromium.launch(executable_path=chromium, args=ARGUMENTS)


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A new tab, and the addresses it asked."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    page.get_by_role("button", name="Restore", exact=True).wait_for()
    yield page
    strangers = [url for url in page.asked if not url.startswith((address, "data:", "blob:"))]
    assert not strangers
    context.close()


def give(page: Any, *paths: Path) -> None:
    page.set_input_files("input[type=file]", [str(path) for path in paths])
    for path in paths:
        page.locator("#photos").get_by_text(path.suffix).first.wait_for()


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_from_the_photo_to_the_saved_result(page: Any, place: Path) -> None:
    give(page, place / "a.jpg", place / "bad.jpg")
    page.get_by_text("low-light:").click()
    press(page, "Restore")
    page.locator(".compare img.after").wait_for()
    page.get_by_text("not restored").wait_for()  # bad.jpg, which stops nothing
    slider = page.get_by_label("Where the line is")
    slider.fill("20")
    assert "20%" in page.locator(".compare").get_attribute("style")
    with page.expect_download() as download:
        press(page, "Download this photo")
    download.value.save_as(place / "downloaded.jpg")
    words = ["restore", str(place / "a.jpg"), "--out", str(place / "cli"), "--format", "same"]
    words += ["--task", "low-light", "--checkpoint", str(place / "tiny.safetensors")]
    assert cli.main([*words, "--device", "cpu", "--overwrite"]) == 0
    assert digest(place / "downloaded.jpg") == digest(place / "cli" / "a.jpg")
    before = page.locator(".compare img.after").get_attribute("src")
    page.get_by_label("The task's own exposure").uncheck()
    page.wait_for_function(
        "old => document.querySelector('.compare img.after').getAttribute('src') != old", arg=before
    )
    page.get_by_text("100 %").click()
    page.locator(".compare.full").wait_for()


def test_no_photos_and_no_results_are_said(page: Any) -> None:
    press(page, "Restore")
    page.get_by_text("There are no photos yet").wait_for()
    press(page, "Download all (zip)")
    page.get_by_text("There are no results yet").wait_for()


NO_TRANSITION = "!document.getAnimations().some(each => each instanceof CSSTransition)"


@pytest.mark.parametrize("width", [390, 820, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_for_everybody(width: int, scheme: str, page: Any, place: Path) -> None:
    """No serious finding of axe-core, and nothing to scroll sideways."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.reload()
    give(page, place / "b.png")
    page.get_by_text("joint:").click()
    press(page, "Restore")
    page.locator(".compare img.after").wait_for()
    top = page.evaluate("document.getElementById('result').getBoundingClientRect().top")
    assert top < 900, "the result is out of sight"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.wait_for_function(NO_TRANSITION)  # colours on their way have less contrast
    found = axe.Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not [(each["id"], [node["html"] for node in each["nodes"]]) for each in serious]


def test_a_closed_tab_ends_the_work(browser: Any, address: str, place: Path) -> None:
    """What is written stays."""
    rng, many = np.random.default_rng(1), []
    for number in range(40):
        many.append(place / f"many{number}.png")
        Image.fromarray(rng.integers(0, 60, (1200, 1600, 3), np.uint8)).save(many[-1])
    tab = browser.new_page()
    tab.set_default_timeout(SECONDS)
    tab.goto(address)
    give(tab, *many)
    tab.get_by_text("joint:").click()
    press(tab, "Restore")
    out = place / "out"
    deadline = time.monotonic() + 120
    while not list(out.glob("many*.png")) and time.monotonic() < deadline:
        time.sleep(0.2)
    tab.close()
    last = -1
    while last != (count := len(list(out.glob("many*.png")))) and time.monotonic() < deadline:
        last = count
        time.sleep(6)
    assert 1 <= count < 40
    assert not list(out.glob(".*")), "something half written"


def test_a_port_that_is_taken_is_said(address: str, place: Path, capsys: Any) -> None:
    port = address.rstrip("/").rsplit(":", 1)[1]
    words = ["web", "--no-browser", "--out", str(place / "other"), "--port", port]
    assert cli.main([*words, "--device", "cpu"]) == 1
    assert f"port {port} is taken" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "file"], "cannot write to file: it is a file, not a folder"),
        (["--device", "tpu"], "no device 'tpu'"),
        (["--checkpoint", "gone.safetensors"], "no file gone.safetensors"),
    ],
)
def test_what_cannot_work_is_said_before_the_page_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("devudp_model.web.page.launch", lambda *_, **__: pytest.fail("opened"))
    assert cli.main(["web", "--no-browser", *words]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x"])
def test_a_port_that_is_none(port: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        cli.main(["web", f"--port={port}"])
    assert "not a number from 1 to 65535" in capsys.readouterr().err


def test_others_need_a_password(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115, PTH123
    words = ["web", "--listen", "0.0.0.0", "--out", str(place / "out"), "--no-browser"]
    assert cli.main(words) == 1
    assert "needs a password" in capsys.readouterr().err


def test_there_are_samples() -> None:
    assert len(samples()) == 3
