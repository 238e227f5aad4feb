"""Mean and spread of pictures and features, gathered piece by piece.

What a normalisation needs is two numbers for each channel. Gathered from pieces and joined, they
are those of the whole, so a picture can be worked on in strips and still be one picture.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Mean and variance (not the sample's: divided by n), float32, and of how many numbers."""

    size: int
    mean: Tensor
    var: Tensor


def join(parts: list[Moments]) -> Moments:
    """The moments of all parts together (Chan, Golub, LeVeque 1979, eq. 2.1, for many parts).

    Every part's mean and variance have the same shape.
    """
    if len(parts) == 1:
        return parts[0]
    means = torch.stack([part.mean for part in parts])
    variances = torch.stack([part.var for part in parts])
    total = sum(part.size for part in parts)
    shares = torch.tensor([part.size / total for part in parts], device=means.device)
    shares = shares.to(means.dtype).view(-1, *[1] * (means.ndim - 1))
    mean = (shares * means).sum(0)
    var = (shares * (variances + (means - mean).square())).sum(0)
    return Moments(total, mean, var)


def moments_of_all(x: Tensor) -> Moments:
    """One mean and variance over everything: scalars. `x` is float32."""
    var, mean = torch.var_mean(x, correction=0)
    return Moments(x.numel(), mean, var)


def moments_of_planes(x: Tensor) -> Moments:
    """For each channel of B,C,H,W (float32), over the rest: 1,C,1,1."""
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0, keepdim=True)
    return Moments(x.numel() // x.shape[1], mean, var)


def moments_of_features(x: Tensor) -> Moments:
    """For each channel of 1,C,H,W of any floating type, in float32: vectors of C.

    The kernels behind BatchNorm read 16-bit features at full speed and add them up in float32;
    `torch.var_mean` would need a float32 copy of them, and is 20 times slower on the CPU.
    """
    count = x.numel() // x.shape[1]
    if x.device.type == "cpu":
        # Running statistics, not wanted otherwise, make the results float32 for 16-bit features.
        running = torch.zeros(2, x.shape[1])
        mean, var = torch.batch_norm_update_stats(x, running[0], running[1], 0.0)
    elif x.device.type == "cuda":
        eps = 1e-6
        mean, rstd = torch.batch_norm_stats(x, eps)
        var = (rstd.square().reciprocal() - eps).clamp(min=0)
    else:
        var, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
    return Moments(count, mean, var)
