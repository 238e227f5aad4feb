"""Convolutions of 8-bit integers on a CPU: weights as int8, inputs as uint8.

A channel's input lies between its smallest and largest value in the whole image, which are known
when the layer before it has ended. Each channel has a scale and a zero point of its own: its scale
goes into the weights, which are then rounded, with a scale for each output channel. Sums are exact
integers, so strips, threads and memory change no bit. Where errors count most, an input is split
into a coarse and a fine term of 8 bits each, for two convolutions with the same weights; or the
layer is in fp32, in tiles (winograd.py), which takes no longer than that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from ..bands.rows import AnyImage
from .int8_product import Part
from .kernels import kernels_for
from .layers import Layer, Layers
from .state import NetworkState
from .statistics import Frozen, Range

FIRST = 3
"""So many inner layers at the beginning are among the `precise` ones."""

TILES_FROM = 128
"""Of so many channels on, convolutions in tiles take no longer than two terms."""

LEAST_PIXELS = 2**15
"""In smaller images rounding the weights takes longer than fp32 does in all."""

MIN_RANGE = 1e-12
"""A channel with a smaller range is constant."""

Convolve = Callable[[Tensor], Tensor]
"""From the rows that a layer needs to its output rows."""


class RangeStatistics:
    """The range of a whole feature. Strips, 1,C,h,W, come in any order, from any thread.

    Smallest and largest values are exact, so the order changes nothing. NaN stays NaN.

    Args:
        rectified: it comes out of a ReLU: whatever the smallest value is, 0 is the bound.
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
        """Returns the range of all strips so far."""
        return Range(self.low, self.high)


class Convolution:
    """A layer's convolution and ReLU in 8 bits, for inputs of one range.

    Inputs are sums of one or two terms of 8 bits: x = step (q - zero) with q up to 255, or up to
    65,535 as 256 times one and once another.

    Args:
        layer: in fp32; neither stem nor head.
        found: of its input. Values beyond it are clipped.
        terms: one or two.

    Attributes:
        gain, zero, most: what an input is to be multiplied with, what is added, and its largest
            value; the first two for each channel.
        blank: terms,C,1,1, uint8: an input of 0.
    """

    def __init__(self, layer: Layer, found: Range, terms: int = 1):
        low, high = found.low.clamp(max=0).double(), found.high.clamp(min=0).double()
        ranges = high - low
        largest = ranges.max().clamp(min=MIN_RANGE)
        self.most = float(256**terms - 1)
        # With two terms there are steps enough for all, and weights are rounded best as they are.
        ranges = torch.where((ranges > MIN_RANGE) & (terms == 1), ranges, largest)
        step = ranges / self.most
        zero = (-low / step).round()
        self.layer = layer
        self.gain, self.zero = (1 / step).float(), zero.float()
        digits = [zero] if terms == 1 else [zero // 256, zero % 256]
        self.blank = torch.stack(digits).to(torch.uint8)[:, :, None, None]
        bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
        self.parts = [
            Part(weight, own, step, zero, layer.stride)
            for weight, own in zip(layer.parts(layer.weight), layer.parts(bias), strict=True)
        ]

    def __call__(self, strip: Tensor) -> Tensor:
        """As `Layer.forward`, and the ReLU; the strip as `QuantizedReader` makes it."""
        relu = self.layer.operation.relu
        if self.layer.kind != "up":
            return self.parts[0](strip, relu)
        rows = strip.shape[2] - 1
        even, odd = (part(strip[:, :, y : y + rows], relu) for y, part in enumerate(self.parts))
        return kernels_for(strip.device).interleave(even, odd)


def can_quantize(layers: Layers) -> bool:
    """True if all inner layers can be computed in 8 bits: on a CPU, without InstanceNorm, whose
    features are so large in a few places that all others would be lost."""
    inner = list(layers)[1:-1]
    return layers.stem.weight.device.type == "cpu" and not any(x.normalized for x in inner)


def pays(network: NetworkState, image: AnyImage) -> bool:
    """True if a network is to compute B,C,H,W in 8 bits: on a CPU, where that is not slower.

    Pieces of an image are computed as the image was when its ranges were frozen.
    """
    if not network.in_int8 or network.device.type != "cpu":  # it may have been moved since
        return False
    if network.local:
        return any(x.range is not None for x in network.frozen_ranges if isinstance(x, Frozen))
    frames, _, height, width = image.shape
    return frames * height * width >= LEAST_PIXELS


def precise(layers: Layers) -> set[int]:
    """Returns the numbers of the layers in which an error counts most.

    They are the first ones; the first that makes the feature smaller and the next one; and the
    first of each residual block behind the first that makes it larger. With all in one term the
    largest difference in a photograph was 3.4 of 255, so it is 1.7 in the worst of seven.
    """
    ordered = list(layers)
    found, kinds = set(range(1, 1 + FIRST)), [layer.kind for layer in ordered]
    if "down" in kinds:
        found |= {kinds.index("down"), kinds.index("down") + 1}
    if "up" in kinds:
        first, *behind = ordered[kinds.index("up") :]
        found |= {x.index for x in behind if x.scale == first.scale and x.operation.keep}
    return found


def convolution(layer: Layer, layers: Layers, found: Range) -> Convolve:
    """Returns a layer's convolution for inputs of this range: in one term, or, of the `precise`
    ones, in two terms or in fp32, where that is as fast."""
    if layer.index not in precise(layers):
        return Convolution(layer, found)
    if layer.tiles is not None and layer.outer >= TILES_FROM:
        return layer
    return Convolution(layer, found, 2)
