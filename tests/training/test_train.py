"""Whole runs, small: what they leave behind, how they end, what is said of mistakes."""

import hashlib
import json
import logging
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.checkpoint import load_checkpoint
from devudp_model.restoration import restore
from tests.training.training_run import (
    NARROW,
    TINY,
    launch,
    log_of,
    make_both,
    make_images,
    staged,
    unpaired,
)
from training.config import ConfigError
from training.data.sheets import CAPTION_HEIGHT, GAP
from training.run import benchmark
from training.run.records import lock
from training.run.schedule import duration
from training.run.state import list_states, load_state, read_checked
from training.run.stop_signals import StopSignals
from training.train import main


def fails(arguments: list[str], status: int = 1) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status


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
def test_a_loss_that_is_not_finite_stops_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    out, arguments = tmp_path / "run", [*unpaired(tmp_path), "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patched:
        patched.setattr("training.method.step.reconstruction_loss", lambda *_: torch.tensor(1e38))
        fails(arguments)
    message = caplog.messages[-1]
    assert (
        "Stopped at step 0" in message and ".png" in message and "--schedule.lr 0.0001" in message
    )
    state = read_checked(out / "states/fault-00000000.pt")
    assert all(value.isfinite().all() for value in state["G"].values())
    assert json.loads((out / "log.jsonl").read_text().splitlines()[-1])["files"]
    # What it left can be looked into, and does not block another start.
    main([*arguments, "--schedule.length", "1"])
    assert list_states(out / "states")


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


MISTAKES = [
    (["devupd"], "did you mean 'devudp'"),
    (["unpaired", "--data.sharp", "no/such"], "does not exist"),
    (["unpaired"], "no sharp images"),
    (["paper-gopro"], "give its data.root"),
    (["paper-gopro", "--data.root", "no/such"], "GoPro's tree"),
    (["unpaired", "--speed.device", "cuda"], "finds no GPU"),
    (["unpaired", "--model.init", "no/such.safetensors"], "no/such.safetensors"),
    (["resume", "no/such"], "no state in"),
    (["resume"], "which run"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=[w for _, w in MISTAKES])
def test_mistakes_are_said_in_one_line(
    arguments: list[str], words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    """And leave a folder in which the corrected command can start."""
    monkeypatch.chdir(tmp_path)
    if torch.cuda.is_available() and "cuda" in arguments:
        pytest.skip("there is a GPU")
    if "--model.init" in arguments:
        arguments = [*arguments, *make_both(tmp_path), *TINY]
    fails(arguments)
    assert words in caplog.messages[-1] and "\n" not in caplog.messages[-1]
    left = {path.name for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert left <= {".lock"}


@pytest.mark.slow
def test_a_folder_after_a_failed_start_can_be_started_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    arguments = [*unpaired(tmp_path), "--schedule.length", "1", "--out", str(tmp_path / "r")]
    fails([*arguments, "--validation.every", "1", "--validation.degraded", "no/such",
           "--validation.reference", "no/such"])  # fmt: skip
    assert "does not exist" in caplog.messages[-1]
    assert [path.name for path in (tmp_path / "r").iterdir()] == [".lock"]
    main(arguments)
    assert (tmp_path / "r/devudp.safetensors").exists()
    fails(arguments)
    assert "already holds a run" in caplog.messages[-1]


@pytest.mark.slow
def test_two_trainings_in_one_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    arguments = [*unpaired(tmp_path), "--schedule.length", "1", "--out", str(tmp_path / "r")]
    held = lock(tmp_path / "r")
    fails(arguments)
    assert "another process is training" in caplog.messages[-1]
    held.release()
    main(arguments)
    held = lock(tmp_path / "r")
    fails(["resume", str(tmp_path / "r"), "--schedule.length", "2"])
    assert "another process is training" in caplog.messages[-1]
    held.release()


@pytest.mark.slow
def test_a_state_of_another_architecture(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    out = tmp_path / "r"
    main([*unpaired(tmp_path), "--schedule.length", "1", "--out", str(out)])
    before = (out / "run.json").read_bytes(), (out / "config.toml").read_bytes()
    fails(["resume", str(out), "--model.width", "6"])
    assert "another architecture: width 4 there, 6 here" in caplog.messages[-1]
    fails(["resume", str(out), "--schedule.muon", "3"])
    assert "is a state of Adam" in caplog.messages[-1]
    assert before == ((out / "run.json").read_bytes(), (out / "config.toml").read_bytes())


def test_signals_are_asked_for_once_and_obeyed_twice(capfd: pytest.CaptureFixture[str]):
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as signals:
        assert not signals.asked
        signals.ask(signal.SIGINT, None)
        assert signals.asked and "Stopping after this step" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signals.ask(signal.SIGINT, None)
    assert signal.getsignal(signal.SIGINT) is before


def test_times_are_readable():
    assert [duration(s) for s in (5, 150, 3750, 268_200)] == [
        "0:05", "2:30", "1:02:30", "3 d 02:30 h"]  # fmt: skip


ENDLESS = ["--schedule.length", "100000", "--record.log-every", "1"]


def wait_for(process, start: str) -> None:
    for line in process.stdout:
        if line.startswith(start):
            return
    pytest.fail("it ended before that")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals between processes")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_save_and_say_how_to_resume(kind: signal.Signals, tmp_path: Path):
    out = tmp_path / "run"
    process = launch(*unpaired(tmp_path), *ENDLESS, "--out", str(out))
    wait_for(process, "step 3 ")
    process.send_signal(kind)
    assert process.stdout
    rest = process.stdout.read()
    assert process.wait(60) == 0
    assert "Stopping after this step" in rest and f"devudp-train resume {out}" in rest
    (state,) = list_states(out / "states")
    assert read_checked(state)["step"] >= 3


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals between processes")
def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path):
    """While a step takes long, as when it compiles."""
    out, arguments = tmp_path / "run", unpaired(tmp_path)
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import sys, time\nsys.path.insert(0, '.')\n"
        "from training.run import trainer\nfrom training.train import main\n"
        "advance = trainer.Trainer.advance\n"
        "def slowly(self, loaded):\n"
        "    if self.step == 2:\n        print('in a long step', flush=True)\n"
        "        time.sleep(60)\n"
        "    advance(self, loaded)\n"
        "trainer.Trainer.advance = slowly\nmain(sys.argv[1:])\n"
    )
    process = launch(*arguments, *ENDLESS, "--out", str(out), program=(str(slow),))
    wait_for(process, "in a long step")
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    wait_for(process, "Stopping after this step")
    process.send_signal(signal.SIGINT)
    assert process.stdout
    rest = process.stdout.read()
    assert process.wait(30) == 130 and time.monotonic() - started < 30
    assert "Stopped at once" in rest and "Traceback" not in rest


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


def test_config_errors_are_value_errors():
    assert issubclass(ConfigError, ValueError)
