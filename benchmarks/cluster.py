"""`devudp restore --cluster` against one process: what sharing out costs, and its memory.

All on this machine, with one worker that has all its threads.
"""

from __future__ import annotations

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
"""Runs of each, in turns; the faster one counts."""

WORKER = "ray::MapWorker"

SAME_PRIORITY = {**os.environ, "RAY_worker_niceness": "0"}
"""Ray's workers are nice (15): beside other programs they would be compared with them, too."""


def command(images: Path, out: Path, weights: Path, cluster: bool) -> list[str]:
    """Returns the command line."""
    words = [sys.executable, "-m", "devudp_model.cli", "restore", str(images), "--out", str(out)]
    words += ["--task", "joint", "--device", "cpu", "--checkpoint", str(weights)]
    threads = str(torch.get_num_threads())
    return words + (["--cluster", "--workers", "1", "--threads", threads] if cluster else [])


def table_of_overhead(size: tuple[int, int], few: int, many: int, width: int) -> Table:
    """Seconds for each image that the larger of two folders has more, so starting does not count.

    Args:
        size: height and width of the images.
        few, many: how many images.
        width: of the network.
    """
    ways = {"one process": False, "--cluster, one worker": True}
    found: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        weights = make_weights(folder / "w.safetensors", width)
        inputs = [make_folder(folder / f"{count}", count, size) for count in (few, many)]
        for turn in range(RUNS):
            for name, cluster in ways.items():
                seconds = []
                for images in inputs:
                    out = folder / f"{turn}{cluster}{images.name}"
                    begun = time.perf_counter()
                    subprocess.run(
                        command(images, out, weights, cluster),
                        cwd=ROOT, check=True, capture_output=True, env=SAME_PRIORITY,
                    )  # fmt: skip
                    seconds.append(time.perf_counter() - begun)
                found[name].append((seconds[1] - seconds[0]) / (many - few))
    first = min(found["one process"])
    rows: list[list[Cell]] = [[name, min(each), min(each) / first] for name, each in found.items()]
    header = ["way", "seconds an image", "times one process"]
    note = f"{size[1]}x{size[0]}, PNG to PNG, a network of width {width}; `python -m benchmarks`."
    return Table("Overhead of --cluster", header, rows, note, labels=1)


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
    try:
        found["shares out"] = process.memory_info().rss
        for child in process.children(recursive=True):
            if child.name().startswith(WORKER[:15]) or WORKER in " ".join(child.cmdline()[:1]):
                found["worker"] += child.memory_info().rss
    except psutil.Error:
        pass
    return found
