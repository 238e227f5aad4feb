"""Small arithmetic on whole images: on a GPU in one operation, as it has to be told each.

On a CPU it stays step by step: nobody promises that a joined operation rounds a number alike
wherever it lies in a tensor, and there a result must not depend on how an image is cut into bands.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ramp(x: Tensor, start: float, stop: float) -> Tensor:
    """Returns 0 where `x` is `start`, 1 where it is `stop`, straight between and level beyond."""
    if x.is_cpu:
        return ((x - start) / (stop - start)).clamp(0, 1)
    slope = 1 / (stop - start)
    return linear(x, slope, -slope * start).clamp_(0, 1)


def linear(x: Tensor, slope: float, offset: float) -> Tensor:
    """Returns `x` times `slope` plus `offset`."""
    return (x * slope).add_(offset) if x.is_cpu else torch.rsub(x, offset, alpha=-slope)


def mix(x: Tensor, y: Tensor, share: Tensor | float) -> Tensor:
    """Returns `x` with so much of `y` in its place, 0 to 1."""
    return (y - x).mul_(share).add_(x) if x.is_cpu else torch.lerp(x, y, share)


def fade_(x: Tensor, share: Tensor) -> Tensor:
    """Takes so much of `x` away, 0 to 1, in place."""
    return x.mul_(1 - share) if x.is_cpu else x.addcmul_(x, share, value=-1)


def add_product_(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Adds `a` times `b` to `x`, in place."""
    return x.add_(a * b) if x.is_cpu else x.addcmul_(a, b)


def subtract_product_(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Takes `a` times `b` from `x`, in place."""
    return x.sub_(a * b) if x.is_cpu else x.addcmul_(a, b, value=-1)
