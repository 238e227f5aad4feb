"""What `devudp restore` writes, and under which names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.batch.plan import PlanError, find_images, jobs_for
from devudp_model.checkpoint import load_checkpoint
from devudp_model.images import raster as images
from devudp_model.images.raster import to_array
from devudp_model.images.reading import read_image
from devudp_model.images.writing import write_image
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from tests.model.cli_files import draw, names, pixels_of


def test_the_file_is_what_restore_gives(
    tmp_path: Path, devudp: Callable[..., int], weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = draw(tmp_path / "photo.jpg")
    arguments = ["--task", "low-light", "--strength", "0.8", "--exposure", "0.5"]
    assert devudp(source, *arguments, "--format", "png") == 0
    assert names(tmp_path / "out") == ["photo.png"]
    options = Options(task="low light", strength=0.8, exposure=0.5)
    image = read_image(source)
    expected = restore(image.pixels, load_checkpoint(weights).generator, options)
    assert np.array_equal(
        pixels_of(tmp_path / "out/photo.png"), to_array(images.RasterImage(expected), np.uint8)
    )
    assert (pixels_of(tmp_path / "out/photo.png") != to_array(image, np.uint8)).any()
    assert f"1 restored into {tmp_path / 'out'}" in capsys.readouterr().out


def test_the_current_folder_is_said_by_its_name(
    tmp_path: Path,
    devudp: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = draw(tmp_path / "in/photo.jpg")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert devudp(source, "--out", ".") == 0
    assert f"1 restored into {(tmp_path / 'here').resolve()}." in capsys.readouterr().out


def test_folders_keep_their_structure(tmp_path: Path, devudp: Callable[..., int]) -> None:
    for name in ("a.png", "b.JPG", "deep/er/c.png", ".hidden.png", "deep/d.webp"):
        draw(tmp_path / "in" / name)
    (tmp_path / "in/notes.txt").write_text("not an image")
    assert devudp(tmp_path / "in") == 0
    assert names(tmp_path / "out") == ["a.png", "b.JPG"]
    arguments = ["--recursive", "--format", "png", "--out", tmp_path / "all"]
    assert devudp(tmp_path / "in", *arguments) == 0
    assert names(tmp_path / "all") == ["a.png", "b.png", "deep/d.png", "deep/er/c.png"]


def test_equal_names_do_not_clobber_each_other(tmp_path: Path, devudp: Callable[..., int]) -> None:
    for seed, name in enumerate(("x/1.png", "y/1.png", "y/1.bmp", "y/2.png")):
        draw(tmp_path / "in" / name, seed=seed)
    again = tmp_path / "in/x/../x/1.png"
    assert devudp(tmp_path / "in/x", tmp_path / "in/y", again, "--format", "png") == 0
    assert names(tmp_path / "out") == ["x/1.png", "y/1_bmp.png", "y/1_png.png", "y/2.png"]
    same = tmp_path / "same"
    assert devudp(tmp_path / "in/x", tmp_path / "in/y", again, "--out", same) == 0
    assert names(same) == ["x/1.png", "y/1.bmp", "y/1.png", "y/2.png"]


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


def test_a_result_over_an_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="which is an input"):
        jobs_for(find_images([draw(tmp_path / "a.png")], tmp_path)[0], tmp_path)


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
    write_image(tmp_path / "in/deep.png", deep)
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


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_hidden_pixels_of_a_file_change_nothing(
    tmp_path: Path, devudp: Callable[..., int], mode: str, shared: bool
) -> None:
    """A cut-out comes out the same, whatever is behind it."""
    subject = pixels_of(draw(tmp_path / "subject.png", mode=mode)).copy()
    seen = np.zeros(subject.shape[:2], bool)
    seen[4:, 5:] = True
    subject[..., -1] = np.where(seen, 255, 0)
    subject[6:9, 5:, -1] = 90
    found = []
    for colour in (0, 255, 77):
        folder = tmp_path / f"in{colour}"
        folder.mkdir()
        subject[~seen, :-1] = colour
        for name in "ab":
            Image.fromarray(subject).save(folder / f"{name}.png")
        how = ("--statistics", "shared") if shared else ()
        assert devudp(folder, *how, "--out", tmp_path / f"out{colour}") == 0
        found.append(pixels_of(tmp_path / f"out{colour}/b.png"))
        assert np.array_equal(found[-1][..., -1], subject[..., -1])
    assert all(np.array_equal(found[0], other) for other in found[1:])
    assert not np.array_equal(found[0][seen], subject[seen])


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


def test_other_names_of_tasks_and_formats(tmp_path: Path, devudp: Callable[..., int]) -> None:
    assert devudp(draw(tmp_path / "a.png"), "--task", "low light", "--format", "jpg") == 0
    assert names(tmp_path / "out") == ["a.jpg"]
