"""What `devudp restore` does when something goes wrong: bad files, a full disk, Ctrl-C."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from devudp_model import restorer
from devudp_model.batch import restore_files as batch
from devudp_model.cli import main as cli
from devudp_model.images import raster as images
from devudp_model.restoring.options import Options
from devudp_model.system.memory import PROGRAM_BYTES
from tests.model.cli_files import draw, names


@pytest.mark.slow
def test_bad_files_are_listed_and_the_others_done(
    tmp_path: Path, devudp: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    draw(folder / "a_good.png")
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("hello " * 50)
    whole = draw(folder / "cut.jpg", (64, 64)).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("CMYK", (9, 9), (0, 99, 99, 0)).save(folder / "cmyk.jpg")
    Image.new("P", (9, 9)).save(folder / "palette.png")
    Image.new("1", (9, 9)).save(folder / "one_bit.png")
    draw(folder / "dot.png", (1, 1))
    draw(folder / "strip.png", (20_000, 10))
    frames = [Image.new("RGB", (9, 9), (shade, 0, 0)) for shade in (0, 99, 255)]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "video.gif", save_all=True, append_images=frames[1:])
    draw(folder / "z_good.png")
    paths = [folder, tmp_path / "video.gif", tmp_path / "absent.png"]
    assert devudp(*paths, "--format", "png") == 1
    good = ["a_good", "cmyk", "dot", "one_bit", "palette", "strip", "z_good"]
    assert names(tmp_path / "out") == [f"{name}.png" for name in good]
    for name in good:
        source = next(folder.glob(f"{name}.*"))
        with Image.open(source) as before, Image.open(tmp_path / f"out/{name}.png") as after:
            assert before.size == after.size
    out, err = capsys.readouterr()
    assert "7 restored" in out and "6 failed" in err
    for reason in (
        f"{folder / 'empty.png'} is empty",
        f"{folder / 'text.png'} is not an image",
        f"{folder / 'cut.jpg'} is damaged",
        f"{folder / 'moving.webp'} holds 3 images",
        f"{tmp_path / 'video.gif'} holds 3 images",
        f"{tmp_path / 'absent.png'} does not exist",
    ):
        assert reason in err


def test_empty_folder(
    tmp_path: Path, devudp: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "in/deeper/a.png")
    assert devudp(tmp_path / "in") == 1
    assert "No images in it" in (err := capsys.readouterr().err) and "--recursive" in err
    assert not (tmp_path / "out").exists()


def test_output_folder_that_cannot_be_written(
    tmp_path: Path, devudp: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    source = draw(tmp_path / "a.png")
    (tmp_path / "file").touch()
    assert devudp(source, "--out", tmp_path / "file") == 1
    err = capsys.readouterr().err
    assert "is a file, not a folder. Choose another --out" in err
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if not os.access(locked, os.W_OK):  # the superuser may write everywhere
        assert devudp(source, "--out", locked) == 1
        assert "Permission denied. Choose another --out" in capsys.readouterr().err


def test_folders_that_may_not_be_looked_into(
    tmp_path: Path,
    devudp: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither taken for empty nor the end of the others."""
    source = draw(tmp_path / "a.png")
    locked = draw(tmp_path / "locked/b.png").parent
    real = os.scandir

    def scandir(path: str | Path) -> object:
        if Path(path) == locked:  # the superuser would be let in
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert devudp(source, locked) == 1
    out, err = capsys.readouterr()
    assert "1 restored" in out
    assert f"{locked}: Cannot be opened: Permission denied" in err and "No images" not in err


def test_full_disk(
    tmp_path: Path,
    devudp: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(4):
        draw(tmp_path / f"in/{number}.png")
    real = os.fsync
    calls = []

    def fill_up(file: int) -> None:
        calls.append(file)
        if len(calls) > 2:  # the probe, then one image
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", fill_up)
    assert devudp(tmp_path / "in") == 1
    assert names(tmp_path / "out") == ["0.png"]
    err = capsys.readouterr().err
    assert "No space left on device" in err and "Free some space" in err
    assert "Stopped with 2 still to do" in err
    monkeypatch.undo()
    assert devudp(tmp_path / "in", "--skip-existing") == 0
    assert names(tmp_path / "out") == [f"{number}.png" for number in range(4)]


def test_a_folder_of_the_results_that_cannot_be_written(
    tmp_path: Path,
    devudp: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = draw(tmp_path / "in/sub/a.png")

    def locked(path: Path, *_: object, **__: object) -> None:
        hidden = str(path.with_name(".devudp-0123.tmp"))
        raise PermissionError(errno.EACCES, "Permission denied", hidden)

    monkeypatch.setattr(batch, "write_image", locked)
    assert devudp(tmp_path / "in", "--recursive") == 1
    err = capsys.readouterr().err
    where = tmp_path / "out" / "sub"
    assert f"{source}: Not written: Permission denied (in {where})" in err and ".tmp" not in err


@pytest.mark.parametrize("stage", ["restore", "write_image"])
def test_ctrl_c(
    tmp_path: Path,
    devudp: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
) -> None:
    """What is ready is still written, whole; the rest is done by the next run."""
    for number in range(6):
        draw(tmp_path / f"in/{number}.png", seed=number)
    assert devudp(tmp_path / "in", "--out", tmp_path / "whole") == 0
    capsys.readouterr()
    module = restorer if stage == "restore" else batch
    real, calls = getattr(module, stage), []

    def interrupt(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments, **options)

    monkeypatch.setattr(module, stage, interrupt)
    # A shell starts what runs in the background with Ctrl-C ignored, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert devudp(tmp_path / "in") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    found = names(tmp_path / "out")
    assert found[:2] == ["0.png", "1.png"] and len(found) < 6
    assert stage == "write_image" or len(found) == 2
    out, err = capsys.readouterr()
    assert f"{len(found)} restored" in out
    assert f"Interrupted with {6 - len(found)} still to do" in err
    monkeypatch.undo()
    assert devudp(tmp_path / "in", "--skip-existing") == 0
    for number in range(6):
        name = f"{number}.png"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert names(tmp_path / "out") == [f"{number}.png" for number in range(6)]


@pytest.mark.parametrize("place", ["image", "checkpoint"])
def test_an_interruption_that_a_library_swallows(
    tmp_path: Path,
    devudp: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    """Rust turns Python's exceptions into errors of its own: no file is damaged by Ctrl-C."""

    def swallow(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise images.ImageError("it is damaged") from None

    if place == "image":
        monkeypatch.setattr(batch, "read_stored", swallow)
    else:
        monkeypatch.setattr("devudp_model.task_weights.load_checkpoint", swallow)
    assert devudp(draw(tmp_path / "a.png")) == 130
    err = capsys.readouterr().err
    assert "Interrupted" in err and "damaged" not in err


@pytest.mark.slow
def test_not_enough_memory(
    tmp_path: Path,
    devudp: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Again with less; what worked goes on with the next image."""
    limits: list[int | None] = []
    enough = 2**30

    def scarce(image: torch.Tensor, _: object, options: Options, **__: object) -> torch.Tensor:
        limits.append(options.memory)
        if options.memory is None or options.memory > enough:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return image

    monkeypatch.setattr(restorer, "restore", scarce)
    draw(tmp_path / "in/a.png")
    draw(tmp_path / "in/b.png")
    assert devudp(tmp_path / "in", "--memory", "4GiB") == 0
    assert limits[0] == 4 * 2**30 - PROGRAM_BYTES and limits[-1] == limits[-2] and len(limits) >= 4
    assert limits[-1] is not None and limits[-1] <= enough
    enough = 0
    assert devudp(tmp_path / "in", "--overwrite") == 1
    err = capsys.readouterr().err
    assert "Out of memory on cpu, even with a limit of 256 MiB" in err and "Close other" in err


def test_transparency_that_jpeg_cannot_hold(
    tmp_path: Path, devudp: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert devudp(draw(tmp_path / "a.png", mode="RGBA"), "--format", "jpeg") == 1
    assert "Use png, webp or tiff" in capsys.readouterr().err


def test_bad_checkpoint_and_device(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = draw(tmp_path / "a.png")
    command = ["restore", str(source), "--out", str(tmp_path / "out")]
    assert cli.main([*command, "--checkpoint", str(source)]) == 1
    assert "no kind of checkpoint" in capsys.readouterr().err
    assert cli.main([*command, "--checkpoint", str(weights), "--device", "abacus"]) == 1
    err = capsys.readouterr().err
    assert "no device 'abacus': there is none of that name. Leave --device out" in err


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("--strength=2", "2 is not a number from 0 to 1"),
        ("--strength=much", "much is not a number from 0 to 1"),
        ("--exposure=-1", "-1 is not a number from 0 to 1"),
        ("--memory=much", "'much' is no size"),
        ("--memory=2", "'2' is 2 bytes, too little: write it as 4GB"),
        ("--task=sharpen", "choose from"),
    ],
)
def test_usage_errors(
    tmp_path: Path, wrong: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["restore", "a.png", "--out", str(tmp_path), wrong])
    assert end.value.code == 2
    assert wrong.split("=")[0] in (err := capsys.readouterr().err) and why in err
