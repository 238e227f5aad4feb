"""What layers read from and write to: images and features, in strips of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..generator import STANDARDIZE_EPS, pad_to_stride
from .buffers import BufferPool, RowBuffer, empty_strip
from .layers import halves, normalize_into, relu_
from .statistics import Moments

STEM_REACH = 3


class Reader(Protocol):
    """What a layer reads from: strips of rows, asked for from top to bottom."""

    def expect(self, rows: int) -> None:
        """Tells how many rows a strip will have at most."""
        ...

    def strip(self, frame: int, start: int, stop: int) -> Tensor: ...


class Writer(Protocol):
    """Where a layer's output goes: strips of rows, from top to bottom, frame after frame."""

    def write(self, strip: Tensor) -> None: ...


class PaddedImage:
    """The input as the stem wants it: padded, standardized, in strips.

    Args:
        image: B,C,H,W in [0, 1] (values beyond are clipped), any floating type and device.
        device: of the strips.

    Attributes:
        size: height and width, multiples of `STRIDE`.
    """

    def __init__(self, image: Tensor, device: torch.device):
        self.image, self.device = image[:, :3], device
        self.rows, self.columns = (padded_indices(n).to(image.device) for n in image.shape[2:])
        self.size = len(self.rows) - 2 * STEM_REACH, len(self.columns) - 2 * STEM_REACH

    def read(self, frame: int, start: int, stop: int, reach: int = 0) -> Tensor:
        """1,3,rows,W in [-1, 1], float32, with `reach` pixels all around."""
        rows = self.rows[start + STEM_REACH - reach : stop + STEM_REACH + reach]
        columns = self.columns[STEM_REACH - reach : len(self.columns) - STEM_REACH + reach]
        strip = self.image[frame : frame + 1].index_select(2, rows).index_select(3, columns)
        strip = strip.to(self.device, torch.float32).clamp_(0, 1).mul_(2).sub_(1)
        return strip.expand(-1, 3, -1, -1)


def padded_indices(size: int) -> Tensor:
    """Which line of an image of `size` lines stands where, once `pad_to_stride` and the stem's
    reflection have padded it."""
    lines = pad_to_stride(torch.arange(size, dtype=torch.float32).expand(1, 1, 1, size))
    return F.pad(lines[:, :, 0], (STEM_REACH, STEM_REACH), mode="reflect")[0, 0].long()


@dataclass
class StemReader:
    """The reader that the stem reads from."""

    image: PaddedImage
    moments: Moments | None
    dtype: torch.dtype

    def expect(self, rows: int) -> None:
        pass

    def strip(self, frame: int, start: int, stop: int) -> Tensor:
        strip = self.image.read(frame, start + STEM_REACH, stop - STEM_REACH, STEM_REACH)
        if self.moments is not None:
            rstd = torch.rsqrt(self.moments.var + STANDARDIZE_EPS)
            strip = (strip - self.moments.mean) * rstd
        if self.dtype != torch.float32:
            high, low = halves(strip, self.dtype)
            strip = torch.cat([high, low, high], 1)
        return strip.to(self.dtype, memory_format=torch.channels_last)


@dataclass
class Feature:
    """A feature map that is written down in parts: [base +] [ReLU of] the normalised buffer.

    Attributes:
        buffer: what a convolution left.
        moments: of the buffer; None where nothing is normalised (BatchNorm is folded).
        relu: whether a ReLU follows.
        base: what is added at the end: a residual block's input, or the encoder's features.
    """

    buffer: RowBuffer
    moments: Moments | None
    relu: bool
    base: RowBuffer | None = None


class FeatureReader:
    """Puts a feature's parts together, once for each row.

    Args:
        keep: where to write what comes out, or None; may be the feature's own base.
        space: for type and device.
    """

    def __init__(self, feature: Feature, keep: RowBuffer | None, space: BufferPool):
        self.feature, self.keep, self.space = feature, keep, space
        self.frame, self.first, self.done = -1, 0, 0
        self.buffers: list[Tensor] = []

    def expect(self, rows: int) -> None:
        # This strip, the last one, and a feature's part, in the same memory all the time: short
        # lives between the buffers' long ones would leave holes in the process's memory.
        shape, dtype, device = self.feature.buffer.shape, self.space.dtype, self.space.device
        self.buffers = [empty_strip(shape, rows, dtype, device) for _ in range(3)]

    def strip(self, frame: int, start: int, stop: int) -> Tensor:
        """Rows beyond the image are zeros, as the convolutions' padding is."""
        shape = self.feature.buffer.shape
        if frame != self.frame:
            self.frame, self.done = frame, 0
        top, bottom = max(start, 0), min(stop, shape.height)
        last, strip = self.buffers[0], self.buffers[1][:, :, : stop - start]
        self.buffers[:2] = self.buffers[1], last
        strip[:, :, : top - start].zero_()
        strip[:, :, bottom - start :].zero_()
        if self.done > top:
            again = last[:, :, top - self.first : self.done - self.first]
            strip[:, :, top - start : self.done - start].copy_(again)
        if bottom > self.done:
            self.compute(strip[:, :, self.done - start : bottom - start])
        self.first, self.done = start, bottom
        return strip

    def compute(self, out: Tensor) -> None:
        """The next rows of the whole feature."""
        feature = self.feature
        part = out if feature.base is None else self.buffers[2][:, :, : out.shape[2]]
        for piece, place in pieces(feature.buffer, part):
            if feature.moments is None:
                place.copy_(piece)
            else:
                normalize_into(place, piece, feature.moments)
        if feature.relu:
            relu_(part)
        if feature.base is not None:
            for piece, place in pieces(feature.base, out):
                place.copy_(piece)  # first, since nothing reads memory as fast as a copy
            out.add_(part)
        if self.keep is not None:
            self.keep.write(out, copy=True)


def pieces(buffer: RowBuffer, out: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The buffer's next rows, as many as `out` has, each piece with its place in `out`."""
    row = 0
    for piece in buffer.read(out.shape[2]):
        yield piece, out[:, :, row : row + piece.shape[2]]
        row += piece.shape[2]


class OutputWriter:
    """The writer behind the head: output activation, cropping, [-1, 1] to [0, 1].

    Args:
        activate: of the generator.
        image: the network's input.
        out: B,3,H,W, float32, gets the result.
    """

    def __init__(
        self, activate: Callable[[Tensor, Tensor], Tensor], image: PaddedImage, out: Tensor
    ):
        self.activate, self.image, self.out = activate, image, out
        self.rows_written = 0

    def write(self, strip: Tensor) -> None:
        """1,3,h,W, the next rows."""
        frame, start = divmod(self.rows_written, self.image.size[0])
        self.rows_written += strip.shape[2]
        result = self.activate(strip.float(), self.image.read(frame, start, start + strip.shape[2]))
        place = self.out[frame, :, start : start + strip.shape[2]]
        height, width = place.shape[1:]
        torch.add(result[0, :, :height, :width].mul_(0.5), 0.5, out=place)
