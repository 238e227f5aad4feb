"""The exposure of a result as a monotone curve; which one an image gets: see exposure.py."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..ops.light import power

KEPT = 0.4
"""This share of the levels above black, the brightest, is left as it is."""


class Curve(NamedTuple):
    """The exposure of a result: a monotone curve of each channel, the same for all its pixels.

    It stays in main memory, where such few numbers are worked out at once, wherever the images lie.

    Attributes:
        gain: of each channel, 1,3,1,1; 1 but where the input has hardly any of it.
        black: the level of black places in the model's image, after the gain, 1,3,1,1.
        held: what that level becomes, before the exponent, 1,3,1,1: at most that.
        exponent: gives the result its mean.
        ease: how smoothly it rises from there, from 0 for a straight line to 1 without an edge:
            then what is hardly above black stays dark, and its grain faint.
    """

    gain: Tensor
    black: Tensor
    held: Tensor
    exponent: float
    ease: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """B,3,H,W in [0, 1] (what is beyond is clipped) to the same."""
        kept = 1 - KEPT * (1 - self.black)  # from here on, all stays as it is
        if not (x.is_cpu or self.ease):
            return self.in_few_operations(x, kept)
        slopes = self.held / self.black, (kept - self.held) / (kept - self.black)
        numbers = torch.stack([self.gain, self.black, self.held, *slopes, kept])
        gain, black, held, below, above, level = numbers.to(x.device)
        x = x.clamp(0, 1) * gain
        rise = held + (x - black) * above
        if self.ease:
            rise = torch.lerp(rise, self.smooth(x, kept), self.ease)
        x = torch.where(x < black, x * below, torch.where(x < level, rise, x))
        return power(x, self.exponent)

    def in_few_operations(self, x: Tensor, kept: Tensor) -> Tensor:
        """The same of straight lines, each steeper than the one before, but for the last."""
        slope = (kept - self.held) / (kept - self.black)
        gained = not bool((self.gain == 1).all())
        numbers = [self.held / self.black, slope, self.held - slope * self.black, self.gain]
        below, above, offset, gain = torch.stack(numbers).to(x.device)
        x = x.clamp(0, 1)
        x = x.mul_(gain) if gained else x
        risen = torch.addcmul(offset, x, above)
        return power(torch.minimum(x, torch.maximum(risen, x * below)), self.exponent)

    def smooth(self, x: Tensor, kept: Tensor) -> Tensor:
        """The cubic from black to `kept` that goes on as the lines before and behind it do."""
        width, rise = kept - self.black, kept - self.held
        first = self.held / self.black * width
        square, cube = 3 * rise - 2 * first - width, first + width - 2 * rise
        numbers = torch.stack([self.black, width, self.held, first, square, cube])
        black, width, held, first, square, cube = numbers.to(x.device)
        t = (x - black) / width
        return held + t * (first + t * (square + t * cube))
