"""A generator's convolutions, ready to work on strips of rows.

Strips come with the rows around them that the convolution looks at, so there is padding to the left
and right only. Layers hold weights alone, no statistics, so all runs of a generator share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal
from weakref import WeakKeyDictionary, ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..network.generator import (
    ConvNorm,
    Generator,
    InstanceNorm,
    ResidualBlock,
    fold_batchnorm,
)
from .kernels import kernels_for

Kind = Literal["stem", "same", "down", "up"]

PHASES = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
"""Which taps of a kernel of 3 fall on one pixel and the next, once every pixel is there twice: for
the even output pixels, which begin at the pixel before their own, and for the odd ones."""


class Layer(nn.Module):
    """One convolution.

    Args:
        conv: from a generator; 7x7 for the stem, else odd (`same`) or 3x3.
        kind: `same`; `down` with stride 2; `up` after nearest-neighbour upsampling by 2; the
            `stem`, whose strips bring their own padding to the left and right.
        normalized: whether an InstanceNorm follows, whose statistics have to be gathered.
        dtype: to calculate in.
    """

    weight: Tensor
    bias: Tensor | None
    index: int
    """Its number among the layers of a generator."""

    def __init__(self, conv: nn.Conv2d, kind: Kind, normalized: bool, dtype: torch.dtype):
        super().__init__()
        self.kind: Kind = kind
        self.normalized = normalized
        self.reach: int = conv.kernel_size[0] // 2
        weight = conv.weight.detach()
        if kind == "up":
            # Upsampling then 3x3 are four convolutions with 2x2 taps, one for each phase of the
            # output: taps that fall on the same input pixel are added. 16/36 the work.
            phases = PHASES.to(weight)
            weight = torch.einsum("ayi,oIij,bxj->aboIyx", phases, weight, phases).flatten(0, 2)
        if kind == "stem" and dtype != torch.float32:
            # The image's own rounding would cost more than that of all features: x w is about
            # x_high w_high + x_low w_high + x_high w_low, three times the channels.
            high, low = halves(weight, dtype)
            weight = torch.cat([high, high, low], 1)
        self.inner, self.outer = conv.in_channels, conv.out_channels
        self.stride = (2, 2) if kind == "down" else (1, 1)
        self.padding = (0, self.reach) if kind in ("same", "down") else (0, 0)
        self.register_buffer(
            "weight", weight.to(dtype).contiguous(memory_format=torch.channels_last)
        )
        bias = None if conv.bias is None else conv.bias.detach().to(dtype)
        if bias is not None and kind == "up":
            bias = bias.repeat(4)
        self.register_buffer("bias", bias)

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """Of the weight or bias, for one convolution each: of an upsampling for even rows, and odd
        ones."""
        return x.chunk(2) if self.kind == "up" else (x,)

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """The input rows (from, to) that output rows `start` to `stop` are made of."""
        if self.kind == "down":
            return 2 * start - 1, 2 * stop
        if self.kind == "up":
            return start // 2 - 1, stop // 2 + 1
        return start - self.reach, stop + self.reach

    def bytes_per_row(self, width: int) -> int:
        """What one output row of `width` pixels takes, with the input that it is made of."""
        inputs = {"down": 4.0, "up": 0.25}.get(self.kind, 1.0) * self.inner
        return round((inputs + self.outer) * width * self.weight.itemsize)

    @property
    def work(self) -> int:
        """Multiplications for one output pixel."""
        return self.weight.numel() // (4 if self.kind == "up" else 1)

    def forward(self, strip: Tensor) -> Tensor:
        """1,C,rows,W with the rows that `needs` names, to the output rows."""
        if self.kind != "up":
            return self.convolve(strip, 0)
        # Not as one transposed convolution: on the CPU its last bits depend on the strip's height
        # and the number of threads, and so do those of 2x2 taps with padding.
        height, padded = strip.shape[2] - 2, F.pad(strip, (1, 1))
        even, odd = (self.convolve(padded[:, :, y : y + height + 1], y) for y in (0, 1))
        return kernels_for(strip.device).interleave(even, odd)

    def whole(self, x: Tensor) -> Tensor:
        """A whole feature B,C,H,W, without what `needs` adds above and below, to the output.

        The stem's comes with all of its padding.
        """
        if self.kind != "up":
            padding = 0 if self.kind == "stem" else self.reach
            return F.conv2d(x, self.weight, self.bias, self.stride, padding)
        (height, width), channels = x.shape[2:], self.outer
        phases = F.conv2d(x, self.weight, self.bias, padding=1)  # B,4C,H+1,W+1
        phases = phases.unflatten(1, (2, 2, channels))
        pixels = x.new_empty(len(x), height, 2, width, 2, channels)
        for i in (0, 1):
            for j in (0, 1):
                phase = phases[:, i, j, :, i : i + height, j : j + width]
                pixels[:, :, i, :, j].copy_(phase.permute(0, 2, 3, 1))
        return pixels.view(len(x), 2 * height, 2 * width, channels).permute(0, 3, 1, 2)

    def convolve(self, x: Tensor, part: int) -> Tensor:
        """With a part of the weights (see `parts`)."""
        bias = None if self.bias is None else self.parts(self.bias)[part]
        return F.conv2d(x, self.parts(self.weight)[part], bias, self.stride, self.padding)


class Layers(nn.Module):
    """All layers of a generator, under the generator's names. BatchNorm must be folded."""

    def __init__(self, generator: Generator, dtype: torch.dtype):
        super().__init__()

        def single(source: ConvNorm, kind: Kind) -> Layer:
            return Layer(source.conv, kind, isinstance(source.norm, InstanceNorm), dtype)

        def stage(source: nn.Sequential) -> nn.ModuleList:
            pairs = []
            for block in source:
                assert isinstance(block, ResidualBlock)
                normalized = isinstance(block.norm1, InstanceNorm)
                convs = (block.conv1, block.conv2)
                pairs.append(nn.ModuleList(Layer(c, "same", normalized, dtype) for c in convs))
            return nn.ModuleList(pairs)

        self.stem = single(generator.stem, "stem")
        self.encode1 = stage(generator.encode1)
        self.down1 = single(generator.down1, "down")
        self.encode2 = stage(generator.encode2)
        self.down2 = single(generator.down2, "down")
        self.encode3 = stage(generator.encode3)
        self.decode3 = stage(generator.decode3)
        self.up2 = single(generator.up2, "up")
        self.decode2 = stage(generator.decode2)
        self.up1 = single(generator.up1, "up")
        self.decode1 = stage(generator.decode1)
        self.head = Layer(generator.head, "same", False, dtype)
        self.scales: list[int] = []
        scale = 1
        for index, layer in enumerate(self):
            layer.index = index
            scale = (
                scale * 2 if layer.kind == "down" else scale // 2 if layer.kind == "up" else scale
            )
            self.scales.append(scale)

    def scale_of(self, layer: Layer) -> int:
        """By how much smaller than the image a layer's output is: 1, 2 or 4."""
        return self.scales[layer.index]

    def __iter__(self) -> Iterator[Layer]:
        return (module for module in self.modules() if isinstance(module, Layer))


class Fingerprint:
    """Tells whether a generator's weights are still those that layers were made of."""

    def __init__(self, generator: Generator):
        self.tensors = [(ref(t), *self.state(t)) for t in weights(generator)]

    @staticmethod
    def state(tensor: Tensor) -> tuple[int, int]:
        """Changes when the tensor is changed in place, moved, or given other memory."""
        return tensor._version, tensor.data_ptr()

    def fits(self, generator: Generator) -> bool:
        now = weights(generator)
        return len(now) == len(self.tensors) and all(
            known() is t and self.state(t) == tuple(state)
            for t, (known, *state) in zip(now, self.tensors, strict=True)
        )


_cache: WeakKeyDictionary[Generator, dict[torch.dtype, tuple[Fingerprint, Layers]]] = (
    WeakKeyDictionary()
)


def weights(generator: Generator) -> list[Tensor]:
    return [*generator.parameters(), *generator.buffers()]


def layers_of(generator: Generator, dtype: torch.dtype) -> Layers:
    """The generator's layers, made once and kept as long as the generator and its weights.

    Of a generator that can be trained, or was made in inference mode, nothing is kept: its weights
    change too often, or without a trace.
    """
    steady = not any(t.requires_grad or t.is_inference() for t in weights(generator))
    kept = _cache.get(generator, {}).get(dtype)
    if steady and kept is not None and kept[0].fits(generator):
        return kept[1]
    with torch.no_grad():
        folded = fold_batchnorm(generator) if generator.norm == "batch" else generator
        layers = Layers(folded, dtype)
    if steady:
        _cache.setdefault(generator, {})[dtype] = Fingerprint(generator), layers
    return layers


def forget_layers(generator: Generator) -> None:
    """Drops what `layers_of` keeps, for a generator that leaves a device and has to free it."""
    _cache.pop(generator, None)


def halves(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two numbers of a 16-bit type that add up to `x` (float32), to twice the digits."""
    high = x.to(dtype)
    return high, (x - high).to(dtype)
