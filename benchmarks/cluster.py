"""`devudp restore --cluster` against one process: what sharing out costs, and its memory.

All on this machine, with one worker that has all its threads.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch

from .folders import make_folder, make_weights
from .measure import ROOT
from .tables import Cell, Table

RUNS = 2
"""The faster run of each counts."""

WORKER = "ray::MapWorker"

SAME_PRIORITY = {**os.environ, "RAY_worker_niceness": "0"}
"""Ray's workers are nice (15): beside other programs they would be compared with them, too."""


def command(images: Path, out: Path, weights: Path, cluster: bool) -> list[str]:
    """Returns the command line."""
    words = [sys.executable, "-m", "devudp_model.cli", "restore", str(images), "--out", str(out)]
    words += ["--task", "joint", "--device", "cpu", "--checkpoint", str(weights)]
    threads = str(torch.get_num_threads())
    return words + (["--cluster", "--workers", "1", "--threads", threads] if cluster else [])


def table_of_overhead(
    size: tuple[int, int], few: int, many: int, width: int, runs: int = RUNS
) -> Table:
    """Seconds for each image that the larger of two folders has more, so starting does not count.

    Args:
        size: height and width of the images.
        few, many: how many images.
        width: of the network.
        runs: of each way, in turns.
    """
    ways = {"one process": False, "--cluster, one worker": True}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        weights = make_weights(folder / "w.safetensors", width)
        inputs = [make_folder(folder / f"{count}", count, size) for count in (few, many)]
        for turn in range(runs):
            for name, cluster in ways.items():
                took = []
                for images in inputs:
                    out = folder / f"{turn}{cluster}{images.name}"
                    took.append(timed(command(images, out, weights, cluster)))
                more = (late - early for early, late in zip(*took, strict=True))
                wall, work = (seconds / (many - few) for seconds in more)
                found[name].append((wall, work))
    rows: list[list[Cell]] = []
    for name, each in found.items():
        wall, work = (min(column) for column in zip(*each, strict=True))
        rows.append([name, wall, work])
        rows[-1] += [a / b for a, b in zip((wall, work), rows[0][1:3], strict=True)]  # pyright: ignore
    header = ["way", "seconds an image", "processor seconds", "times one process", "by processor"]
    note = (
        f"{size[1]}x{size[0]}, PNG to PNG, a network of width {width}. Processor seconds are those "
        "of all processes, Ray's own too; beside other programs they say more than the clock."
    )
    return Table("Overhead of --cluster", header, rows, note, labels=1)


def timed(words: list[str]) -> tuple[float, float]:
    """Returns the seconds of a command by the clock, and those of the processor.

    The latter are of all processes that it starts, as far as they were seen last.
    """
    spent: dict[int, float] = {}
    begun = time.perf_counter()
    process = psutil.Popen(
        words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=SAME_PRIORITY
    )
    while process.poll() is None:
        for each in family(process):
            with contextlib.suppress(psutil.Error):
                spent[each.pid] = sum(each.cpu_times()[:2])
        time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"the command failed: {process.returncode}")
    return time.perf_counter() - begun, sum(spent.values())


def family(process: psutil.Process) -> list[psutil.Process]:
    """Returns a process and all that it has started."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return [process]


def table_of_memory(count: int, size: tuple[int, int]) -> Table:
    """Memory of the process that shares out and of the worker, in thirds of a long run. Linux only.

    Args:
        count: how many images.
        size: height and width of the images.
    """
    peaks: dict[str, list[int]] = {"shares out": [0] * 3, "worker": [0] * 3}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        weights = make_weights(folder / "w.safetensors", 1)
        images, out = make_folder(folder / "in", count, size), folder / "out"
        words = command(images, out, weights, cluster=True)
        process = psutil.Popen(
            words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=SAME_PRIORITY
        )
        while process.poll() is None:
            done = sum(1 for _ in out.iterdir()) if out.exists() else 0
            third = min(3 * done // count, 2)
            for name, nbytes in memory_of(process).items():
                peaks[name][third] = max(peaks[name][third], nbytes)
            time.sleep(0.5)
        if process.returncode:
            raise RuntimeError(f"the command failed: {process.returncode}")
    rows: list[list[Cell]] = [
        [name, *(nbytes / 1e6 for nbytes in each)] for name, each in peaks.items()
    ]
    header = ["process", "first third, MB", "second, MB", "last, MB"]
    note = f"{count} images of {size[1]}x{size[0]}, a network of width 1; peak resident memory."
    return Table("Memory of --cluster", header, rows, note, labels=1)


def memory_of(process: psutil.Process) -> dict[str, int]:
    """Returns the resident memory of a command and of its worker."""
    found = {"shares out": 0, "worker": 0}
    for each in family(process):
        with contextlib.suppress(psutil.Error):
            if each.pid == process.pid:
                found["shares out"] = each.memory_info().rss
            elif WORKER in " ".join(each.cmdline()[:1]):
                found["worker"] += each.memory_info().rss
    return found
