"""Where the time goes: a profile of the textbook version and of the engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile

from .tables import Cell, Table

KINDS: dict[str, tuple[str, ...]] = {
    "convolutions": ("convolution", "conv2d", "conv_transpose"),
    "normalisation and its statistics": ("norm", "sum", "square", "var_mean", "cumsum"),
    "ReLU, additions": ("relu", "clamp", "add", "sub", "mul", "tanh"),
    "copies, padding, other layouts": ("copy", "clone", "contiguous", "cat", "pad", "upsample"),
}
"""What an operation's name contains; the first kind that matches counts."""


def kind_of(name: str) -> str:
    """The kind of an ATen operation or a GPU kernel."""
    return next((kind for kind, words in KINDS.items() if any(w in name for w in words)), "other")


def shares(run: Callable[[], object], device: torch.device) -> tuple[float, dict[str, float]]:
    """Seconds of one call, and of each kind of operation in it, without what these call."""
    run()
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    found: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        micro = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        found[kind_of(event.key.lower())] += micro / 1e6
    return sum(found.values()), found


def table_of_shares(
    versions: Mapping[str, Callable[[], object]], device: torch.device, title: str
) -> Table:
    """One row for each version: seconds, and every kind's share of them."""
    kinds = [*KINDS, "other"]
    rows: list[list[Cell]] = []
    for name, run in versions.items():
        total, found = shares(run, device)
        rows.append([name, total, *(f"{100 * found.get(kind, 0) / total:.0f} %" for kind in kinds)])
    note = "By torch.profiler, which slows things down a little; one call after one to warm up."
    return Table(title, ["version", "seconds", *kinds], rows, note, labels=1)
