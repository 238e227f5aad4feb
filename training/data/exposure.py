"""The common exposure: every crop gets the mean and standard deviation of an average photograph.

One gain and one offset a crop, so nothing but its exposure changes. Small crops differ in exposure
by chance, which G cannot know, and which is noise in the losses otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

COMMON_MEAN, COMMON_STD = -0.10, 0.46
"""Exposure of an average normal-light photograph, in [-1, 1]."""

FLAT = 0.2
"""Crops with a smaller standard deviation (sky, a wall) are not stretched any further."""


class Exposure(NamedTuple):
    """Mean and standard deviation of each image, over its channels together: N,1,1,1 each."""

    mean: Tensor
    std: Tensor

    def to_common(self, x: Tensor) -> Tensor:
        """N,3,H,W with this exposure to the common one; not clipped."""
        return (x - self.mean) / self.std * COMMON_STD + COMMON_MEAN


def exposure_of(x: Tensor) -> Exposure:
    """Measures N,3,H,W."""
    std, mean = torch.std_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
    return Exposure(mean, std.clamp(min=FLAT))
