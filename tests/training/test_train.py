"""Whole runs, small: what they do and leave behind, and what is said on the way."""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.checkpoint import load_checkpoint
from devudp_model.restoring.restoration import restore
from tests.training.training_run import (
    NARROW,
    TINY,
    log_of,
    make_both,
    make_images,
    staged,
    unpaired,
)
from training.data.sheets import CAPTION_HEIGHT, GAP
from training.run import benchmark
from training.run.schedule import duration
from training.run.state import load_state, read_checked
from training.train import main


@pytest.mark.slow
def test_what_a_run_leaves_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    out = tmp_path / "run"
    extra = "--ema 0.9 --schedule.length 6 --record.log-every 2 --record.save-every 2"
    extra += " --record.sample-every 3 --record.weights-every 4 --record.tensorboard"
    extra += " --data.held-out 2 --validation.every 4"
    main([*unpaired(tmp_path), "--out", str(out), *extra.split()])
    states = sorted(path.name for path in (out / "states").iterdir())
    assert states == ["best.pt", "state-00000004.pt", "state-00000006.pt"]  # the last two
    lines = log_of(out)
    assert [line["step"] for line in lines] == [2, 4, 4, 6, 6]
    losses = {"step", "lr", "G", "D", "adv", "recon", "sr_A", "sr_B"}
    assert set(lines[0]) == losses
    assert {"validation deblur psnr", "validation deblur ssim", "best"} <= set(lines[2])
    whole = json.loads((out / "log.jsonl").read_text().splitlines()[0])
    assert whole["seconds_per_step"] > 0 and whole["images_per_second"] > 0
    about = json.loads((out / "run.json").read_text())
    assert about["legs"][0]["versions"]["torch"] == torch.__version__
    assert about["data"]["images"] == 9 == len((out / "data.txt").read_text().splitlines())
    with Image.open(out / "samples/00000003.png") as sheet:
        assert sheet.height == 4 * (32 + CAPTION_HEIGHT)  # each image under its label
        assert sheet.width >= 5 * (32 + GAP)
    assert (out / "curve.png").stat().st_size > 5000
    assert list((out / "tensorboard").iterdir())
    load_checkpoint(out / "weights/00000004.safetensors")
    averaged, plain = (load_checkpoint(out / f"devudp{end}.safetensors") for end in ("", "-raw"))
    assert averaged.metadata["step"] == "6"
    assert not torch.equal(averaged.generator.head.weight, plain.generator.head.weight)
    digest = hashlib.sha256((out / "devudp.safetensors").read_bytes()).hexdigest()
    assert digest in (out / "devudp.safetensors.sha256").read_text()
    assert digest in (out / "devudp.md").read_text()
    best = read_checked(out / "states/best.pt")
    scores = [line["validation deblur psnr"] for line in lines if "best" in line]
    assert best["validation"]["best"] == max(scores)
    said = "\n".join(caplog.messages)
    assert "from step 0 to 6 (3 steps per epoch)" in said
    assert "step 6, held out: deblur psnr" in said


@pytest.mark.slow
def test_a_short_run_logs_its_last_step(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Shorter than record.log_every: the first run that docs/training.md shows."""
    caplog.set_level(logging.INFO)
    main([*unpaired(tmp_path), "--schedule.length", "3", "--out", str(tmp_path / "run")])
    (line,) = log_of(tmp_path / "run")
    assert line["step"] == 3 and {"G", "D"} <= set(line)
    assert any(message.startswith("step 3 of 3") for message in caplog.messages)
    assert any("curve.png" in message for message in caplog.messages)


@pytest.mark.slow
def test_every_ablation_trains(tmp_path: Path):
    arguments = ["paper-gopro", "--data.layout", "folders", *make_both(tmp_path), *TINY, *NARROW]
    ablations = {
        "s": ["--loss.no-s-branch"],
        "t": ["--loss.no-t-branch"],
        "d": ["--data.no-downsize"],
        "n": ["--model.norm", "batch"],
        "i": ["--model.no-G-inv", "--schedule.accumulate", "2"],
        "c": ["--model.shortcut", "True", "--pool", "2"],
    }
    for name, options in ablations.items():
        main([*arguments, *options, "--schedule.length", "2", "--out", str(tmp_path / name)])
    generator = load_checkpoint(tmp_path / "c/devudp.safetensors").generator
    assert generator.shortcut and generator.norm == "instance"


@pytest.mark.slow
def test_the_paper_s_dt_recipe_says_that_it_is_no_identity(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Its eqs. 6, 8 and 9 are not 0 at the first step; with zero_head they are, which is said."""
    caplog.set_level(logging.INFO)
    recipe = ["paper-gopro-dt", "--data.layout", "folders", *make_both(tmp_path), *TINY, *NARROW]
    recipe += ["--schedule.length", "1"]
    main([*recipe, "--out", str(tmp_path / "a")])
    (line,) = log_of(tmp_path / "a")
    assert min(line["recon"], line["sr_A"], line["sr_B"]) > 0.001
    assert not any("identity" in message for message in caplog.messages)
    main([*recipe, "--model.zero-head", "--out", str(tmp_path / "b")])
    (line,) = log_of(tmp_path / "b")
    assert max(line["recon"], line["sr_A"], line["sr_B"]) < 1e-6
    assert "G starts as the identity (model.zero_head)" in caplog.messages


@pytest.mark.slow
def test_patience_ends_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A learning rate of nearly 0 makes nothing better."""
    caplog.set_level(logging.INFO)
    extra = "--data.held-out 2 --validation.every 2 --validation.patience 2 --schedule.lr 1e-12"
    main([*unpaired(tmp_path), *extra.split(), "--ema", "0", "--schedule.length", "50",
          "--model.variant", "devudp-dt", "--out", str(tmp_path / "run")])  # fmt: skip
    best = [line for line in log_of(tmp_path / "run") if "best" in line]
    assert best[0]["best"] and not any(line["best"] for line in best[-2:])
    step = load_state(tmp_path / "run")[1]["step"]
    assert 6 <= step < 50 and any("validation.patience" in m for m in caplog.messages)
    assert (tmp_path / "run/devudp-dt.safetensors").exists()


def test_times_are_readable():
    assert [duration(s) for s in (5, 150, 3750, 268_200)] == [
        "0:05", "2:30", "1:02:30", "3 d 02:30 h"]  # fmt: skip


def make_rain(clean: Path, rainy: Path) -> None:
    """Rain streaks: sparse noise, blurred along a slope, added (as in common synthetic sets)."""
    rainy.mkdir()
    rng = np.random.default_rng(0)
    for path in clean.iterdir():
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB")).astype(float)
        drops = (rng.random(pixels.shape[:2]) > 0.985) * 200.0
        streaks = np.sum([np.roll(drops, (k, k // 3), (0, 1)) for k in range(9)], axis=0) / 3
        wet = np.clip(pixels + streaks[..., None], 0, 255).astype(np.uint8)
        Image.fromarray(wet).save(rainy / path.name)


@pytest.mark.slow
def test_two_folders_of_rainy_and_clean_images_become_a_checkpoint(tmp_path: Path):
    """As a new user would: no code touched, a checkpoint that loads, a step on the way."""
    make_images(tmp_path / "clean", 6, seed=1)
    make_images(tmp_path / "others", 5, seed=2)
    make_rain(tmp_path / "others", tmp_path / "rainy")
    out = tmp_path / "run"
    main(["unpaired", "--data.blurry", str(tmp_path / "rainy"), "--data.sharp",
          str(tmp_path / "clean"), "--data.synthetic-blur-share", "0", "--out", str(out), *TINY,
          *NARROW, "--model.width", "8", "--schedule.lr", "1e-3", "--schedule.length", "40",
          "--schedule.halve-every", "1000", "--record.log-every", "10"])  # fmt: skip
    lines = log_of(out)
    assert lines[-1]["sr_B"] < 0.8 * lines[0]["sr_B"] and lines[-1]["G"] < 0.8 * lines[0]["G"]
    generator = load_checkpoint(out / "devudp.safetensors").generator
    image = torch.rand(1, 3, 50, 70)
    assert restore(image, generator).shape == image.shape


@pytest.mark.slow
def test_stages_of_a_shipped_recipe_are_announced_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    out = tmp_path / "run"
    main(
        [
            *staged("devudp", tmp_path, 0.002),
            "--schedule.stop",
            "None",
            "--record.log-every",
            "1",
            "--out",
            str(out),
        ]
    )
    assert [m for m in caplog.messages if m.startswith("  stage 1, without D: steps 0 to 1")]
    stages = [line["stage"] for line in log_of(out) if "stage" in line]
    assert stages == ["without D"] + ["all"] * 4 + ["finish"] * 3
    with_D = ["D" in line for line in log_of(out) if "stage" in line]
    assert with_D == [False] + [True] * 7
    assert any(" (finish), 0:0" in m and "left: " in m for m in caplog.messages)


@pytest.mark.slow
def test_the_benchmark_ends_and_shows_where_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.INFO)
    assert [speed["compile"] for _, speed in benchmark.LADDER] == [False] * 3 + [True]
    monkeypatch.setattr(benchmark, "LADDER", benchmark.LADDER[:3])  # compiling takes minutes
    options = ["--seconds", "0.1", "--speed.no-compile", "--data.crop", "24"]
    benchmark.main([*unpaired(tmp_path), *options])
    said = "\n".join(caplog.messages)
    for words in ("fp32, eager ...", "bf16, channels_last ...", "its loader alone",
                  "steps would take"):  # fmt: skip
        assert words in said, words
