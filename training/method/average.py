"""The moving average of G's weights."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, decay: float, step: int) -> None:
    """Moves `average` towards `current`: its weights, and its buffers too.

    Args:
        average, current: networks of the same architecture.
        decay: share of the old average that is kept; smaller in the first steps.
        step: counted from 0.
    """
    decay = min(decay, (1 + step) / (10 + step))
    old, new = average.state_dict(), current.state_dict()
    names = [name for name, value in old.items() if value.is_floating_point()]
    averages, values = ([weights[n] for n in names] for weights in (old, new))
    torch._foreach_lerp_(averages, values, 1 - decay)  # pyright: ignore
    for name in old.keys() - set(names):
        old[name].copy_(new[name])
