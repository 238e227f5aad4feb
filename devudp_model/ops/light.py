"""Light of an image's values, and powers that are the same wherever an image is cut into bands."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

VECTORS = 64
"""Numbers that a processor's vectors hold, as many at a time as PyTorch takes."""

OFFSET, GAMMA = 0.055, 2.4
"""Of sRGB's curve (IEC 61966-2-1) without the straight part near black, which `to_light` makes a
little brighter."""


def to_light(x: Tensor) -> Tensor:
    """Returns what is nearly proportional to the light of sRGB values in [0, 1]."""
    return power(x + OFFSET, GAMMA)


def from_light(light: Tensor) -> Tensor:
    """Returns the values with this `to_light`, B,C,H,W."""
    return power(light, 1 / GAMMA).sub_(OFFSET)


def power(x: Tensor, exponent: float) -> Tensor:
    """`x ** exponent`, the same for a value wherever it lies.

    On a CPU, PyTorch takes another power for the last values of a tensor, those that fill no
    vector: so results would depend on how an image is cut into bands.
    """
    x = x.contiguous()
    powers, rest = x**exponent, x.numel() % VECTORS
    if x.device.type == "cpu" and rest:
        last = F.pad(x.view(-1)[-rest:], (0, VECTORS - rest), value=1.0)
        powers.view(-1)[-rest:] = (last**exponent)[:rest]
    return powers
