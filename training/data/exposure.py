"""The common exposure: every crop with the mean and spread of an average normal-light photograph.

One gain and one offset a crop, so nothing but its exposure is changed. Small crops differ in
exposure by chance, which G cannot know, and which is noise in the losses otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

COMMON_MEAN, COMMON_SPREAD = -0.10, 0.46
"""The exposure of an average normal-light photograph, in [-1, 1] (mean, standard deviation)."""

FLAT = 0.2
"""Spread below which a crop counts as flat (sky, a wall) and is not stretched any further."""


class Exposure(NamedTuple):
    """A picture's mean and spread, over its channels together."""

    mean: Tensor
    spread: Tensor

    def map(self, x: Tensor) -> Tensor:
        """What the mapping to the common exposure makes of `x`; not clipped."""
        return (x - self.mean) / self.spread * COMMON_SPREAD + COMMON_MEAN

    def undo(self, x: Tensor) -> Tensor:
        """From the common exposure back to this one."""
        return (x - COMMON_MEAN) / COMMON_SPREAD * self.spread + self.mean


def exposure_of(x: Tensor) -> Exposure:
    """Of x, 3,H,W in [-1, 1]."""
    spread, mean = torch.std_mean(x, correction=0)
    return Exposure(mean, spread.clamp(min=FLAT))
