"""What the page does, without the page: the same bytes as `devudp restore`, and nothing lost."""

from __future__ import annotations

import hashlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.checkpoint import save_checkpoint
from devudp_model.cli import main as cli
from devudp_model.network.generator import Generator
from devudp_model.restoring.options import Options
from devudp_model.task_weights import weights_of
from devudp_model.web.compare import FITTED, FULL, view
from devudp_model.web.session import Cancelled, Photo, Session

JOINT = "joint", Options()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    generator = Generator("devudp", width=4, depth=1)
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    save_checkpoint(tmp_path / "tiny.safetensors", generator, {}, dtype=torch.float32)
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def session(tmp_path: Path, weights: Path) -> Session:
    (tmp_path / "out").mkdir()
    return Session(weights_of(weights, "cpu"), tmp_path / "out", tmp_path / "previews")


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 90, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_the_same_bytes_as_the_command_line(
    name: str, tmp_path: Path, weights: Path, session: Session
) -> None:
    source = photo(tmp_path / "in" / name)
    options = Options(strength=0.7, exposure=0.5, denoise=1.5)
    (done,) = session.restore_all([source], "low light", options)
    words = ["restore", str(source), "--out", str(tmp_path / "cli"), "--format", "same"]
    words += ["--task", "low-light", "--strength", "0.7", "--exposure", "0.5", "--denoise", "1.5"]
    assert cli.main([*words, "--checkpoint", str(weights), "--device", "cpu"]) == 0
    assert done.result and digest(done.result) == digest(tmp_path / "cli" / name)


@pytest.mark.parametrize("task", ["joint", "low light"])
def test_strength_and_exposure_do_not_run_the_network_again(
    task: str, tmp_path: Path, session: Session
) -> None:
    source = photo(tmp_path / "a.png")
    first = session.restore(source, task, Options())
    assert first.ran == 1 and first.result
    before, name = digest(first.result), first.result
    again = session.restore(source, task, Options(strength=0.4, exposure=0.3))
    assert again.ran == 0 and again.result == name and digest(name) != before
    assert session.restore(source, task, Options()).ran == 0 and digest(name) == before


def test_a_result_never_replaces_a_file_that_was_there(tmp_path: Path, session: Session) -> None:
    (session.out / "a.png").write_text("mine")
    first = session.restore(photo(tmp_path / "one" / "a.png", 1), *JOINT)
    second = session.restore(photo(tmp_path / "two" / "a.png", 2), *JOINT)
    assert first.result and first.result.name == "a (2).png"
    assert second.result and second.result.name == "a (3).png"
    assert (session.out / "a.png").read_text() == "mine"


def test_a_photo_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, session: Session
) -> None:
    bad, text = tmp_path / "bad.jpg", tmp_path / "notes.txt"
    bad.write_bytes(b"no image")
    text.write_text("no image")
    done = session.restore_all([bad, text, photo(tmp_path / "a.png")], *JOINT)
    assert [bool(each.result) for each in done] == [False, False, True]
    assert done[0].error.startswith("It is not an image of a kind that can be read")
    assert done[1].error and not any(str(tmp_path) in each.error for each in done)
    assert [path.name for path in session.out.iterdir()] == ["a.png"]


def test_what_is_converted_is_said_on_the_page(
    tmp_path: Path, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever looks at a page does not look at the terminal, where it stands too."""
    Image.new("CMYK", (40, 56), (0, 99, 99, 0)).save(tmp_path / "a.jpg")
    done = session.restore(tmp_path / "a.jpg", *JOINT)
    assert done.reason == "Its colours (CMYK) are converted to sRGB."
    assert "a.jpg: its colours (CMYK) are converted" in caplog.text
    assert session.restore(photo(tmp_path / "b.jpg"), *JOINT).reason == ""


def test_cancelling_keeps_what_is_finished(tmp_path: Path, session: Session) -> None:
    sources = [photo(tmp_path / f"{number}.png", number) for number in range(5)]

    def report(done: float, name: str) -> None:
        if name == "2.png":
            session.cancel()

    with pytest.raises(Cancelled):
        session.restore_all(sources, *JOINT, report)
    assert sorted(path.name for path in session.out.iterdir()) == ["0.png", "1.png"]
    assert len(session.restore_all(sources, *JOINT)) == 5  # and it can begin again


def test_a_control_that_is_moved_meanwhile(tmp_path: Path, session: Session) -> None:
    """Waits for the photograph that is being restored, also if it is the same one."""
    source = photo(tmp_path / "a.png")
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda task: session.restore(source, task, Options()), ["joint"] * 4))
    assert not any(each.error for each in done)
    assert [path.name for path in session.out.iterdir()] == ["a.png"]


def test_only_the_last_photos_keep_the_networks_outputs(tmp_path: Path, session: Session) -> None:
    sources = [photo(tmp_path / f"{number}.png", number) for number in range(6)]
    session.restore_all(sources, *JOINT)
    assert list(session.caches) == sources[-4:]
    assert session.restore(sources[0], *JOINT).ran == 1


def test_all_results_in_one_file(tmp_path: Path, session: Session) -> None:
    with pytest.raises(ValueError, match="no results yet"):
        session.zip_all()
    session.restore_all([photo(tmp_path / "a.png"), photo(tmp_path / "b.jpg")], *JOINT)
    with zipfile.ZipFile(session.zip_all()) as archive:
        assert archive.read("a.png") == (session.out / "a.png").read_bytes()
        assert sorted(archive.namelist()) == ["a.png", "b.jpg"]


@pytest.mark.parametrize("size", [FITTED, FULL])
def test_names_are_no_markup(size: str, tmp_path: Path) -> None:
    place = tmp_path / 'a"><script>.jpg'
    if "\\" in str(place):
        pytest.skip("no such names")
    place.write_bytes(b"")
    html = view('<b onload="x">', place, place, size)
    assert "<script" not in html and "<b " not in html and html.count("<img") == 2


@pytest.fixture
def page(session: Session) -> Any:
    pytest.importorskip("gradio")
    from devudp_model.web.page import Page

    return Page(session.weights, session.out, session.previews, [])


def asked_by(tab: str) -> Any:
    return SimpleNamespace(session_hash=tab)


def test_no_tab_sees_the_photos_of_another(page: Any) -> None:
    """Also after one of them has been closed."""
    page.session(asked_by("first"))
    second = page.session(asked_by("second"))
    page.close(asked_by("first"))
    assert page.session(asked_by("third")).previews != second.previews


def test_the_photo_that_was_clicked_is_shown(page: Any, tmp_path: Path) -> None:
    """After others were restored before, which the gallery does not show any more."""
    tab, settings = asked_by("tab"), ("joint", 1.0, True, 1.0, 1.0, FITTED)
    for names in (("a.png", "b.png"), ("c.png", "d.png")):
        files = [str(photo(tmp_path / name)) for name in names]
        (found,) = page.restore(files, None, *settings, tab, progress=lambda *_, **__: None)
    assert "a.png" not in found[2]
    shown, chosen = page.choose(FITTED, tab, SimpleNamespace(index=1))
    assert "d.png" in shown and chosen == files[1]
    _, text = page.change(chosen, *settings, tab)
    assert text.count("png") == 2 and "a.png" not in text


def test_spaces_around_a_name_are_no_markup(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    from devudp_model.web.page import summary

    listed = Photo(tmp_path / " a .jpg", result=tmp_path / "a.jpg")
    assert summary([listed]) == "- **a .jpg**"
