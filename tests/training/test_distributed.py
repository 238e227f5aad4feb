"""Two processes (gloo) train what one does; a killed one ends the job; resumed, it is bit-equal."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil  # comes with accelerate
import pytest
import torch

from tests.training.training_run import finish, launch, log_of, same, staged, unpaired
from training.run.state import list_states, load_state
from training.train import main

pytestmark = pytest.mark.slow

EXTRA = [
    *["--batch", "4", "--ema", "0.9", "--schedule.length", "6"],
    *["--record.log-every", "1", "--record.save-every", "2"],
]

# D's biases in front of an InstanceNorm have no effect: their gradient is rounding noise alone,
# which Adam scales up to full steps.
IDLE = {"layers.2.bias", "layers.5.bias", "layers.8.bias"}

SAME_STEPS = 3
"""Rounding errors grow from step to step: Adam divides each gradient by its size, and L1 losses'
gradients jump where they change sign. One process that adds up two halves of a batch shows the
same: in fp32 the change of the weights is off by 1e-7 after one step, 1e-5 after three; after four
by 4e-6 or 4e-3, as the processor rounds; in fp64 by 1e-15 after all of them. On inputs with noise
and clipped blacks it grows faster."""

LOSSES = {"G", "D", "adv", "recon", "sr_A", "sr_B"}

PLAIN_INPUTS = ["--data.noise", "0", "--data.tone", "1", "1", "--data.black-level", "0"]


def weights(run: Path, network: str) -> torch.Tensor:
    """All weights that matter, in a row, at the end of a run."""
    state = load_state(run)[1][network]
    return torch.cat([v.flatten().double() for name, v in state.items() if name not in IDLE])


# With BatchNorm on CPUs each process has statistics of its own, unless they are frozen.
@pytest.mark.parametrize("options", [[], ["--schedule.accumulate", "2"]])
def test_two_processes_train_what_one_does(options: list[str], tmp_path: Path):
    """In fp32: losses equal to 1e-5 in the first step, then to 1e-4; each change to 1e-4."""
    arguments = [*unpaired(tmp_path), *EXTRA, *PLAIN_INPUTS]
    arguments += ["--schedule.length", str(SAME_STEPS)]
    start, one, two = (tmp_path / name for name in ("start", "one", "two"))
    job = launch(*arguments, *options, "--out", str(two), processes=2)
    main([*arguments, "--out", str(one)])
    first = ["--schedule.lr", "1e-12", "--schedule.length", "1"]
    main([*arguments, *first, "--out", str(start)])
    output = finish(job)
    assert output.count(f"from step 0 to {SAME_STEPS}") == 1  # one of them talks and writes
    assert len(list_states(two / "states")) == 2
    for a, b in zip(log_of(one), log_of(two), strict=True):
        assert a.keys() >= LOSSES and a.keys() == b.keys()
        for name in LOSSES:
            close = 1e-5 if a["step"] == 1 else 1e-4  # from then on the weights differ
            assert a[name] == pytest.approx(b[name], rel=close, abs=1e-6), (a["step"], name)
    for network in ("G", "G_inv", "D", "ema"):
        before, a, b = (weights(run, network) for run in (start, one, two))
        assert (a - b).norm() < 1e-4 * (a - before).norm(), network


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
    arguments = [*unpaired(tmp_path), *EXTRA, "--schedule.length", "1"]
    arguments += ["--out", str(tmp_path / "r")]
    job = launch(*arguments, processes=2, program=(str(program),))
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
        if "training.train" in words and "torch.distributed.run" not in words
    ]
    os.kill(max(worker.pid for worker in workers), signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_dead_process_ends_the_job_and_it_can_be_resumed_exactly(tmp_path: Path):
    """In the second stage of a recipe with stages, validation, Muon and BatchNorm."""
    arguments = [*staged("devudp-dt", tmp_path, 0.0025), "--pool", "3"]
    arguments += ["--record.log-every", "1", "--record.save-every", "2"]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    finish(launch(*arguments, "--out", str(straight), processes=2))
    job = launch(*arguments, "--out", str(broken), processes=2)
    kill_one_worker(job, step=7)
    killed = time.monotonic()
    job.communicate(timeout=120)
    assert job.returncode != 0
    assert time.monotonic() - killed < 60  # an error, not a hang
    assert 4 <= load_state(broken)[1]["step"] < 10
    finish(launch("resume", str(broken), processes=2))
    states = [load_state(run)[1] for run in (straight, broken)]
    for state in states:
        state.pop("run")
    same(states[0], states[1])
    assert log_of(straight) == log_of(broken)
    exported = [(run / "devudp-dt.safetensors").read_bytes() for run in (straight, broken)]
    assert exported[0] == exported[1]


def test_a_batch_that_cannot_be_shared_out(tmp_path: Path):
    arguments = [*unpaired(tmp_path), *EXTRA, "--batch", "3", "--out", str(tmp_path / "r")]
    job = launch(*arguments, processes=2)
    output = job.communicate(timeout=120)[0]
    assert job.returncode != 0 and "cannot be split evenly" in output
