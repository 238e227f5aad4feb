"""A network's convolutions, ready to work on strips of rows.

Strips come with the rows around them that the convolution looks at, so there is padding to the left
and right only. Layers hold weights alone, no statistics, so all runs of a network share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary, ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..network.batch_norm import fold_batchnorm
from ..network.topology import (
    Architecture,
    Kind,
    Operation,
    check_operations,
    convolution,
    has_batchnorm,
    is_normalized,
)
from .kernels import kernels_for
from .winograd import TILE, Tiles, pays_in_tiles

PHASES = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
"""Taps of a kernel of 3 that fall on one pixel and the next, once every pixel is there twice: for
the even output pixels, which begin at the pixel before their own, and for the odd ones."""

FEW_OUTPUTS = 16
"""With fewer, a layer of a large kernel is convolved by columns: so many numbers does the processor
work on at once."""


class Layer(nn.Module):
    """One convolution.

    Args:
        conv: 3x3 if it is `down` or `up`, else of any odd size.
        operation: what goes with it. Strips of the `stem` bring their own padding to the left and
            right.
        normalized: True if an InstanceNorm follows, whose statistics have to be gathered.
        dtype: to calculate in.

    Attributes:
        index: its number among the layers of a network.
        scale: by how much smaller than the image its output is: 1, 2, 4 and so on.
    """

    weight: Tensor
    bias: Tensor | None
    index: int
    scale: int

    def __init__(self, conv: nn.Conv2d, operation: Operation, normalized: bool, dtype: torch.dtype):
        super().__init__()
        self.operation, self.normalized = operation, normalized
        self.kind: Kind = operation.kind
        self.reach: int = conv.kernel_size[0] // 2
        kind = self.kind
        weight = conv.weight.detach()
        if kind == "up":
            # Upsampling then 3x3 are four convolutions with 2x2 taps, one for each phase of the
            # output: taps that fall on the same input pixel are added. 16/36 the work.
            phases = PHASES.to(weight)
            weight = torch.einsum("ayi,oIij,bxj->aboIyx", phases, weight, phases).flatten(0, 2)
        if kind == "stem" and dtype != torch.float32:
            # The image's own rounding would cost more than that of all features: x w is about
            # x_high w_high + x_low w_high + x_high w_low, three times the channels.
            high, low = split_high_low(weight, dtype)
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
        self.tiles = self.as_tiles()

    @property
    def in_columns(self) -> bool:
        """True if it is convolved a kernel's column at a time, the columns as so many outputs: the
        libraries are three times as fast with outputs in plenty.

        In fp32 alone: 16 bits would round what each column makes.
        """
        fp32 = self.weight.is_cpu and self.weight.dtype == torch.float32
        few = self.outer < FEW_OUTPUTS and self.reach > 1
        return fp32 and self.kind == "same" and few

    def as_tiles(self) -> Tiles | None:
        """Returns the convolution in tiles, where that is faster."""
        in_tiles = self.kind == "same" and pays_in_tiles(self.weight)
        return Tiles(self.weight, self.bias) if in_tiles else None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Layer:
        """Makes tiles of what the weights have become: else the old ones would stay in memory."""
        super()._apply(fn, recurse)
        self.tiles = self.as_tiles()
        return self

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """Splits the weight or bias, for one convolution each: of an upsampling for even rows, and
        odd ones."""
        return x.chunk(2) if self.kind == "up" else (x,)

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """Returns the input rows (from, to) that output rows `start` to `stop` are made of."""
        if self.kind == "down":
            return 2 * start - 1, 2 * stop
        if self.kind == "up":
            return start // 2 - 1, stop // 2 + 1
        return start - self.reach, stop + self.reach

    def bytes_per_row(self, width: int) -> int:
        """Returns what one output row of `width` pixels takes, with its input."""
        inputs = {"down": 4.0, "up": 0.25}.get(self.kind, 1.0) * self.inner
        return round((inputs + self.outer) * width * self.weight.itemsize)

    @property
    def work(self) -> int:
        """Multiplications for one output pixel."""
        return self.weight.numel() // (4 if self.kind == "up" else 1)

    @property
    def unit(self) -> int:
        """Rows that strips begin at a multiple of."""
        return TILE if self.tiles is not None else 1

    def forward(self, strip: Tensor) -> Tensor:
        """1,C,rows,W with the rows that `needs` names, to the output rows."""
        if self.tiles is not None:
            return self.tiles(strip)
        if self.in_columns:
            return self.by_columns(strip)
        if self.kind != "up":
            return F.conv2d(strip, self.weight, self.bias, self.stride, self.padding)
        # Not as one transposed convolution: on the CPU its last bits depend on the strip's height
        # and the number of threads, and so do those of 2x2 taps with padding.
        height, padded = strip.shape[2] - 2, F.pad(strip, (1, 1))
        even, odd = (self.rows_of(padded[:, :, y : y + height + 1], y) for y in (0, 1))
        return kernels_for(strip.device).interleave(even, odd)

    def whole(self, x: Tensor) -> Tensor:
        """A whole feature B,C,H,W, without what `needs` adds above and below, to the output.

        The stem's comes with all of its padding.
        """
        if self.kind != "up":
            padding = 0 if self.kind == "stem" else self.reach
            return F.conv2d(x, self.weight, self.bias, self.stride, padding)
        phases = F.conv2d(x, self.weight, self.bias, padding=1)  # B,4C,H+1,W+1
        frames, channels, down, right = phases.stride()
        (height, width), own = x.shape[2:], self.outer * channels
        # Phase i,j of pixel y,x lies at y + i, x + j: so all of them are one view.
        shape = len(x), height, 2, width, 2, self.outer
        strides = frames, down, down + 2 * own, right, right + own, channels
        pixels = phases.as_strided(shape, strides).contiguous()
        return pixels.view(len(x), 2 * height, 2 * width, self.outer).permute(0, 3, 1, 2)

    def by_columns(self, strip: Tensor) -> Tensor:
        """As `forward`, of one frame (see `in_columns`)."""
        weight = self.weight.permute(3, 0, 1, 2).flatten(0, 1)[..., None]
        columns = F.conv2d(strip, weight.contiguous(memory_format=torch.channels_last))
        out = kernels_for(strip.device).sum_columns(columns, self.weight.shape[3])
        return out if self.bias is None else out.add_(self.bias[:, None, None])

    def rows_of(self, x: Tensor, part: int) -> Tensor:
        """Even or odd rows of an upsampling (see `parts`)."""
        bias = None if self.bias is None else self.parts(self.bias)[part]
        return F.conv2d(x, self.parts(self.weight)[part], bias)


class Layers(nn.ModuleList):
    """All layers of a network, in the order of its operations. BatchNorm must be folded."""

    def __init__(self, network: Architecture, dtype: torch.dtype):
        check_operations(network.operations)
        super().__init__()
        scale = 1
        for index, operation in enumerate(network.operations):
            conv, normalized = convolution(network, operation), is_normalized(network, operation)
            layer = Layer(conv, operation, normalized, dtype)
            if layer.kind == "down":
                scale *= 2
            elif layer.kind == "up":
                scale //= 2
            layer.index, layer.scale = index, scale
            self.append(layer)

    def __iter__(self) -> Iterator[Layer]:
        return (layer for layer in super().__iter__() if isinstance(layer, Layer))

    @property
    def stem(self) -> Layer:
        """Returns the first layer."""
        return next(iter(self))

    @property
    def width(self) -> int:
        """Channels of the largest feature, were it as large as the image."""
        return max(-(-layer.outer // layer.scale) for layer in list(self)[:-1])

    @property
    def packed_bytes(self) -> int:
        """Returns the size of the weights that are kept beside the layers' own."""
        return sum(layer.tiles.nbytes for layer in self if layer.tiles is not None)

    @property
    def radius(self) -> int:
        """Pixels around a pixel that all layers together look at.

        The pixel may lie anywhere in its cell at the coarsest scale.
        """
        # A convolution that makes the image smaller reaches so many pixels of its input.
        scales = [layer.scale // 2 if layer.kind == "down" else layer.scale for layer in self]
        reaches = [layer.reach * scale for layer, scale in zip(self, scales, strict=True)]
        return sum(reaches) + max(layer.scale for layer in self) - 1


class Fingerprint:
    """Tells whether a network's weights are still those that layers were made of."""

    def __init__(self, network: Architecture):
        self.tensors = [(ref(t), *self.state(t)) for t in weights(network)]

    @staticmethod
    def state(tensor: Tensor) -> tuple[int, int]:
        """Changes when the tensor is changed in place, moved, or given other memory."""
        return tensor._version, tensor.data_ptr()

    def fits(self, network: Architecture) -> bool:
        """True if they are."""
        now = weights(network)
        return len(now) == len(self.tensors) and all(
            known() is t and self.state(t) == tuple(state)
            for t, (known, *state) in zip(now, self.tensors, strict=True)
        )


_cache: WeakKeyDictionary[Architecture, dict[torch.dtype, tuple[Fingerprint, Layers]]] = (
    WeakKeyDictionary()
)


def weights(network: Architecture) -> list[Tensor]:
    """Returns all tensors of a network."""
    return [*network.parameters(), *network.buffers()]


def layers_of(network: Architecture, dtype: torch.dtype) -> Layers:
    """Returns a network's layers, made once and kept as long as the network and its weights.

    Of a network that can be trained, or was made in inference mode, nothing is kept: its weights
    change too often, or without a trace.
    """
    steady = not any(t.requires_grad or t.is_inference() for t in weights(network))
    known = _cache.get(network, {}).get(dtype)
    if steady and known is not None and known[0].fits(network):
        return known[1]
    with torch.no_grad():
        layers = Layers(fold_batchnorm(network) if has_batchnorm(network) else network, dtype)
    if steady:
        _cache.setdefault(network, {})[dtype] = Fingerprint(network), layers
    return layers


def forget_layers(network: Architecture) -> None:
    """Drops what `layers_of` keeps, for a network that leaves a device and has to free it."""
    _cache.pop(network, None)


def split_high_low(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Returns two numbers of a 16-bit type that add up to `x` (float32), to twice the digits."""
    high = x.to(dtype)
    return high, (x - high).to(dtype)
