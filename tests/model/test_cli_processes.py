"""`devudp restore` in several processes, which share the images."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from devudp_model.batch.launcher import Process
from devudp_model.batch.outcome import Outcome
from devudp_model.batch.plan import Job, plan
from devudp_model.batch.restore_files import ImageFiles
from devudp_model.batch.run import run
from devudp_model.network.generator import Generator
from devudp_model.restorer import Restorer
from tests.model.cli_files import draw, names

ROOT = Path(__file__).parents[2]


def test_processes_share_the_images(tmp_path: Path) -> None:
    """No image twice; what a process that died has left, a second run does."""
    for number in range(7):
        draw(tmp_path / f"in/{number}.png")
    jobs, _ = plan([tmp_path / "in"], tmp_path / "out")
    touched: list[torch.Tensor] = []

    class Recorder(Restorer):
        def __call__(self, image: Any, *_: Any) -> Any:
            touched.append(image)
            return image

    recorder = Recorder(Generator("devudp", 4, 1))

    def run_process(rank: int, skip_existing: bool = False) -> Outcome:
        files = ImageFiles(recorder, skip_existing=skip_existing)
        return run(jobs, {Job: files}, recorder, Process(rank, 3))

    outcomes = [run_process(rank) for rank in (0, 2)]
    assert [outcome.done for outcome in outcomes] == [3, 2]  # number 1 died
    assert len(names(tmp_path / "out")) == 5
    outcomes = [run_process(rank, skip_existing=True) for rank in range(3)]
    total = Outcome.sum(outcomes)
    assert (total.done, total.skipped, total.failed) == (2, 5, {})
    assert names(tmp_path / "out") == [f"{number}.png" for number in range(7)]
    assert len(touched) == 7


@pytest.mark.slow
def test_two_real_processes(tmp_path: Path, weights: Path) -> None:
    """Started by torch's launcher; one meets a damaged file, and the other still does its share."""
    for number in range(5):
        draw(tmp_path / f"in/{number}.png")
    (tmp_path / "in/1.png").write_bytes(b"damaged")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "devudp_model.cli", "restore", str(tmp_path / "in")]
    command += ["--out", str(tmp_path / "out"), "--checkpoint", str(weights), "--device", "cpu"]
    command += ["--task", "joint"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode != 0
    assert names(tmp_path / "out") == ["0.png", "2.png", "3.png", "4.png"]
    assert "4 restored" in result.stdout, result.stderr
    assert "1 failed" in result.stderr and "1.png is not an image" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are something else there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_can_be_ended(number: signal.Signals) -> None:
    """Two processes, one of which never comes to the end; the other one waits for it."""
    code = (
        "import time\nfrom devudp_model.batch.launcher import Process\nprocess = Process.this()\n"
        "process.connect()\nprint('met', flush=True)\n"
        "process.gather(0) if process.rank == 0 else time.sleep(600)"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**common, "RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        for each in started:
            assert each.stdout is not None and each.stdout.readline() == "met\n"
        time.sleep(1)
        started[0].send_signal(number)
        assert started[0].wait(timeout=20) != 0
    finally:
        for each in started:
            each.kill()
            each.communicate()
