"""Checks that a state holds what a run's own would, before anything is taken from it.

A checksum finds damage, not intent: a file that somebody made may hold anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

ADAM = {"step", "exp_avg", "exp_avg_sq"}
"""Keys of what Adam keeps of a weight."""

GROUP = {"params", "lr", "betas", "eps"}
"""Settings of a group of weights that no version of Adam lacks."""

NETWORKS = ("G", "G_inv", "D", "ema")
OPTIMIZERS = ("opt_G", "opt_D")


class LayoutError(ValueError):
    """A state with another layout; the message names the place."""


def check_layout(found: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compares a state with that of the run that is to continue from it.

    Args:
        found: the state that was read.
        own: the state of the run before its first step.

    Raises:
        LayoutError: something is missing, unexpected, of another kind, shape or type, or not
            finite.
    """
    expect(own.keys() <= found.keys(), f"{sorted(own.keys() - found.keys())} are missing")
    for name in NETWORKS:
        # A run that has no average yet starts one from the current weights.
        if not (name == "ema" and found[name] is None):
            check_like(found[name], own[name], name)
    for name in OPTIMIZERS:
        check_optimizer(found[name], own[name], name)
    for name in (*NETWORKS, *OPTIMIZERS):
        check_finite(found[name], name)
    sums, counts = found["sums"], found["counts"]
    expect(isinstance(sums, dict) and isinstance(counts, dict), "the losses are not a table")
    expect(sums.keys() == counts.keys(), "not every loss was counted")
    for name, value in sums.items():
        counted = type(counts[name]) is int and counts[name] > 0
        expect(is_float(value, ndim=0) and counted, f"the loss {name!r} is malformed")
    processes = found["processes"]
    expect(isinstance(processes, list) and len(processes) > 0, "processes are not a list")
    for process in processes:
        expect(isinstance(process, Mapping) and "pool" in process, "a process is malformed")
        images = process["pool"]["images"]
        expect(isinstance(images, list), "the pool is not a list")
        fit = all(is_float(each, ndim=3) and each.shape == images[0].shape for each in images)
        expect(fit, "the pool is malformed")


def check_like(found: Any, own: Any, where: str) -> None:
    """Checks that two nested structures are laid out alike; where `own` is empty, anything goes.

    Raises:
        LayoutError: they are not.
    """
    otherwise = f"{where} is {describe(found)}, not {describe(own)}"
    if isinstance(own, Tensor):
        expect(isinstance(found, Tensor) and describe(found) == describe(own), otherwise)
    elif isinstance(own, Mapping):
        expect(isinstance(found, Mapping), otherwise)
        odd = sorted(map(str, own.keys() ^ found.keys())) if own else []
        expect(not odd, f"{where} differs in {', '.join(odd[:4])}")
        for key in own:
            check_like(found[key], own[key], f"{where}.{key}")
    elif isinstance(own, (list, tuple)):
        same = type(found) is type(own) and (not own or len(found) == len(own))
        expect(same, f"{otherwise} of {len(own)} entries")
        for number, (one, other) in enumerate(zip(found, own, strict=False)):
            check_like(one, other, f"{where}.{number}")
    elif own is not None:
        # A float may be stored as an integer: a learning rate of 0, say.
        expect(isinstance(found, (int, float) if isinstance(own, float) else type(own)), otherwise)


def check_finite(found: Any, where: str) -> None:
    """Checks that all numbers in a nested structure are finite: training cannot repair them.

    Raises:
        LayoutError: one is not.
    """
    if isinstance(found, Mapping | list | tuple):
        parts = found.items() if isinstance(found, Mapping) else enumerate(found)
        for key, part in parts:
            check_finite(part, f"{where}.{key}")
    elif isinstance(found, Tensor):
        expect(bool(found.isfinite().all()), f"{where} has numbers that are not finite")
    elif isinstance(found, float):
        expect(math.isfinite(found), f"{where} is {found}")


def check_optimizer(found: Any, own: Mapping[str, Any], where: str) -> None:
    """Checks that a state can be our optimizer's; `check_fits` checks the averages' shapes.

    Other versions of PyTorch and other devices have other settings in the groups.

    Raises:
        LayoutError: it cannot.
    """
    expect(isinstance(found, Mapping), f"{where} is {describe(found)}, not a table")
    if "muon" in own:
        expect({"muon", "adam"} <= found.keys(), f"{where} is not Muon's")
        check_like(found["muon"], own["muon"], f"{where}.muon")
        return check_optimizer(found["adam"], own["adam"], f"{where}.adam")
    expect({"state", "param_groups"} <= found.keys(), f"{where} is not Adam's")
    groups, state = found["param_groups"], found["state"]
    same = isinstance(groups, list) and len(groups) == len(own["param_groups"])
    expect(same and isinstance(state, Mapping), f"{where} is malformed")
    for group, mine in zip(groups, own["param_groups"], strict=True):
        expect(isinstance(group, Mapping) and group.keys() >= GROUP, f"{where} is malformed")
        for key in group.keys() & mine.keys():
            if group[key] is not None or key in GROUP:
                check_like(group[key], mine[key], f"{where}.{key}")
    for key, kept in state.items():
        known = isinstance(kept, Mapping) and kept.keys() == ADAM
        fit = known and all(
            is_float(part) and part.dtype == torch.float32 for part in kept.values()
        )
        expect(fit, f"{where}.{key} is malformed")


def check_fits(optimizer: torch.optim.Optimizer) -> None:
    """Checks that a loaded optimizer's averages have the shapes of its weights.

    Raises:
        LayoutError: they do not.
    """
    adam: torch.optim.Optimizer = getattr(optimizer, "adam", optimizer)
    for weight, kept in adam.state.items():
        same = all(kept[name].shape == weight.shape for name in ("exp_avg", "exp_avg_sq"))
        expect(same and kept["step"].numel() == 1, "an average's shape is not its weight's")


def is_float(thing: Any, ndim: int | None = None) -> bool:
    """True for a tensor of floating point numbers, with so many dimensions if any are given."""
    return isinstance(thing, Tensor) and thing.is_floating_point() and ndim in (None, thing.ndim)


def describe(thing: Any) -> str:
    """Names a tensor's shape and type, or a type."""
    if isinstance(thing, Tensor):
        return f"{list(thing.shape)} of {str(thing.dtype).removeprefix('torch.')}"
    return type(thing).__name__


def expect(met: bool, otherwise: str) -> None:
    if not met:
        raise LayoutError(otherwise)
