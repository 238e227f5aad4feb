"""Runs that are refused, fail or are stopped: what is said of it, and what they leave."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.training.training_run import TINY, launch, make_both, unpaired
from training.config import ConfigError
from training.run.records import lock
from training.run.state import list_states, read_checked
from training.run.stop_signals import StopSignals
from training.train import main


def fails(arguments: list[str], status: int = 1) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status


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


def test_config_errors_are_value_errors():
    assert issubclass(ConfigError, ValueError)
