"""What a run says of itself: settings, legs, data, log, curve."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.config import Config, ConfigError, DataConfig
from training.config.recipes import load_recipe
from training.run.records import (
    Log,
    check_places,
    check_same_data,
    describe_run,
    read_log,
    read_run,
    versions,
    write_text,
)
from training.run.sheets import draw_curve

LISTING = ["A\t10\tx/1.png", "B\t20\ty/2.png"]
CONFIG = Config(data=DataConfig(sharp=("y",), blurry=("x",)))


def test_every_leg_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["devudp-train", "unpaired", "--batch", "4"])
    first = describe_run(tmp_path, CONFIG, LISTING, 1, 0, False)
    monkeypatch.setattr("sys.argv", ["devudp-train", "resume", "r", "--batch", "8"])
    second = describe_run(tmp_path, replace(CONFIG, batch=8), LISTING, 2, 50, True)
    third = describe_run(tmp_path, replace(CONFIG, batch=8), LISTING, 2, 70, True)
    assert len(first["id"]) == 16 and first["id"] == second["id"] == third["id"]
    about = read_run(tmp_path)
    assert [leg["from_step"] for leg in about["legs"]] == [0, 50, 70]
    assert [leg["command"][1] for leg in about["legs"]] == ["unpaired", "resume", "resume"]
    assert [leg["changed"] for leg in about["legs"]] == [{}, {"batch": "4 -> 8"}, {}]
    assert [leg["processes"] for leg in about["legs"]] == [1, 2, 2]
    assert {"torch", "python", "accelerate"} <= set(about["legs"][0]["versions"])
    assert about["data"]["images"] == 2
    assert load_recipe(tmp_path / "config.toml").batch == 8
    assert (tmp_path / "data.txt").read_text("utf-8").splitlines() == LISTING
    assert describe_run(tmp_path, CONFIG, LISTING, 1, 0, False)["id"] != first["id"]


@pytest.mark.parametrize("name", ["run.json", "config.toml", "data.txt"])
def test_records_are_complete_or_as_they_were(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A kill while one is written leaves what was there."""
    write_text(tmp_path / name, "before")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / name, "after")
    assert (tmp_path / name).read_text() == "before"


@pytest.mark.parametrize("name", ["log.jsonl", "run.json", "states/state-00000002.pt"])
def test_a_folder_in_a_file_s_place_is_refused_before_anything_is_written(
    name: str, tmp_path: Path
):
    check_places(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"{Path(name).name} is not a file: move it out"):
        check_places(tmp_path)


def test_a_damaged_run_json(tmp_path: Path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError, match=r"run\.json cannot be read"):
        read_run(tmp_path)


def test_other_images_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    describe_run(tmp_path, CONFIG, LISTING, 1, 0, False)
    check_same_data(tmp_path, LISTING)
    assert not caplog.messages
    check_same_data(tmp_path, LISTING[:1])
    assert "images differ" in caplog.messages[0]


def test_the_log_goes_on_where_the_state_is(tmp_path: Path):
    log = Log(tmp_path, 0, tensorboard=False)
    for step in (1, 2, 3):
        log.write(step, {"G": step / 2})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "G": 2.')  # cut off by a kill
    log = Log(tmp_path, 2, tensorboard=False)
    log.write(3, {"G": 9.0})
    assert read_log(tmp_path) == [{"step": 1, "G": 0.5}, {"step": 2, "G": 1.0},
                                  {"step": 3, "G": 9.0}]  # fmt: skip
    assert all(json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())


@pytest.mark.slow
def test_a_curve_of_losses_and_validations(tmp_path: Path):
    log = Log(tmp_path, 0, tensorboard=False)
    for step in (1, 2):
        log.write(step, {"G": 1.0, "adv": 0.5, "sr_B": 0.1})
    small = Image.open(draw_curve(tmp_path)).size
    log.write(2, {"validation deblur psnr": 20.0, "best": True})
    large = Image.open(draw_curve(tmp_path)).size
    assert large[0] == small[0] and large[1] > small[1]


@pytest.mark.slow
def test_a_single_validation_can_be_seen(tmp_path: Path) -> None:
    """A line through one point has no length; the lower half was empty."""
    log = [{"step": step, "D": 1 / step} for step in range(1, 30)]
    log[10]["validation deblur psnr"] = 24.0
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    with Image.open(draw_curve(tmp_path)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    lower = pixels[pixels.shape[0] * 11 // 20 : pixels.shape[0] * 9 // 10, 150:-250]
    coloured = (lower.max(2) - lower.min(2) > 100).sum()
    assert coloured > 20, "no mark where the validation was measured"


def test_versions_name_the_build_of_torch(monkeypatch: pytest.MonkeyPatch):
    """Which the metadata of the package from PyPI (2.13.0 for 2.13.0+cu130) do not."""
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.13.0")
    assert versions()["torch"] == "2.13.0+cu130" and versions()["numpy"] == "2.13.0"
