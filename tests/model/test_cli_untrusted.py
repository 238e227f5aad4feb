"""`devudp restore` with names, links and files that somebody else made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from devudp_model.batch import restore_files as batch
from devudp_model.checkpoint import load_checkpoint, save_checkpoint
from devudp_model.cli import main as cli
from devudp_model.images import raster as images
from devudp_model.images.writing import write_image
from devudp_model.system import atomic, untrusted
from tests.model.cli_files import draw, names

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are something else there")
@pytest.mark.parametrize("recursive", [True, False])
def test_links_in_circles_and_pipes_stop_only_themselves(
    tmp_path: Path, devudp: Callable[..., int], capsys: pytest.CaptureFixture[str], recursive: bool
) -> None:
    draw(tmp_path / "in/a.png")
    (tmp_path / "in/loop.png").symlink_to("loop.png")
    (tmp_path / "in/loop").symlink_to("loop")
    (tmp_path / "in/up").symlink_to("..")
    os.mkfifo(tmp_path / "in/pipe.png")
    assert devudp(tmp_path / "in", *(["--recursive"] if recursive else [])) == 1
    err = capsys.readouterr().err
    assert names(tmp_path / "out") == ["a.png"]
    assert "loop.png cannot be read: Too many levels" in err
    assert "pipe.png is not a regular file" in err and "2 failed" in err


def test_sheets_that_are_there_are_not_replaced(
    tmp_path: Path, devudp: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    source, sheet = draw(tmp_path / "in/a.png"), tmp_path / "out/a.compare.jpg"
    sheet.parent.mkdir()
    sheet.write_bytes(b"precious")
    assert devudp(source, "--compare") == 1
    assert "a.compare.jpg exists already" in capsys.readouterr().err
    assert names(tmp_path / "out") == ["a.compare.jpg"]
    assert devudp(source, "--compare", "--skip-existing") == 0
    assert sheet.read_bytes() == b"precious"
    assert names(tmp_path / "out") == ["a.compare.jpg", "a.png"]
    assert devudp(source, "--compare", "--overwrite") == 0
    assert sheet.read_bytes() != b"precious"


def test_a_result_that_comes_meanwhile_is_not_replaced(
    tmp_path: Path,
    devudp: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two runs into one folder: the first one to be done has the name."""
    source, target = draw(tmp_path / "in/a.png"), tmp_path / "out/a.png"
    real = batch.read_stored

    def read(path: Path, *on_size_known: Any) -> images.RasterImage:
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"of the other one")
        return real(path, *on_size_known)

    monkeypatch.setattr(batch, "read_stored", read)
    assert devudp(source) == 1
    assert f"{target} exists already" in capsys.readouterr().err
    assert target.read_bytes() == b"of the other one"
    assert names(tmp_path / "out") == ["a.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be removed there")
def test_what_a_killed_run_left_is_removed(tmp_path: Path, devudp: Callable[..., int]) -> None:
    source = draw(tmp_path / "in/sub/a.png")
    (tmp_path / "out/sub").mkdir(parents=True)
    for folder in ("out", "out/sub"):
        (tmp_path / folder / ".devudp-0123.tmp").write_bytes(b"half")
    (tmp_path / "out/sub/.devudp-link.tmp").symlink_to(source)
    with atomic.replacing(tmp_path / "out/sub/other.png") as file:  # of a run that goes on
        file.write(b"whole")
        assert devudp(tmp_path / "in", "--recursive") == 0
    left = names(tmp_path / "out")
    assert left == ["sub/.devudp-link.tmp", "sub/a.png", "sub/other.png"]
    assert (tmp_path / "out/sub/other.png").read_bytes() == b"whole" and source.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="such names cannot be there")
def test_control_characters_do_not_reach_the_terminal(tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / "in\x1b[2J"
    draw(folder / "a.png").rename(folder / "a\x1b]0;evil\x07\n\u202e.png")
    for name in ("b\x1b[31m.png", "c\udcff.png", "d\x1b[0m.heic"):
        (folder / name).write_bytes(b"no image")
    deep = images.RasterImage(torch.rand(1, 3, 4, 4), bits=16)
    write_image(folder / "e\x1b[5m.png", deep)
    said = {"recipe": "\x1b[2J\nvariant  none"}
    named = tmp_path / "w\x07.safetensors"
    save_checkpoint(named, load_checkpoint(weights).generator, said)
    restoring = ["restore", folder, "--out", tmp_path / "out", "--format", "jpeg"]
    outputs = ""
    for given in ([*restoring, "--checkpoint", weights, "--device", "cpu"], ["info", named]):
        command = [sys.executable, "-m", "devudp_model.cli", *given]
        result = subprocess.run(command, cwd=ROOT, capture_output=True)
        outputs += (result.stdout + result.stderr).decode()
    assert not {sign for sign in outputs if not sign.isprintable()} - {"\n"}
    for written in ("\\x1b[31m", "\\udcff", "\\x1b[2J\\nvariant"):
        assert written in outputs
    assert "e\\x1b[5m.jpg: it has 8 bits" in outputs and "0 restored" in outputs
    assert "2 left as they are" in outputs


@pytest.mark.parametrize("option", ["--out", "--mask", "--checkpoint", "path"])
def test_an_empty_path_is_not_the_current_folder(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = {"path": [""]}.get(option, [str(draw(tmp_path / "a.png")), option, ""])
    with pytest.raises(SystemExit) as end:
        cli.main(["restore", "--out", str(tmp_path / "out"), *command])
    assert end.value.code == 2
    assert "is empty; write . for the current folder" in capsys.readouterr().err


def test_other_kinds_of_images_are_named(
    tmp_path: Path, devudp: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    draw(tmp_path / "in/a.png")
    for name in ("b.JP2", "c.jp2", "d.gif", "e.exr"):
        (tmp_path / "in" / name).write_bytes(b"x")
    assert devudp(tmp_path / "in") == 0
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert any("2 .jp2 files skipped" in text and "Convert" in text for text in said)
    assert any("1 .gif file skipped" in text for text in said)
    assert any("1 .exr file skipped" in text for text in said)


@pytest.mark.slow
def test_file_memory(
    tmp_path: Path,
    devudp: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(untrusted.MEMORY_VARIABLE, "")  # so that it is taken back afterwards
    source = draw(tmp_path / "a.png", (400, 300))
    assert devudp(source, "--file-memory", "1MB") == 1
    assert "400x300 pixels" in (err := capsys.readouterr().err) and "--file-memory 1GB" in err
    assert devudp(source, "--file-memory", "1GB") == 0
