"""The command line: what it writes, under which names, and what it does when things go wrong."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model import atomic as atomic
from devudp_model import cli as cli
from devudp_model import cli_arguments as arguments
from devudp_model import untrusted
from devudp_model.auto import AUTO
from devudp_model.checkpoint import bundled, load_checkpoint, save_checkpoint
from devudp_model.files import images as images
from devudp_model.files import restore_files as batch
from devudp_model.files.images import read_image, to_array
from devudp_model.files.launcher import Process
from devudp_model.files.outcome import Outcome
from devudp_model.files.plan import PlanError, plan
from devudp_model.generator import Generator
from devudp_model.restoration import PRECISIONS, STATISTICS, Options, restore
from devudp_model.tasks import TASKS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network that visibly changes images."""
    torch.manual_seed(0)
    generator = Generator("devudp", width=4, depth=1)
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(path, generator, {"recipe": "none"}, dtype=torch.float32)
    return path


@pytest.fixture
def devudp(weights: Path, tmp_path: Path) -> Callable[..., int]:
    """`devudp restore` with the tiny network, into tmp_path/out unless --out is given."""

    def call(*arguments: object) -> int:
        texts = [str(argument) for argument in arguments]
        out = [] if "--out" in texts else ["--out", str(tmp_path / "out")]
        out += [] if "--task" in texts else ["--task", "joint"]
        return cli.main(["restore", *texts, *out, "--checkpoint", str(weights), "--device", "cpu"])

    return call


def draw(path: Path, size: tuple[int, int] = (16, 12), seed: int = 0, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels[:, :, 0] if len(mode) == 1 else pixels).save(path)
    return path


def names(folder: Path) -> list[str]:
    """Every file under a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def pixels_of(path: Path) -> np.ndarray:
    return to_array(read_image(path), np.uint8)


# --- what it writes -------------------------------------------------------------------------------


def test_the_file_is_what_restore_gives(
    tmp_path: Path, devudp: Callable[..., int], weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = draw(tmp_path / "photo.jpg")
    assert devudp(source, "--task", "low-light", "--strength", "0.8", "--exposure", "0.5") == 0
    assert names(tmp_path / "out") == ["photo.png"]
    options = Options(task="low light", strength=0.8, exposure=0.5)
    image = read_image(source)
    expected = restore(image.pixels, load_checkpoint(weights).generator, options)
    assert np.array_equal(
        pixels_of(tmp_path / "out/photo.png"), to_array(images.RasterImage(expected), np.uint8)
    )
    assert (pixels_of(tmp_path / "out/photo.png") != to_array(image, np.uint8)).any()
    assert f"1 restored into {tmp_path / 'out'}" in capsys.readouterr().out


def test_folders_keep_their_structure(tmp_path: Path, devudp: Callable[..., int]) -> None:
    for name in ("a.png", "b.JPG", "deep/er/c.png", ".hidden.png", "deep/d.webp"):
        draw(tmp_path / "in" / name)
    (tmp_path / "in/notes.txt").write_text("not an image")
    assert devudp(tmp_path / "in") == 0
    assert names(tmp_path / "out") == ["a.png", "b.png"]
    assert devudp(tmp_path / "in", "--recursive", "--out", tmp_path / "all") == 0
    assert names(tmp_path / "all") == ["a.png", "b.png", "deep/d.png", "deep/er/c.png"]


def test_equal_names_do_not_clobber_each_other(tmp_path: Path, devudp: Callable[..., int]) -> None:
    for seed, name in enumerate(("x/1.png", "y/1.png", "y/1.bmp", "y/2.png")):
        draw(tmp_path / "in" / name, seed=seed)
    again = tmp_path / "in/x/../x/1.png"
    assert devudp(tmp_path / "in/x", tmp_path / "in/y", again) == 0
    assert names(tmp_path / "out") == ["x/1.png", "y/1_bmp.png", "y/1_png.png", "y/2.png"]


def test_results_of_the_last_run_are_not_inputs(tmp_path: Path, devudp: Callable[..., int]) -> None:
    draw(tmp_path / "in/a.png")
    for _ in range(2):
        arguments = ["--recursive", "--overwrite", "--out", tmp_path / "in/restored"]
        assert devudp(tmp_path / "in", *arguments) == 0
    assert names(tmp_path / "in") == ["a.png", "restored/a.png"]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_an_input_is_never_overwritten(
    tmp_path: Path, devudp: Callable[..., int], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = draw(tmp_path / "in/a.png")
    before = source.read_bytes()
    given, out = {"file": source, "folder": source.parent}.get(kind, source), source.parent
    if kind == "link":
        if sys.platform == "win32":
            pytest.skip("links need a privilege there")
        out = tmp_path / "out"
        out.mkdir()
        (out / "a.png").symlink_to(source)
    assert devudp(given, "--out", out, "--overwrite") == 1
    assert "is an input" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_two_results_under_one_name_are_refused(tmp_path: Path) -> None:
    files = [draw(tmp_path / name) for name in ("a.png", "a.bmp", "a_bmp.png")]
    with pytest.raises(PlanError, match=r"a_bmp\.png, which is the result for"):
        plan(files, tmp_path / "out")


def test_existing_results(
    tmp_path: Path, devudp: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "in/a.png")
    draw(tmp_path / "in/b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_bytes(b"precious")
    assert devudp(tmp_path / "in") == 1
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "out/a.png").read_bytes() == b"precious"
    assert names(tmp_path / "out") == ["a.png", "b.png"]
    assert devudp(tmp_path / "in", "--skip-existing") == 0
    assert "0 restored" in capsys.readouterr().out
    assert (tmp_path / "out/a.png").read_bytes() == b"precious"
    assert devudp(tmp_path / "in", "--overwrite") == 0
    assert pixels_of(tmp_path / "out/a.png").shape == (12, 16, 3)


def test_formats(tmp_path: Path, devudp: Callable[..., int]) -> None:
    for name in ("a.jpeg", "b.tif", "c.png"):
        draw(tmp_path / "in" / name)
    assert devudp(tmp_path / "in", "--format", "same") == 0
    assert names(tmp_path / "out") == ["a.jpeg", "b.tif", "c.png"]
    assert devudp(tmp_path / "in", "--format", "webp", "--out", tmp_path / "webp") == 0
    assert names(tmp_path / "webp") == ["a.webp", "b.webp", "c.webp"]
    with Image.open(tmp_path / "webp/a.webp") as image:
        assert image.format == "WEBP"


def test_grey_alpha_and_sixteen_bits(tmp_path: Path, devudp: Callable[..., int]) -> None:
    for mode in ("L", "LA", "RGBA"):
        draw(tmp_path / f"in/{mode}.png", mode=mode)
    deep = images.RasterImage(torch.rand(1, 3, 12, 16), torch.rand(1, 1, 12, 16), bits=16)
    images.write_image(tmp_path / "in/deep.png", deep)
    assert devudp(tmp_path / "in") == 0
    for mode in ("L", "LA", "RGBA"):
        with Image.open(tmp_path / f"out/{mode}.png") as image:
            assert image.mode == mode
            if "A" in mode:
                before = pixels_of(tmp_path / f"in/{mode}.png")
                assert np.array_equal(np.asarray(image)[..., -1], before[..., -1])
    back = read_image(tmp_path / "out/deep.png")
    assert back.bits == 16 and back.alpha is not None
    assert len(back.pixels.unique()) > 300, "only the values of 8 bits"
    assert torch.allclose(back.alpha, torch.round(deep.alpha * 65535) / 65535)  # pyright: ignore


def test_strength_zero_and_mask(tmp_path: Path, devudp: Callable[..., int]) -> None:
    source = draw(tmp_path / "a.png")
    before = pixels_of(source)
    assert devudp(source, "--strength", "0") == 0
    assert np.array_equal(pixels_of(tmp_path / "out/a.png"), before)
    half = np.zeros((12, 16), np.uint8)
    half[:, 8:] = 255
    Image.fromarray(half).save(tmp_path / "mask.png")
    for statistics in ("each", "shared"):
        options = ["--mask", tmp_path / "mask.png", "--statistics", statistics]
        assert devudp(source, *options, "--overwrite") == 0
        changed = (pixels_of(tmp_path / "out/a.png") != before).any(2)
        assert not changed[:, :8].any() and changed[:, 8:].mean() > 0.5


def test_compare_writes_sheets(tmp_path: Path, devudp: Callable[..., int]) -> None:
    draw(tmp_path / "in/tall.png", (16, 40))
    draw(tmp_path / "in/wide.png", (80, 20), mode="RGBA")
    assert devudp(tmp_path / "in", "--compare") == 0
    out = tmp_path / "out"
    assert names(out) == ["tall.compare.jpg", "tall.png", "wide.compare.jpg", "wide.png"]
    sheet = pixels_of(out / "tall.compare.jpg").astype(int)
    assert sheet.shape == (40, 16 + 4 + 16, 3)
    before, after = pixels_of(tmp_path / "in/tall.png"), pixels_of(out / "tall.png")
    assert np.abs(sheet[:, :16] - before).mean() < 8
    assert np.abs(sheet[:, 20:] - after).mean() < 8
    assert pixels_of(out / "wide.compare.jpg").shape == (20 + 4 + 20, 80, 3)


def test_shared_statistics_do_not_depend_on_the_frame(
    tmp_path: Path, devudp: Callable[..., int]
) -> None:
    """With statistics of each, a dark copy of a frame comes out like the frame; shared, darker."""
    frame = draw(tmp_path / "in/1.png", (24, 24))
    for number in (2, 3, 4):
        Image.fromarray(pixels_of(frame) // number).save(tmp_path / f"in/{number}.png")
    assert devudp(tmp_path / "in", "--statistics", "each", "--out", tmp_path / "each") == 0
    assert devudp(tmp_path / "in", "--statistics", "shared", "--out", tmp_path / "shared") == 0
    results = {
        way: [pixels_of(tmp_path / way / f"{number}.png").astype(float) for number in (1, 4)]
        for way in ("each", "shared")
    }
    difference = {way: np.abs(a - b).mean() for way, (a, b) in results.items()}
    assert difference["each"] < 4 < difference["shared"] / 2


# --- when things go wrong -------------------------------------------------------------------------


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
    assert devudp(folder, tmp_path / "video.gif", tmp_path / "absent.png") == 1
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


def test_ctrl_c(
    tmp_path: Path,
    devudp: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(4):
        draw(tmp_path / f"in/{number}.png")
    real = batch.write_image

    def interrupt(path: Path, *arguments: object, **options: object) -> None:
        if path.stem == "2":
            signal.raise_signal(signal.SIGINT)
        real(path, *arguments, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(batch, "write_image", interrupt)
    # A shell starts what runs in the background with Ctrl-C ignored, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert devudp(tmp_path / "in") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert names(tmp_path / "out") == ["0.png", "1.png"]
    out, err = capsys.readouterr()
    assert "2 restored" in out and "Interrupted with 2 still to do" in err
    monkeypatch.undo()
    assert devudp(tmp_path / "in", "--skip-existing") == 0
    assert names(tmp_path / "out") == [f"{number}.png" for number in range(4)]


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
        monkeypatch.setattr(batch, "read_image", swallow)
    else:
        monkeypatch.setattr("devudp_model.checkpoint.load_checkpoint", swallow)
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

    monkeypatch.setattr(batch, "restore", scarce)
    draw(tmp_path / "in/a.png")
    draw(tmp_path / "in/b.png")
    assert devudp(tmp_path / "in", "--memory", "4GiB") == 0
    assert limits[0] == 4 * 2**30 and limits[-1] == limits[-2] and len(limits) >= 4
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


def test_other_names_of_tasks_and_formats(tmp_path: Path, devudp: Callable[..., int]) -> None:
    assert devudp(draw(tmp_path / "a.png"), "--task", "low light", "--format", "jpg") == 0
    assert names(tmp_path / "out") == ["a.jpg"]


# --- names and files that somebody else made ------------------------------------------------------


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
    assert "pipe.png is no regular file" in err and "2 failed" in err


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
    real = batch.read_image

    def read(path: Path) -> images.RasterImage:
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"of the other one")
        return real(path)

    monkeypatch.setattr(batch, "read_image", read)
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
    images.write_image(folder / "e\x1b[5m.png", deep)
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
    assert "e\\x1b[5m.jpg has 8 bits" in outputs and "2 restored" in outputs


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
    for name in ("b.HEIC", "c.heic", "d.gif", "e.nef"):
        (tmp_path / "in" / name).write_bytes(b"x")
    assert devudp(tmp_path / "in") == 0
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert any("2 .heic files skipped" in text and "Convert" in text for text in said)
    assert any("1 .gif file skipped" in text for text in said)
    assert any("1 .nef file skipped" in text for text in said)


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


# --- several processes ----------------------------------------------------------------------------


def test_processes_share_the_images(tmp_path: Path) -> None:
    """No image twice; what a process that died has left, a second run does."""
    for number in range(7):
        draw(tmp_path / f"in/{number}.png")
    jobs, _ = plan([tmp_path / "in"], tmp_path / "out")
    touched: list[Path] = []

    class Recorder(batch.FileRestorer):
        def __call__(self, pixels: torch.Tensor, folder: Path) -> torch.Tensor:
            touched.append(folder)
            return pixels

    recorder = Recorder(Generator("devudp", 4, 1), Options(), {})
    outcomes = [batch.run(jobs, recorder, process=Process(rank, 3)) for rank in (0, 2)]
    assert [outcome.done for outcome in outcomes] == [3, 2]  # number 1 died
    assert len(names(tmp_path / "out")) == 5
    outcomes = [
        batch.run(jobs, recorder, skip_existing=True, process=Process(rank, 3)) for rank in range(3)
    ]
    total = Outcome.sum(outcomes)
    assert (total.done, total.skipped, total.failed) == (2, 5, {})
    assert names(tmp_path / "out") == [f"{number}.png" for number in range(7)]
    assert len(touched) == 7


@pytest.mark.slow
def test_two_real_processes(tmp_path: Path, weights: Path) -> None:
    """Started by torch's launcher; one meets a damaged file, and the other still does its share."""
    for number in range(5):
        draw(tmp_path / f"in/{number}.png")
    (tmp_path / "in/1.png").write_bytes(b"damaged")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "devudp_model.cli", "restore", str(tmp_path / "in")]
    command += ["--out", str(tmp_path / "out"), "--checkpoint", str(weights), "--device", "cpu"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode != 0
    assert names(tmp_path / "out") == ["0.png", "2.png", "3.png", "4.png"]
    assert "4 restored" in result.stdout, result.stderr
    assert "1 failed" in result.stderr and "1.png is not an image" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are something else there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_can_be_ended(number: signal.Signals) -> None:
    """Two processes, one of which never comes to the end; the other one waits for it."""
    code = (
        "import time\nfrom devudp_model.files.launcher import Process\nprocess = Process.this()\n"
        "process.connect()\nprint('met', flush=True)\n"
        "process.gather(0) if process.rank == 0 else time.sleep(600)"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**common, "RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        for each in started:
            assert each.stdout is not None and each.stdout.readline() == "met\n"
        time.sleep(1)
        started[0].send_signal(number)
        assert started[0].wait(timeout=20) != 0
    finally:
        for each in started:
            each.kill()
            each.communicate()


# --- info, help, start ----------------------------------------------------------------------------


def test_info(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(weights)]) == 0
    out = capsys.readouterr().out
    for fact in ("variant        devudp", "width          4", "recipe         none", "sha256"):
        assert fact in out
    assert cli.main(["info", str(weights), "absent.safetensors"]) == 1
    assert "no file absent.safetensors" in capsys.readouterr().err


def test_info_of_the_bundled_weights(capsys: pytest.CaptureFixture[str]) -> None:
    if not bundled("devudp").exists():
        pytest.skip("weights are not in this checkout")
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "6,949,251" in out and "6,957,699" in out


@pytest.mark.slow
def test_output_that_nobody_reads_is_no_fault(weights: Path) -> None:
    command = [sys.executable, "-m", "devudp_model.cli", "info", *[str(weights)] * 300]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


def test_choices_are_those_of_the_library() -> None:
    words = [task.replace("-", " ") for task in arguments.TASK_WORDS]
    assert words == [AUTO, *TASKS] and arguments.AUTO == AUTO
    assert arguments.PRECISIONS == PRECISIONS
    assert set(get_args(STATISTICS) or STATISTICS) == {"each image", "shared"}
    assert set(arguments.FORMATS) - {"same"} == set(images.FORMATS)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("512m", 512 * 10**6), ("1.5GiB", 3 * 2**29), ("2000000", 2 * 10**6)],
)
def test_memory_sizes(text: str, size: int) -> None:
    assert arguments.memory_size(text) == size


@pytest.mark.slow
def test_help_needs_no_torch() -> None:
    code = "import sys; from devudp_model.cli import main\ntry: main(['restore', '--help'])\n"
    code += "except SystemExit: assert not {'torch', 'PIL', 'numpy'} & set(sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "examples:" in result.stdout and "--skip-existing" in result.stdout


@pytest.mark.slow
def test_start_is_quick(tmp_path: Path, weights: Path) -> None:
    """Processor time of all but torch's own import, for one 256x256 image."""
    source = draw(tmp_path / "a.png", (256, 256))
    code = (
        "import sys, time, torch; start = time.process_time()\n"
        "from devudp_model.cli import main; status = main(sys.argv[1:])\n"
        "print('seconds', time.process_time() - start)\n"
        "assert 'torch._dynamo' not in sys.modules, 'the compiler is imported'; sys.exit(status)"
    )
    arguments = ["restore", str(source), "--out", str(tmp_path / "out"), "--device", "cpu"]
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--checkpoint", str(weights)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split("seconds")[1]) < 2, time.perf_counter() - start
