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
"""What Adam keeps of a weight."""

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
    check_losses(found["sums"], found["counts"])
    processes = found["processes"]
    expect(isinstance(processes, list) and len(processes) > 0, "processes are not a list")
    for process in processes:
        expect(isinstance(process, Mapping) and "pool" in process, "a process is malformed")
        check_pool(process["pool"]["images"])


def check_like(found: Any, own: Any, where: str) -> None:
    """Checks that two nested structures are laid out alike; where `own` is empty, anything goes.

    Raises:
        LayoutError: they are not.
    """
    if isinstance(own, Tensor):
        alike = isinstance(found, Tensor) and found.shape == own.shape and found.dtype == own.dtype
        expect(alike, f"{where} is {describe(found)}, not {describe(own)}")
    elif isinstance(own, Mapping):
        expect(isinstance(found, Mapping), f"{where} is {describe(found)}, not a table")
        if own:
            odd = sorted(map(str, own.keys() ^ found.keys()))
            expect(not odd, f"{where} differs in {', '.join(odd[:4])}")
        for key in own:
            check_like(found[key], own[key], f"{where}.{key}")
    elif isinstance(own, (list, tuple)):
        expect(type(found) is type(own), f"{where} is {describe(found)}, not {type(own).__name__}")
        expect(not own or len(found) == len(own), f"{where} has {len(found)} entries")
        for number, (one, other) in enumerate(zip(found, own, strict=False)):
            check_like(one, other, f"{where}.{number}")
    elif own is not None:
        # A float may be stored as an integer: a learning rate of 0, say.
        kinds = (int, float) if isinstance(own, float) else type(own)
        expect(isinstance(found, kinds), f"{where} is {describe(found)}, not {describe(own)}")


def check_finite(found: Any, where: str) -> None:
    """Checks that all numbers in a nested structure are finite: training cannot repair them.

    Raises:
        LayoutError: one is not.
    """
    if isinstance(found, Mapping):
        for key, part in found.items():
            check_finite(part, f"{where}.{key}")
    elif isinstance(found, (list, tuple)):
        for number, part in enumerate(found):
            check_finite(part, f"{where}.{number}")
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
    groups = found["param_groups"]
    same = isinstance(groups, list) and len(groups) == len(own["param_groups"])
    expect(same, f"{where} is malformed")
    for group, mine in zip(groups, own["param_groups"], strict=True):
        expect(isinstance(group, Mapping), f"{where} is malformed")
        expect(group.keys() >= GROUP, f"{where} lacks {', '.join(sorted(GROUP - group.keys()))}")
        for key in group.keys() & mine.keys():
            if group[key] is not None or key in GROUP:
                check_like(group[key], mine[key], f"{where}.{key}")
    expect(isinstance(found["state"], Mapping), f"{where}.state is not a table")
    for key, kept in found["state"].items():
        known = isinstance(kept, Mapping) and kept.keys() == ADAM
        expect(known and all(is_float(kept[k]) for k in ADAM), f"{where}.{key} is malformed")


def is_float(thing: Any) -> bool:
    return isinstance(thing, Tensor) and thing.dtype == torch.float32


def check_fits(optimizer: torch.optim.Optimizer) -> None:
    """Checks that a loaded optimizer's averages have the shapes of its weights.

    Raises:
        LayoutError: they do not.
    """
    adam: torch.optim.Optimizer = getattr(optimizer, "adam", optimizer)
    for weight, kept in adam.state.items():
        same = all(kept[name].shape == weight.shape for name in ("exp_avg", "exp_avg_sq"))
        expect(same and kept["step"].numel() == 1, "an average's shape is not its weight's")


def check_losses(sums: Any, counts: Any) -> None:
    """Checks the losses since the last line of the log.

    Raises:
        LayoutError: they are something else.
    """
    expect(isinstance(sums, dict) and isinstance(counts, dict), "the losses are not a table")
    expect(sums.keys() == counts.keys(), "not every loss was counted")
    for name, value in sums.items():
        number = isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()
        counted = type(counts[name]) is int and counts[name] > 0
        expect(isinstance(name, str) and number and counted, f"the loss {name!r} is malformed")


def check_pool(images: Any) -> None:
    """Checks the pool's images.

    Raises:
        LayoutError: they are something else, or differ in shape.
    """
    expect(isinstance(images, list), "the pool is not a list")
    for image in images:
        same = isinstance(image, Tensor) and image.shape == images[0].shape
        expect(same and image.ndim == 3 and image.is_floating_point(), "the pool is malformed")


def describe(thing: Any) -> str:
    """A tensor's shape and type, or a type."""
    if isinstance(thing, Tensor):
        return f"{list(thing.shape)} of {str(thing.dtype).removeprefix('torch.')}"
    return type(thing).__name__


def expect(met: bool, otherwise: str) -> None:
    if not met:
        raise LayoutError(otherwise)
