"""devudp-train check-data: what it reports, and which of it is an error."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.training_run import make_images
from training.config.recipes import load_recipe
from training.data.check_data import group_images
from training.train import main

RECIPE = """
[data]
synthetic_blur_share = 0.5
crop = 32
short_side = [48, 48]
blur_length = [1.0, 3.0]
"""


def write_recipe(folder: Path, text: str = RECIPE) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def make_data(folder: Path) -> list[str]:
    """Six sharp images of 64x48 and three blurry ones of 80x60, as command line arguments."""
    make_images(folder / "sharp", 6, seed=1)
    make_images(folder / "blurry", 3, seed=2, size=(80, 60))
    return ["--data.sharp", str(folder / "sharp"), "--data.blurry", str(folder / "blurry")]


def check(arguments: list[str]) -> int:
    """Runs it; the exit status."""
    try:
        main(["check-data", *arguments])
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return ended.code
    return 0


@pytest.fixture
def arguments(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.set_level("INFO")
    sheet = ["--sheet", str(tmp_path / "out/sheet.png")]
    return [write_recipe(tmp_path), *make_data(tmp_path), *sheet]


def test_good_data(arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert check(arguments) == 0
    said = "\n".join(caplog.messages)
    assert "A, blurry: 3 images (3 png); short side 60 to 60 pixels, median 60; 48x48 are" in said
    assert "A, sharp images to be blurred: 3 images" in said
    assert "B, sharp: 3 images (3 png); short side 48 to 48 pixels, median 48; 32x32 are" in said
    assert "Warning" not in said and "No errors." in said
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.size == (6 * (32 + 4), 6 * (32 + 16))  # a caption above each crop


def test_errors_are_named(arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture):
    shutil.copyfile(tmp_path / "sharp/001.png", tmp_path / "blurry/twin.png")
    (tmp_path / "sharp/text.png").write_text("not an image")
    # Two errors: an image of 16 bits is none.
    Image.fromarray(np.full((60, 60), 40_000, np.uint16)).save(tmp_path / "sharp/deep.png")
    assert check(arguments) == 1
    said = "\n".join(caplog.messages)
    for words in ("1 x the same image in A and B", "twin.png and", "text.png", "2 errors"):
        assert words in said, words
    assert "deep.png" not in said


def test_small_images_are_a_warning(
    arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    # 40 pixels hold a crop of 32, but not the margins that synthetic blur needs around it.
    make_images(tmp_path / "sharp/small", 4, size=(64, 40), seed=9)
    make_images(tmp_path / "blurry/small", 12, size=(20, 50), seed=8)
    assert check(arguments) == 0
    said = "\n".join(caplog.messages)
    assert "12 of 15 images of 'A, blurry' are smaller than the 48 pixels that are cut" in said
    assert "2 of 5 images of 'A, sharp images to be blurred' are smaller than the 48" in said
    assert said.count("20x50") == 10 and "and 2 more" in said
    assert said.count("64x40") == 2 and "images of 'B, sharp' are smaller" not in said


def test_the_largest_square_of_any_stage_counts(tmp_path: Path):
    make_data(tmp_path)
    recipe = RECIPE.replace("crop = 32", "crop = 64") + f"sharp = ['{tmp_path / 'sharp'}']\n"
    recipe += "\n[schedule]\nunit = 'steps'\n[[stages]]\nname = 'a'\nlength = 1\n"
    recipe += "data.crop = 256\ndata.reblur_length = [1.0, 2.0]\ndata.reblur_scale = 0.75\n"
    recipe += "[[stages]]\nname = 'b'\nlength = 1\ndata.synthetic_blur_share = 1.0\n"
    recipe = recipe.replace("synthetic_blur_share = 0.5", "synthetic_blur_share = 1.0")
    groups = group_images(load_recipe(write_recipe(tmp_path, recipe)))
    # (256 + 2 x 8) / 0.75 and a margin of 8 once more at each side; 256 / 0.75.
    assert [(group.domain, group.cut) for group in groups] == [("A", 379), ("B", 342)]


def test_a_sheet_shows_each_stage(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    recipe = RECIPE + "\n[schedule]\nunit = 'steps'\n[[stages]]\nname = 'one'\nlength = 1\n"
    recipe += "[[stages]]\nname = 'two'\nlength = 1\ndata.crop = 40\n"
    data, sheet = make_data(tmp_path), tmp_path / "sheet.png"
    assert check([write_recipe(tmp_path, recipe), *data, "--sheet", str(sheet)]) == 0
    with Image.open(sheet) as image:  # three rows for each stage, a title and captions
        assert image.size == (6 * 44, 3 * (32 + 40 + 2 * 16) + 2 * 16)


def test_held_out_images_are_checked(
    arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    shutil.copyfile(tmp_path / "sharp/000.png", tmp_path / "sharp/005.png")
    assert check([*arguments, "--data.held-out", "1"]) == 1
    said = "\n".join(caplog.messages)
    assert "held out for validation: 1 images (1 png); short side 48 to 48" in said
    assert "and held out, which must not share any" in said


def test_an_empty_domain(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "none").mkdir()
    assert check([write_recipe(tmp_path), "--data.sharp", str(tmp_path / "none")]) == 1
    assert "holds no images" in caplog.messages[-1]
