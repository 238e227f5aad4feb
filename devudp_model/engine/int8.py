"""Convolutions of 8-bit integers on a CPU: weights as int8, inputs as uint8.

A channel's input lies between its smallest and largest value in the whole image, which are known
when the layer before it has ended. Each channel has a scale and a zero point of its own: its scale
goes into the weights, which are then rounded, with a scale for each output channel. Sums are exact
integers, so strips, threads and memory change no bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .int8_product import STEPS, Part
from .kernels import kernels_for
from .layers import Layer, Layers

BALANCE = 0.75
"""How far a channel's scale follows its range: at 0 all channels have one scale, and those of small
range few steps; at 1 the weights differ in size as the ranges do, and the small ones have few."""

FIRST, LAST = 8, 3
"""Layers at the beginning and at the end that stay in fp32. With 3 and 1, the largest difference in
one photograph was 2.6 of 255, with 5 and 3 it was 2.6, with these it was 1.8."""

MIN_RANGE = 1e-12
"""A channel with a smaller range is constant."""

Convolve = Callable[[Tensor], Tensor]
"""From the rows that a layer needs to its output rows."""


class Range(NamedTuple):
    """Bounds of each channel of a feature: vectors of C, float32."""

    low: Tensor
    high: Tensor

    def rectified(self) -> Range:
        """Returns the bounds after a ReLU."""
        return Range(self.low.clamp(min=0), self.high.clamp(min=0))


class FrozenRange(nn.Module):
    """The range of one layer's input in a network whose statistics are frozen; moves with it."""

    low: Tensor | None
    high: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", None)
        self.register_buffer("high", None)

    def freeze(self, found: Range) -> None:
        """From now on, this is the range."""
        self.low, self.high = found

    @property
    def range(self) -> Range | None:
        """None until it is frozen."""
        if self.low is None or self.high is None:
            return None
        return Range(self.low, self.high)


class RangeStatistics:
    """The range of a whole feature. Strips, 1,C,h,W, come in any order, from any thread.

    Smallest and largest values are exact, so the order changes nothing. NaN stays NaN.

    Args:
        rectified: a ReLU follows: whatever the smallest value is, 0 is the bound.
    """

    def __init__(self, channels: int, rectified: bool = False):
        self.rectified = rectified
        self.low = torch.full((channels,), torch.inf)
        self.high = torch.full((channels,), -torch.inf)
        self.lock = threading.Lock()

    def add(self, strip: Tensor) -> None:
        """1,C,h,W, channels_last."""
        if strip.numel() == 0:
            return
        high = strip.amax((0, 2, 3))
        low = high.clamp(max=0) if self.rectified else strip.amin((0, 2, 3))
        with self.lock:
            torch.minimum(self.low, low, out=self.low)
            torch.maximum(self.high, high, out=self.high)

    @property
    def range(self) -> Range:
        """Returns the range of all strips so far, after the ReLU if one follows."""
        found = Range(self.low, self.high)
        return found.rectified() if self.rectified else found


class Convolution:
    """A layer's convolution in 8 bits, for inputs of one range.

    Args:
        layer: in fp32; neither stem nor head.
        found: of its input. Values beyond it are clipped.
    """

    def __init__(self, layer: Layer, found: Range):
        low, high = found.low.clamp(max=0).double(), found.high.clamp(min=0).double()
        ranges = high - low
        ranges = torch.where(ranges > MIN_RANGE, ranges, ranges.max().clamp(min=MIN_RANGE))
        step = ranges.pow(BALANCE) * ranges.max().pow(1 - BALANCE) / STEPS
        zero = (-low / step).round()
        self.layer = layer
        self.gain, self.zero = (1 / step).float(), zero.float()
        bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
        self.parts = [
            Part(weight, own, step, zero, layer.stride)
            for weight, own in zip(layer.parts(layer.weight), layer.parts(bias), strict=True)
        ]

    def __call__(self, strip: Tensor) -> Tensor:
        """As `Layer.forward`; the strip is written to."""
        kernels = kernels_for(strip.device)
        padded = kernels.quantize(strip, self.gain, self.zero)
        if self.layer.kind != "up":
            return self.parts[0](padded)
        rows = strip.shape[2] - 1
        even, odd = (part(padded[:, :, y : y + rows]) for y, part in enumerate(self.parts))
        return kernels.interleave(even, odd)


def can_quantize(layers: Layers) -> bool:
    """True if all inner layers can be computed in 8 bits: on a CPU, without InstanceNorm, whose
    features are so large in a few places that all others would be lost."""
    inner = list(layers)[1:-1]
    return layers.stem.weight.device.type == "cpu" and not any(x.normalized for x in inner)


def exact_layers(layers: Layers) -> frozenset[int]:
    """The numbers of the layers that stay in fp32: the ends, where errors count most."""
    count = len(layers)
    return frozenset([*range(FIRST), *range(count - LAST, count)])
