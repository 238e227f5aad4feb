"""Works on a strip where convolutions are computed in 8 bits."""

from __future__ import annotations

from torch import Tensor

from .int8 import Convolve, RangeStatistics
from .kernels import kernels_for
from .layers import Layer
from .row_io import BaseReader, Reader
from .statistics import Range


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
