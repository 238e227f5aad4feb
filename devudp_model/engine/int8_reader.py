"""Reads features as 8-bit integers, in strips of rows."""

from __future__ import annotations

import torch
from torch import Tensor

from .buffers import BufferPool, MemoryBuffer, RowBuffer, empty_strip
from .int8 import Convolution
from .kernels import kernels_for
from .row_io import Feature, FeatureReader, Span


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
