"""The exposure of a result as a monotone curve; which one an image gets: see exposure.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KEPT = 0.4
"""This share of the levels above black, the brightest, is left as it is."""

VECTORS = 64
"""Numbers that a processor's vectors hold, as many at a time as PyTorch takes."""


class Curve(NamedTuple):
    """The exposure of a result: a monotone curve of each channel, the same for all its pixels.

    Attributes:
        gain: of each channel, 1,3,1,1; 1 but where the input has hardly any of it.
        black: the level of black places in the model's image, after the gain, 1,3,1,1.
        held: what that level becomes, before the exponent, 1,3,1,1.
        exponent: gives the result its mean.
    """

    gain: Tensor
    black: Tensor
    held: Tensor
    exponent: float

    def __call__(self, x: Tensor) -> Tensor:
        """B,3,H,W in [0, 1] (what is beyond is clipped) to the same."""
        x = x.clamp(0, 1) * self.gain
        kept = 1 - KEPT * (1 - self.black)  # from here on, all stays as it is
        toe = x * (self.held / self.black)
        slope = self.held + (x - self.black) * ((kept - self.held) / (kept - self.black))
        x = torch.where(x < self.black, toe, torch.where(x < kept, slope, x))
        return power(x, self.exponent)

    def to(self, fn: Callable[[Tensor], Tensor]) -> Curve:
        """The curve with its tensors moved."""
        return Curve(fn(self.gain), fn(self.black), fn(self.held), self.exponent)


def power(x: Tensor, exponent: float) -> Tensor:
    """`x ** exponent`, the same for a value wherever it lies.

    On a CPU, PyTorch takes another power for the last values of a tensor, those that fill no
    vector: so results would depend on how an image is cut into bands.
    """
    rest = -x.numel() % VECTORS
    if x.device.type != "cpu" or not rest:
        return x**exponent
    flat = F.pad(x.reshape(-1), (0, rest), value=1.0) ** exponent
    return flat[: x.numel()].view(x.shape)
