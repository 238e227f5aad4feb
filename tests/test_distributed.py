"""Two processes (gloo) train what one does; a killed one ends the job; resumed, it is bit-equal."""

import json
import os
import signal
import time
from pathlib import Path

import psutil  # comes with accelerate
import pytest
import torch

from tests.test_resume import same
from tests.training_run import TINY, launch, make_sides
from training.state import find_state, load_state
from training.train import main

STEPS = 6
EXTRA = [
    *["--batch", "4", "--ema", "0.9", "--schedule.length", str(STEPS)],
    *["--record.log-every", "1", "--record.save-every", "2"],
]


def finish(process, seconds: float = 120) -> str:
    """The output of a job that must end well."""
    output = process.communicate(timeout=seconds)[0]
    assert process.returncode == 0, output[-3000:]
    return output


def losses_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


# D's biases in front of an InstanceNorm have no effect: their gradient is rounding noise alone,
# which Adam scales up to full steps.
IDLE = {"layers.2.bias", "layers.5.bias", "layers.8.bias"}


@pytest.mark.parametrize(
    ("variant", "options"),
    # With BatchNorm on CPUs each process has statistics of its own, until they are frozen.
    [("devudp", []), ("devudp-dt", ["--schedule.freeze-norm", "0"])],
)
def test_two_processes_train_what_one_does(variant: str, options: list[str], tmp_path: Path):
    """Same losses to 1e-3 (the first step's to 1e-5), same changes of the weights to 2 %.

    Sums in another order differ in the last digits of float32, and Adam divides each gradient by
    its size: where a gradient is nearly nothing, its rounding error moves a weight as much as
    others' gradients do. So the whole change of each network is compared, not each weight.
    """
    arguments = [*make_sides(tmp_path), *TINY, *EXTRA, *options]
    one, two = tmp_path / "one", tmp_path / "two"
    job = launch(variant, "--out", str(two), *arguments, processes=2)
    main([variant, "--out", str(one), *arguments])
    output = finish(job)
    assert output.count("from step 0 to 6") == 1  # only one of them talks and writes
    for step, (a, b) in enumerate(zip(losses_of(one), losses_of(two), strict=True)):
        for name in ("G", "D", "adv", "recon", "sr_A", "sr_B"):
            assert a[name] == pytest.approx(b[name], rel=1e-3 if step else 1e-5, abs=1e-6), name
    assert len(list((two / "states").iterdir())) == 2
    start = tmp_path / "start"
    main([variant, "--out", str(start), *arguments, "--schedule.lr", "0", "--schedule.length", "1"])
    before, a, b = (load_state(find_state(run)) for run in (start, one, two))
    for network in ("G", "G_inv", "D", "ema"):
        names = [n for n, v in a[network].items() if v.is_floating_point() and n not in IDLE]
        flat = [torch.cat([s[network][n].flatten() for n in names]) for s in (before, a, b)]
        error = (flat[1] - flat[2]).norm() / (flat[1] - flat[0]).norm()
        assert error < 0.02, (network, error)


def kill_one_worker(job, step: int) -> None:
    """Kills one of the job's two processes when the other one reports this step."""
    assert job.stdout
    for line in job.stdout:
        if line.startswith(f"step {step} "):
            break
    else:
        pytest.fail("the job ended before that step")
    commands = {
        child: child.cmdline() for child in psutil.Process(job.pid).children(recursive=True)
    }
    workers = [
        child
        for child, words in commands.items()
        if "training.train" in words and "accelerate.commands.launch" not in words
    ]
    os.kill(max(worker.pid for worker in workers), signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_dead_process_ends_the_job_and_it_can_be_resumed_exactly(tmp_path: Path):
    options = ["--pool", "3", "--schedule.freeze-norm", "4", "--schedule.length", "8"]
    arguments = [*make_sides(tmp_path), *TINY, *EXTRA, *options]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    finish(launch("devudp-dt", "--out", str(straight), *arguments, processes=2))
    job = launch("devudp-dt", "--out", str(broken), *arguments, processes=2)
    kill_one_worker(job, step=3)
    killed = time.monotonic()
    job.communicate(timeout=120)
    assert job.returncode != 0
    assert time.monotonic() - killed < 60  # an error, not a hang
    assert 2 <= load_state(find_state(broken))["step"] < 8
    finish(launch("resume", str(broken), processes=2))
    same(load_state(find_state(straight)), load_state(find_state(broken)))


def test_a_batch_that_cannot_be_shared_out(tmp_path: Path):
    arguments = [*make_sides(tmp_path), *TINY, *EXTRA, "--batch", "3"]
    job = launch("devudp", "--out", str(tmp_path / "r"), *arguments, processes=2)
    output = job.communicate(timeout=120)[0]
    assert job.returncode != 0 and "cannot be shared out equally" in output
