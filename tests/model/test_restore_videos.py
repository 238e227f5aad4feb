"""Videos among the files of a run: which, under which name, and what is said of them."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from devudp_model.batch import restore_videos
from devudp_model.batch.outcome import explain
from devudp_model.batch.plan import PlanError
from devudp_model.batch.restore_videos import split_videos
from devudp_model.checkpoint import save_checkpoint
from devudp_model.cli import main as cli
from devudp_model.network.generator import Generator
from tests.model.video_cases import frames_of, write
from tests.model.video_files import make_video

pytest.importorskip("av")


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def names(jobs: list[Any], out: Path) -> dict[str, str]:
    return {job.source.name: job.target.relative_to(out).as_posix() for job in jobs}


def test_names_differ_where_only_the_suffix_does(tmp_path: Path) -> None:
    paths, out = touch(tmp_path, "clip.mov", "clip.mp4", "other.mkv", "a.png"), tmp_path / "out"
    others, jobs, problems = split_videos(paths, out)
    assert others == [tmp_path / "a.png"] and not problems
    assert names(jobs, out) == {
        "clip.mov": "clip_mov.mp4",
        "clip.mp4": "clip_mp4.mp4",
        "other.mkv": "other.mp4",
    }


def test_one_name_in_two_folders(tmp_path: Path) -> None:
    paths, out = touch(tmp_path, "a/clip.mp4", "b/clip.mp4"), tmp_path / "out"
    assert [job.target for job in split_videos(paths, out).jobs] == [
        out / "a/clip.mp4",
        out / "b/clip.mp4",
    ]


@pytest.mark.parametrize("recursive", [False, True])
def test_videos_in_folders(tmp_path: Path, recursive: bool) -> None:
    touch(tmp_path / "in", "a.MTS", "b.png", "deeper/c.vob", ".hidden.mp4", "out/old.mp4")
    out = tmp_path / "in" / "out"
    assert split_videos([tmp_path / "in"], out, recursive=recursive).jobs == []
    others, jobs, _ = split_videos([tmp_path / "in"], out, in_folders=True, recursive=recursive)
    assert others == [tmp_path / "in"]
    found = {"a.MTS": "a.mp4", "c.vob": "deeper/c.mp4"}
    assert names(jobs, out) == (found if recursive else {"a.MTS": "a.mp4"})


def test_no_result_replaces_an_input(tmp_path: Path) -> None:
    [clip] = touch(tmp_path, "clip.mp4")
    with pytest.raises(PlanError, match="is an input"):
        split_videos([clip], tmp_path)


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Restores paths of a folder into another, with the weights of a tiny network."""
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "w.safetensors", Generator("devudp", width=4, depth=1).eval(), {})
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> int:
        device = ["--device", "cpu", "--checkpoint", "w.safetensors"]
        return cli.main(["restore", *arguments, "--out", "out", *device])

    yield run


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `auto` finds of a sharp, well exposed video."""
    from devudp_model import restorer

    found = restorer.choose

    def choose(image: torch.Tensor) -> Any:
        import dataclasses

        return dataclasses.replace(found(image), task=None, reason="nothing to do")

    monkeypatch.setattr(restorer, "choose", choose)


KINDS = [".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".vob", ".TS", ".m2ts", ".3gp"]
KINDS += [".wmv", ".flv", ".3g2", ".f4v", ".m2v", ".m2t", ".asf", ".ogv"]


@pytest.mark.parametrize("suffix", KINDS)
def test_left_as_it_is_means_the_same_bytes(
    run: Any, needs_nothing: None, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    clip = make_video(Path(f"b{suffix.lower()}")).rename(f"a{suffix}")
    assert run(clip.name) == 0
    assert sha(Path("out") / clip.name) == sha(clip)
    assert [path.name for path in Path("out").iterdir()] == [clip.name]
    assert "0 restored into out, 1 left as they are." in capsys.readouterr().out
    assert run(clip.name, "--skip-existing") == 0
    assert "1 were there already" in capsys.readouterr().out
    assert run(clip.name) == 1, "a result is there already"


def test_what_becomes_mp4_is_said(
    run: Any, needs_nothing: None, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    caplog.set_level(logging.INFO)
    write(Path("a.mkv"), frames_of("yuv420p"))
    assert run("a.mkv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["result"] == str(Path("out/a.mkv"))
    assert run("a.mkv", "--json", "--task", "joint", "--overwrite") == 0
    assert json.loads(capsys.readouterr().out)["result"] == str(Path("out/a.mp4"))
    assert "1 .mkv file: what is restored becomes MP4" in caplog.text


def test_a_copy_replaces_no_input(run: Any, needs_nothing: None) -> None:
    """In its own folder, a video that needs nothing cannot have its name a second time."""
    Path("out").mkdir()
    clip = write(Path("out/a.mkv"), frames_of("yuv420p"))
    before = sha(clip)
    assert run("out/a.mkv") == 0
    assert sha(clip) == before and Path("out/a.mp4").exists()


def test_copies_of_one_name_are_told_apart(run: Any, needs_nothing: None) -> None:
    clips = [write(Path(f"clip{suffix}"), frames_of("yuv420p")) for suffix in (".mov", ".mp4")]
    assert run("clip.mov", "clip.mp4") == 0
    assert sha(Path("out/clip_mov.mov")) == sha(clips[0])
    assert sha(Path("out/clip_mp4.mp4")) == sha(clips[1])


def test_a_folder_says_what_it_skips_and_videos_takes_them(
    run: Any, needs_nothing: None, caplog: pytest.LogCaptureFixture
) -> None:
    Path("in").mkdir()
    write(Path("in/a.mp4"), frames_of("yuv420p"))
    Image.new("RGB", (32, 32), "grey").save("in/b.png")
    assert run("in") == 0
    assert "1 .mp4 file skipped: videos. Add --videos" in caplog.text
    assert not Path("out/a.mp4").exists()
    caplog.clear()
    assert run("in", "--videos", "--skip-existing", "--compare") == 0
    assert Path("out/a.mp4").exists() and "skipped" not in caplog.text
    assert "--compare makes sheets of images" in caplog.text
    Path("in/b.png").unlink()
    assert run("in", "--videos", "--skip-existing") == 0


def test_what_is_lost_is_said(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    write(Path("a.mkv"), frames_of("yuva420p", 3), "ffv1", {})
    assert run("a.mkv", "--task", "joint") == 0
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert said == ["a.mkv: Its transparency is left out: MP4 has none."]


def test_a_stopped_video_says_that_it_starts_anew(
    run: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path("a.mp4"), frames_of("yuv420p"))
    usual = restore_videos.restore_video

    def stopped(source: Any, target: Any, make: Any, progress: Any, **options: Any) -> Any:
        def stop(done: int, total: int) -> None:
            progress(done, total)
            if done == 2:
                raise KeyboardInterrupt

        return usual(source, target, make, stop, **options)

    monkeypatch.setattr(restore_videos, "restore_video", stopped)
    assert run("a.mp4", "--task", "joint") == 130
    assert "a.mp4: stopped at frame 2 of 8; the next run starts it anew." in caplog.text
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EOPNOTSUPP, "OSError: .*--verbose"), (errno.ENOSPC, "Not written: .*Free some space")],
)
def test_what_ffmpeg_cannot_do_is_no_fault_of_the_folder(number: int, said: str) -> None:
    error = pytest.importorskip("av").error
    with pytest.raises(error.FFmpegError) as raised:
        error.err_check(-number)
    assert re.match(said, explain(raised.value))
