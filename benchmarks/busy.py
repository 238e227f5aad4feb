"""How much longer things take while other programs keep every core busy."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from devudp_model.bands.workers import in_parallel, working
from devudp_model.restoring.frozen import VideoRestorer
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore

from .networks import textbook
from .plan import DTYPES, Plan
from .tables import Cell, Table
from .train_step import RECIPE, make_step

LOADS = (0, 1, 2)
"""Busy processes for each core."""


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keeps this many other processes busy during the block."""
    command = [sys.executable, "-c", "while True: pass"]
    started = [subprocess.Popen(command) for _ in range(processes)]
    try:
        time.sleep(0.5 if processes else 0)
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def median_time(run: Callable[[], object], times: int) -> float:
    """Seconds."""
    seconds: list[float] = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def products(matrix: torch.Tensor, count: int) -> None:
    """`count` matrix products, one thread each, which wait for nothing: the machine's own share."""

    def work(number: int) -> float:
        torch.mm(matrix, matrix)
        return 0.0

    with working(matrix.device):
        in_parallel(work, count)


def table_of_loads(
    title: str, note: str, runs: Mapping[tuple[str, str], Callable[[], object]], times: int
) -> Table:
    """A row for each of `runs`, whose keys are what is done, and in which precision."""
    found: dict[tuple[str, str], list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for load in LOADS:
        with busy(load * (os.cpu_count() or 1)):
            for name, run in runs.items():
                found[name].append(median_time(run, times))
    rows: list[list[Cell]] = [
        [*name, alone, *(seconds / alone for seconds in rest)]
        for name, (alone, *rest) in found.items()
    ]
    header = ["what", "precision", "seconds alone"]
    header += [f"beside {load} busy process{'es'[: 2 * (load > 1)]} a core" for load in LOADS[1:]]
    return Table(title, header, rows, note)


def with_threads(run: Callable[[], object], count: int) -> None:
    """`run`, with this many of PyTorch's threads in every operation."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        run()
    finally:
        torch.set_num_threads(before)


def table_of_training(plan: Plan) -> Table:
    """A step of the training, with all of PyTorch's threads and with one."""
    crop, batch = (96, 4) if plan.effort == "full" else (32, 1)
    with tempfile.TemporaryDirectory() as folder:
        step = make_step(Path(folder), plan.width, crop, batch)
        counts = sorted({torch.get_num_threads(), 1}, reverse=True)
        runs = {
            (f"{count} thread{'s'[: count - 1]}", "bf16"): partial(with_threads, step, count)
            for count in counts
        }
        note = (
            f"A step of `{RECIPE}`, {batch} crops of {crop}x{crop}, eager; as many times as long "
            "as alone. With several threads an operation is shared among them, and each waits for "
            "the slowest: `--speed.threads 1` is faster on a busy machine."
        )
        times = 1 if plan.effort == "tiny" else 10
        return table_of_loads("Training beside other programs", note, runs, times)


def beside_others(plan: Plan) -> list[Table]:
    """What a busy machine costs."""
    runs: dict[tuple[str, str], Callable[[], object]] = {
        ("matrix products", "fp32"): partial(
            products, torch.rand(1024, 1024), 64 if plan.effort == "full" else 4
        )
    }
    for height, width in plan.sizes([(256, 256), (720, 1280)], [(256, 256)]):
        net, image = plan.net(), torch.rand(1, 3, height, width)
        for precision in plan.precisions:
            options, size = Options(precision=precision), f"{width}x{height}"
            run = partial(restore, image, net, options)
            runs[f"restore, {size}", precision] = run
            if height == 256:
                plain = partial(textbook(net, DTYPES[precision]), image)
                runs[f"plain PyTorch, {size}", precision] = plain
    height, width = plan.sizes([(360, 640)], [(128, 128)])[0]
    frames = torch.rand(2, 3, height, width)
    video = VideoRestorer(plan.net(), frames, Options(precision=plan.half))
    runs[f"a video's frame, {width}x{height}", plan.half] = partial(video, frames[:1])
    note = (
        "As many times as long as alone, the median of several runs. A fair share of the cores "
        "would be 2 and 3; matrix products of one thread each, which wait for nothing, show what "
        "the machine makes of it. Plain PyTorch: the same network, whose threads share "
        "every operation and wait for each other after each."
    )
    times = 1 if plan.effort == "tiny" else 5
    table = table_of_loads("Beside other programs", note, runs, times)
    return [table, table_of_training(plan)]
