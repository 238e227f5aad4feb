"""`devudp restore --cluster` against one process: what sharing out costs, and its memory.

All on this machine, with one worker that has all its threads.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from .folders import make_folder, make_weights
from .measure import ROOT, restoring
from .tables import Cell, Table

RUNS = 2
"""The faster run of each counts."""

WORKER = "ray::MapWorker"

SAME_PRIORITY = {**os.environ, "RAY_worker_niceness": "0"}
"""Ray's workers are nice (15): beside other programs they would be compared with them, too."""


def command(images: Path, out: Path, weights: Path, cluster: bool) -> list[str]:
    """Returns the command line."""
    shared = ["--cluster", "--workers", 1, "--threads", torch.get_num_threads()] if cluster else []
    return restoring(images, out, "--device", "cpu", "--checkpoint", weights, *shared)


def watched(words: list[str], look: Callable[[list[psutil.Process]], None]) -> float:
    """Runs a command; `look` is shown it and all that it has started. Returns its seconds."""
    quiet, begun = subprocess.DEVNULL, time.perf_counter()
    process = psutil.Popen(words, cwd=ROOT, stdout=quiet, stderr=quiet, env=SAME_PRIORITY)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            look([process, *process.children(recursive=True)])
        time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"the command failed: {process.returncode}")
    return time.perf_counter() - begun


def table_of_overhead(size: tuple[int, int], few: int, many: int, width: int) -> Table:
    """Seconds for each image that the larger of two folders has more, so starting does not count.

    Args:
        size: height and width of the images.
        few, many: how many images.
        width: of the network.
    """
    ways = {"one process": False, "--cluster, one worker": True}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        weights = make_weights(folder / "w.safetensors", width)
        inputs = [make_folder(folder / f"{count}", count, size) for count in (few, many)]
        for turn in range(RUNS):
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

    def look(processes: list[psutil.Process]) -> None:
        for each in processes:
            with contextlib.suppress(psutil.Error):
                spent[each.pid] = sum(each.cpu_times()[:2])

    return watched(words, look), sum(spent.values())


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

        def look(processes: list[psutil.Process]) -> None:
            done = sum(1 for _ in out.iterdir()) if out.exists() else 0
            for name, nbytes in memory_of(processes).items():
                third = min(3 * done // count, 2)
                peaks[name][third] = max(peaks[name][third], nbytes)

        watched(command(images, out, weights, cluster=True), look)
    rows: list[list[Cell]] = [
        [name, *(nbytes / 1e6 for nbytes in each)] for name, each in peaks.items()
    ]
    header = ["process", "first third, MB", "second, MB", "last, MB"]
    note = f"{count} images of {size[1]}x{size[0]}, a network of width 1; peak resident memory."
    return Table("Memory of --cluster", header, rows, note, labels=1)


def memory_of(processes: list[psutil.Process]) -> dict[str, int]:
    """Returns the resident memory of a command, the first of its processes, and of its worker."""
    found = {"shares out": processes[0].memory_info().rss, "worker": 0}
    for each in processes[1:]:
        with contextlib.suppress(psutil.Error):
            if WORKER in " ".join(each.cmdline()[:1]):
                found["worker"] += each.memory_info().rss
    return found
