"""Names of results, kinds in a folder, and what is left as it is."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from devudp_model.batch.plan import find_images, jobs_for
from devudp_model.images import formats
from tests.model.cli_files import draw, names, pixels_of
from tests.model.image_files import camera_exif

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("format", ["png", "same"])
def test_no_two_results_get_one_name(tmp_path: Path, format: str) -> None:
    """Nor one that another result has, nor one that differs in case only, nor one sheet."""
    files = [tmp_path / name for name in ("a.png", "a.bmp", "a_bmp.png", "B.jpg", "b.JPG", "b.jpg")]
    out = tmp_path / "out"
    found, problems = find_images(files, out)
    jobs, unnamed = jobs_for(found, out, format=format, sheets=True)
    assert not problems and not unnamed and len(jobs) == len(files)
    written = [str(path).casefold() for job in jobs for path in (job.target, job.sheet)]
    assert len(set(written)) == len(written)
    again, _ = jobs_for(find_images(files[::-1], out)[0], out, format=format, sheets=True)
    assert again == jobs, "whatever their order"


def test_accents_are_no_difference(tmp_path: Path) -> None:
    files = [tmp_path / "e\u0301.jpg", tmp_path / "\u00e9.jpg"]
    jobs, _ = jobs_for(find_images(files, tmp_path / "out")[0], tmp_path / "out")
    assert len({unicodedata.normalize("NFC", job.target.name) for job in jobs}) == 2


def test_a_folder_with_names_that_differ_in_case(
    tmp_path: Path, devudp: Callable[..., int]
) -> None:
    draw(tmp_path / "in/A.png", seed=1)
    draw(tmp_path / "in/a.PNG", seed=2)
    count = len(names(tmp_path / "in"))  # 1 where the file system takes them for one
    assert devudp(tmp_path / "in") == 0
    assert len({name.casefold() for name in names(tmp_path / "out")}) == count


@pytest.mark.skipif(sys.platform == "win32", reason="paths of that length need a setting there")
def test_names_that_are_too_long(
    tmp_path: Path, devudp: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    """Said before the work; the others are done."""
    long = draw(tmp_path / "in" / ("x" * 250 + ".png"))
    draw(tmp_path / "in/a.png")
    assert devudp(long.parent, "--compare") == 1
    assert names(tmp_path / "out") == ["a.compare.jpg", "a.png"]
    assert "name would be too long (262 of at most 255)" in caplog.text
    assert devudp(long.parent, "--overwrite") == 0
    assert {"a.png", long.name} <= set(names(tmp_path / "out"))


def test_what_needs_nothing_is_copied(
    tmp_path: Path, devudp: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Byte for byte, if the format is the same; and it is not said to be restored."""
    source = tmp_path / "in/fine.jpg"
    source.parent.mkdir()
    with Image.open(ROOT / "samples/good/flowers.jpg") as image:
        image.save(source, exif=camera_exif(6), quality=90)
        width, height = image.size
    draw(tmp_path / "in/noise.png", (64, 64))
    assert devudp(tmp_path / "in", "--task", "auto", "--compare") == 0
    assert (tmp_path / "out/fine.jpg").read_bytes() == source.read_bytes()
    out = capsys.readouterr().out
    assert "0 restored into" in out and "2 left as they are." in out
    assert names(tmp_path / "out")[:2] == ["fine.compare.jpg", "fine.jpg"]
    png = ["--task", "auto", "--format", "png", "--out", tmp_path / "png"]
    assert devudp(tmp_path / "in", *png) == 0
    with Image.open(tmp_path / "png/fine.png") as image:
        assert image.size == (height, width), "upright, and encoded anew"


def test_a_copy_has_the_format_of_its_name(tmp_path: Path, devudp: Callable[..., int]) -> None:
    noise = draw(tmp_path / "noise.png", (64, 64))
    wrong = noise.rename(tmp_path / "named_wrongly.jpg")
    assert devudp(wrong, "--task", "auto") == 0
    with Image.open(tmp_path / "out/named_wrongly.jpg") as image:
        assert image.format == "JPEG", "no PNG under JPEG's name"


def test_videos_in_a_folder_are_named(
    tmp_path: Path, devudp: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    draw(tmp_path / "in/a.png")
    (tmp_path / "in/clip.MOV").write_bytes(b"x")
    assert devudp(tmp_path / "in") == 0
    assert "1 .mov file skipped: videos. Add --videos, or name the file itself" in caplog.text


def test_results_of_what_is_only_read_are_announced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [tmp_path / name for name in ("a.heic", "b.HEIC", "c.dng", "d.jpg")]
    with caplog.at_level("INFO"):
        jobs, _ = jobs_for(find_images(files, tmp_path / "out")[0], tmp_path / "out")
    assert [job.target.name for job in jobs] == ["a.png", "b.png", "c.png", "d.jpg"]
    said = [message for message in caplog.messages if "results are PNG" in message]
    assert [message.split(":")[0] for message in said] == ["1 .dng file", "2 .heic files"]


def test_rarer_names_of_photographs(
    tmp_path: Path, devudp: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    """Cameras' two images and an old suffix are JPEG; what cannot be read is not passed over."""
    for name in ("a.mpo", "b.JPE"):
        draw(tmp_path / "in/x.jpg").rename(tmp_path / "in" / name)
    Image.new("RGB", (9, 9)).save(tmp_path / "in/c.ppm")
    assert devudp(tmp_path / "in") == 0
    assert names(tmp_path / "out") == ["a.mpo", "b.JPE"]
    with Image.open(tmp_path / "out/a.mpo") as result:
        assert result.format == "JPEG"
    assert "1 .ppm file skipped: this kind is not supported" in caplog.text


def test_kinds_whose_package_is_missing_are_said_once(
    tmp_path: Path,
    devudp: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw(tmp_path / "in/a.png")
    for number in range(3):
        (tmp_path / f"in/{number}.CR2").write_bytes(b"II*\0")
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    assert devudp(tmp_path / "in") == 0
    assert "3 .cr2 files skipped: raw files." in caplog.text
    assert 'pip install "devudp[raw]"' in caplog.text


def test_a_mask_with_transparency(tmp_path: Path, devudp: Callable[..., int]) -> None:
    """What is hidden does not count, white or not."""
    source = draw(tmp_path / "a.png")
    rgba = np.full((12, 16, 4), 255, np.uint8)
    rgba[:, :8, 3] = 0
    for name, pixels in (("rgba", rgba), ("la", rgba[..., 2:])):
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / f"{name}.png")
        out = tmp_path / name
        assert devudp(source, "--mask", tmp_path / f"{name}.png", "--out", out) == 0
        changed = (pixels_of(out / "a.png") != pixels_of(source)).any(2)
        assert not changed[:, :8].any() and changed[:, 8:].mean() > 0.5
