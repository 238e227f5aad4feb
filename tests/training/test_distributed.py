"""Two processes (gloo) train what one does; a killed one ends the job; resumed, it is bit-equal."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil  # comes with accelerate
import pytest
import torch

from tests.training.test_resume import same
from tests.training.training_run import TINY, launch, make_sides, recipe_and_sides
from training.run.state import find_state, load_state
from training.train import main

pytestmark = pytest.mark.slow

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

SAME_STEPS = 4
"""Rounding errors grow from step to step: Adam divides each gradient by its size, and L1 losses'
gradients jump where they change sign. One process that adds up two halves of a batch shows the
same: in fp32 the change of the weights is off by 1e-7 after one step, 4e-6 after four, 2e-3 after
six; in fp64 by 1e-15 after all of them. On inputs with noise and clipped blacks it grows faster."""

LOSSES = {"G", "D", "adv", "recon", "sr_A", "sr_B", "again"}
NAMES = {
    "unpaired": LOSSES - {"again"},
    "devudp": LOSSES - {"sr_A"},  # a known blur has no weights
    "devudp-dt-cameras": LOSSES - {"sr_A", "recon"},
}
"""The losses of each recipe."""

PLAIN_INPUTS = ["--data.noise", "0", "--data.tone", "1", "1", "--data.clip", "0"]


def weights(run: Path, network: str) -> torch.Tensor:
    """All weights that matter, in a row, at the end of a run."""
    state = load_state(find_state(run))[network]
    return torch.cat([v.flatten().double() for name, v in state.items() if name not in IDLE])


@pytest.mark.parametrize(
    ("recipe", "options"),
    # With BatchNorm on CPUs each process has statistics of its own, unless they are frozen.
    [
        ("unpaired", []),
        ("devudp", []),
        ("devudp-dt-cameras", ["--model.calibrate", "2", "--loss.s-branch-every", "2"]),
    ],
)
def test_two_processes_train_what_one_does(recipe: str, options: list[str], tmp_path: Path):
    """In fp32: the losses of each step equal to 1e-5, each network's whole change to 1e-3."""
    arguments = [*recipe_and_sides(recipe, tmp_path), *TINY, *EXTRA, *PLAIN_INPUTS, *options]
    arguments += ["--schedule.length", str(SAME_STEPS)]
    start, one, two = (tmp_path / name for name in ("start", "one", "two"))
    job = launch(*arguments, "--out", str(two), processes=2)
    main([*arguments, "--out", str(one)])
    main([*arguments, "--out", str(start), "--schedule.lr", "0", "--schedule.length", "1"])
    output = finish(job)
    assert output.count(f"from step 0 to {SAME_STEPS}") == 1  # one of them talks and writes
    assert len(list((two / "states").iterdir())) == 2
    for a, b in zip(losses_of(one), losses_of(two), strict=True):
        names = NAMES[recipe]
        if recipe == "devudp-dt-cameras" and a["step"] % 2 == 0:
            names = names - {"sr_B"}  # loss.s_branch_every
        assert names == LOSSES & a.keys() == LOSSES & b.keys()
        for name in names:
            assert a[name] == pytest.approx(b[name], rel=1e-5, abs=1e-6), (a["step"], name)
    networks = ["G", "D", "ema"] + ["G_inv"] * (recipe == "unpaired")  # a known blur has no weights
    for network in networks:
        before, a, b = (weights(run, network) for run in (start, one, two))
        assert (a - b).norm() < 1e-3 * (a - before).norm(), network


THREADS_AFTERWARDS = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path.cwd()))
from training.train import main
main()
names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
print("threads afterwards:", *sorted(names), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_no_thread_of_the_group_outlives_it(tmp_path: Path):
    """One that drops its last tensor while Python ends aborts a training that was done."""
    program = tmp_path / "program.py"
    program.write_text(THREADS_AFTERWARDS)
    arguments = [*make_sides(tmp_path), *TINY, *EXTRA, "--schedule.length", "1"]
    job = launch(
        *("unpaired", "--out", str(tmp_path / "r"), *arguments),
        processes=2,
        program=(str(program),),
    )
    output = finish(job)
    assert output.count("threads afterwards:") == 2, output
    assert "gloo" not in output.split("threads afterwards:", 1)[1], output


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
    options = ["--pool", "3", "--schedule.freeze-norm", "4", "--schedule.length", "8",
               "--model.variant", "devudp-dt"]  # fmt: skip
    arguments = [*make_sides(tmp_path), *TINY, *EXTRA, *options]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    finish(launch("unpaired", "--out", str(straight), *arguments, processes=2))
    job = launch("unpaired", "--out", str(broken), *arguments, processes=2)
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
    job = launch("unpaired", "--out", str(tmp_path / "r"), *arguments, processes=2)
    output = job.communicate(timeout=120)[0]
    assert job.returncode != 0 and "cannot be shared out equally" in output
