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


def linear_into(x: Tensor, slope: float, offset: float, out: Tensor) -> None:
    """Writes `linear` of `x` to `out`."""
    if x.is_cpu:
        out.copy_(linear(x, slope, offset))
    else:
        torch.add(torch.tensor(offset, device="cpu"), x, alpha=slope, out=out)


def mix(x: Tensor, y: Tensor, share: Tensor | float) -> Tensor:
    """Returns `x` with so much of `y` in its place, 0 to 1."""
    return (y - x).mul_(share).add_(x) if x.is_cpu else torch.lerp(x, y, share)


def mix_into(x: Tensor, y: Tensor, share: Tensor, out: Tensor) -> None:
    """Writes `mix` of these to `out`, which may be `y`."""
    if x.is_cpu:
        out.copy_(mix(x, y, share))
    else:
        torch.lerp(x, y, share, out=out)


def scaled_sum(x: Tensor, y: Tensor, share: float) -> Tensor:
    """Returns `x` plus so much of `y`."""
    return x + share * y if x.is_cpu else torch.add(x, y, alpha=share)


def fade_(x: Tensor, share: Tensor, times: float = 1.0) -> Tensor:
    """Takes so much of `x` away, 0 to 1, in place; the share is to be multiplied by `times`."""
    if x.is_cpu:
        return x.mul_(1 - (share if times == 1 else times * share))
    return x.addcmul_(x, share, value=-times)


def faded(x: Tensor, share: Tensor) -> Tensor:
    """Returns `x` without so much of it, 0 to 1."""
    return x * (1 - share) if x.is_cpu else torch.addcmul(x, x, share, value=-1)


def add_product_(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Adds `a` times `b` to `x`, in place."""
    return x.add_(a * b) if x.is_cpu else x.addcmul_(a, b)


def subtract_product_(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Takes `a` times `b` from `x`, in place."""
    return x.sub_(a * b) if x.is_cpu else x.addcmul_(a, b, value=-1)
