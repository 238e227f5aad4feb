"""Reads features as 8-bit integers, and works on strips where convolutions are in 8 bits."""

from __future__ import annotations

import torch
from torch import Tensor

from .buffers import BufferPool, MemoryBuffer, RowBuffer, empty_strip
from .int8 import Convolution, Convolve, RangeStatistics
from .kernels import kernels_for
from .layers import Layer
from .row_io import BaseReader, Feature, FeatureReader, Reader, Span
from .statistics import Range


class QuantizedReader(FeatureReader):
    """The reader of a convolution in 8 bits.

    Its strips are those that `Convolution` wants, padded to the left and right, too. Of the feature
    nothing is left to be done: `Int8Step` has.
    """

    def __init__(
        self,
        feature: Feature,
        keep: RowBuffer | None,
        space: BufferPool,
        convolution: Convolution,
    ):
        super().__init__(feature, keep, space)
        self.convolution = convolution

    def own_buffers(self) -> tuple[Tensor, Tensor]:
        """Returns the thread's buffers: for a strip, and for what is read and rounded."""
        if not hasattr(self.own, "buffers"):
            shape, space, zero = self.feature.buffer.shape, self.space, self.convolution.blank
            padded = (len(zero), self.rows, shape.width + 2, shape.channels)
            strip = torch.empty(padded, dtype=torch.uint8, device=space.device).permute(0, 3, 1, 2)
            strip[..., :1], strip[..., -1:] = zero, zero
            self.own.buffers = strip, empty_strip(shape, self.rows, space.dtype, space.device)
        return self.own.buffers

    def find(self, new: Tensor, other: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return self.feature.buffer.read(other), [other]

    def blank(self, rows: Tensor) -> None:
        rows.copy_(self.convolution.blank.expand_as(rows))

    def put(
        self, index: int, span: Span, out: Tensor, found: tuple[list[Tensor], list[Tensor]]
    ) -> None:
        pieces, (numbers,) = found
        if self.copy is not None:
            # Strips in memory are not written to: they can be kept as they are.
            copy = not isinstance(self.feature.buffer, MemoryBuffer)
            self.copy.write_pieces(index, span, pieces, copy=copy)
        own, integers = self.convolution, numbers.view(torch.int32)
        kernels = kernels_for(out.device)
        kernels.quantize(out, pieces, numbers, integers, own.gain, own.zero, own.most)


class Int8Step:
    """Convolves a layer's strips, adds what is to be added, and finds the range of what comes out.

    Args:
        layer: whose ReLU and sum it is.
        convolve: its convolution.
        channels: of its output.
        base: what is to be added; None for nothing.
    """

    def __init__(self, layer: Layer, convolve: Convolve, channels: int, base: BaseReader | None):
        self.convolve, self.base = convolve, base
        self.relu = layer.operation.relu and convolve is layer  # a `Convolution` has done it
        self.statistics = RangeStatistics(channels, layer.operation.relu and base is None)

    def __call__(self, index: int, reader: Reader, rows: int) -> Tensor:
        """Returns the strip with this number, of so many rows: 1,C,rows,W."""
        pieces = [] if self.base is None else self.base.rows(index, rows)
        out = self.convolve(reader.strip(index))
        if pieces or self.relu:
            rectified = out if self.relu else None
            kernels_for(out.device).compute_rows(out, [], pieces, None, None, 0.0, rectified)
        self.statistics.add(out)
        return out

    @property
    def range(self) -> Range:
        """Returns the range of the whole feature, once all strips are done."""
        return self.statistics.range

    def stop(self) -> None:
        """Lets nobody wait for a strip that will not come."""
        if self.base is not None:
            self.base.stop()
