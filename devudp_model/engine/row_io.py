"""What layers read from and write to: images and features, in strips of rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..depth import movable, to_unit
from ..generator import NORM_EPS, STANDARDIZE_EPS, pad_to_stride
from .buffers import BufferPool, RowBuffer, empty_strip
from .image_rows import AnyImage, read_rows, write_rows
from .kernels import kernels_for, signed
from .layers import halves
from .statistics import Moments
from .workers import AHEAD, Order, worker_count

STEM_REACH = 3


class Span(NamedTuple):
    """Some rows of a frame; they may reach beyond it."""

    frame: int
    start: int
    stop: int


class Reader(Protocol):
    """What a layer reads from: strips of rows, by several threads."""

    def expect(self, spans: list[Span]) -> None:
        """Tells which strips there will be, from top to bottom, frame after frame."""
        ...

    def strip(self, index: int) -> Tensor:
        """The strip with this number: 1,C,rows,W, valid until the thread asks for the next."""
        ...

    def stop(self) -> None:
        """Lets nobody wait for a strip that will not come."""
        ...


class Writer(Protocol):
    """Where a layer's output goes: strips of rows, by several threads."""

    def write(self, index: int, span: Span, strip: Tensor) -> None:
        """1,C,h,W."""
        ...

    def stop(self) -> None:
        """Lets nobody wait for a strip that will not come."""
        ...


class PaddedImage:
    """The input as the stem wants it: padded, standardized, in strips.

    Args:
        image: B,C,H,W in [0, 1] (values beyond are clipped), any type of image and any device.
        device: of the strips.

    Attributes:
        size: height and width, multiples of `STRIDE`.
    """

    def __init__(self, image: AnyImage, device: torch.device):
        self.image, self.device = image, device
        self.height, self.width = image.shape[2:]
        self.rows, self.columns = (padded_indices(n).to(image.device) for n in image.shape[2:])
        self.size = len(self.rows) - 2 * STEM_REACH, len(self.columns) - 2 * STEM_REACH

    def read(self, frame: int, start: int, stop: int, reach: int = 0) -> Tensor:
        """1,3,rows,W in [-1, 1], float32, with `reach` pixels all around."""
        rows = self.rows[start + STEM_REACH - reach : stop + STEM_REACH + reach]
        columns = self.columns[STEM_REACH - reach : len(self.columns) - STEM_REACH + reach]
        if self.image.device.type == "cpu":
            return self.wanted(self.gather(frame, rows, columns, reach))
        whole = read_rows(self.image, frame, 0, self.height)  # in as few operations as possible
        return self.wanted(select(whole[:, :3], rows, columns))

    def read_all(self) -> Tensor:
        """All frames, as `read` with the stem's padding: B,3,H,W."""
        assert isinstance(self.image, Tensor)  # where whole features have room, the image has
        return self.wanted(select(self.image[:, :3], self.rows, self.columns))

    def gather(self, frame: int, rows: Tensor, columns: Tensor, reach: int) -> Tensor:
        """These rows and columns; what lies within the image is copied, not looked up."""
        first, last = int(rows.min()), int(rows.max()) + 1
        block = read_rows(self.image, frame, first, last)[:, :3]
        strip = movable(block)
        if len(rows) != last - first or int(rows[0]) != first:
            strip = strip.index_select(2, rows - first)
        left, right = (
            strip.index_select(3, edge) for edge in (columns[:reach], columns[reach + self.width :])
        )
        parts = [part for part in (left, strip, right) if part.shape[3]]
        return (torch.cat(parts, 3) if len(parts) > 1 else strip).view(block.dtype)

    def wanted(self, strip: Tensor) -> Tensor:
        """What was read, as the network wants it."""
        strip = to_unit(strip.to(self.device)).clamp(0, 1).mul_(2).sub_(1)
        return strip.expand(-1, 3, -1, -1)


def select(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """These rows and columns of B,C,H,W of any type."""
    return movable(image).index_select(2, rows).index_select(3, columns).view(image.dtype)


def padded_indices(size: int) -> Tensor:
    """Which line of an image of `size` lines stands where, once `pad_to_stride` and the stem's
    reflection have padded it."""
    lines = pad_to_stride(torch.arange(size, dtype=torch.float32).expand(1, 1, 1, size))
    return F.pad(lines[:, :, 0], (STEM_REACH, STEM_REACH), mode="reflect")[0, 0].long()


def stem_input(image: Tensor, moments: Moments | None, dtype: torch.dtype) -> Tensor:
    """What the stem reads, of B,3,H,W in [-1, 1]: standardized with these moments, in the dtype (in
    halves if it has 16 bits, see `Layer`), channels_last."""
    if moments is not None:
        image = (image - moments.mean) * torch.rsqrt(moments.var + STANDARDIZE_EPS)
    if dtype != torch.float32:
        high, low = halves(image, dtype)
        image = torch.cat([high, low, high], 1)
    return image.to(dtype, memory_format=torch.channels_last)


@dataclass
class StemReader:
    """The reader that the stem reads from."""

    image: PaddedImage
    moments: Moments | None
    dtype: torch.dtype

    def expect(self, spans: list[Span]) -> None:
        self.spans = spans

    def strip(self, index: int) -> Tensor:
        frame, start, stop = self.spans[index]
        strip = self.image.read(frame, start + STEM_REACH, stop - STEM_REACH, STEM_REACH)
        return stem_input(strip, self.moments, self.dtype)

    def stop(self) -> None:
        pass


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


class FeatureWriter:
    """The writer into a buffer: strips are appended in their order, whichever is ready first."""

    def __init__(self, buffer: RowBuffer):
        self.buffer = buffer
        self.order = Order(buffer.append, AHEAD * worker_count())

    def write(self, index: int, span: Span, strip: Tensor, *, copy: bool = False) -> None:
        """`copy` a strip whose memory the caller uses again."""
        self.order.put(index, self.buffer.own(strip, copy=copy))

    def stop(self) -> None:
        self.order.stop()


class FeatureReader:
    """Puts a feature's parts together, once for each row.

    Rows that two strips share are computed for the upper one; the thread with the lower one waits
    for them.

    Args:
        keep: where to write what comes out, or None; may be the feature's own base.
        space: for type and device.
    """

    def __init__(self, feature: Feature, keep: RowBuffer | None, space: BufferPool):
        self.feature, self.space = feature, space
        self.spans: list[Span] = []
        self.turns, self.shared = Order[None](), Order[Tensor]()
        self.kept = None if keep is None else FeatureWriter(keep)
        self.own = threading.local()

    def expect(self, spans: list[Span]) -> None:
        self.spans = spans
        self.rows = max(span.stop - span.start for span in spans)

    def inside(self, index: int) -> tuple[int, int]:
        """The rows of a strip that are in the image."""
        _, start, stop = self.spans[index]
        return max(start, 0), min(stop, self.feature.buffer.shape.height)

    def follows(self, index: int) -> bool:
        """Whether the strip before it is of the same frame."""
        return index > 0 and self.spans[index].frame == self.spans[index - 1].frame

    def own_buffers(self) -> tuple[Tensor, Tensor]:
        """The thread's: for a strip, and for a feature's part.

        The same memory all the time: short lives between the features' long ones would leave holes
        in the process's memory.
        """
        if not hasattr(self.own, "buffers"):
            shape, dtype, device = self.feature.buffer.shape, self.space.dtype, self.space.device
            strip, part = (empty_strip(shape, self.rows, dtype, device) for _ in range(2))
            self.own.buffers = strip, part
        return self.own.buffers

    def strip(self, index: int) -> Tensor:
        """Rows beyond the image are zeros, as the convolutions' padding is."""
        start, (top, bottom) = self.spans[index].start, self.inside(index)
        done = max(self.inside(index - 1)[1], top) if self.follows(index) else top
        strip, part = self.own_buffers()
        strip = strip[:, :, : self.spans[index].stop - start]
        new = strip[:, :, done - start : bottom - start]
        part = new if self.feature.base is None else part[:, :, : new.shape[2]]
        with self.turns.turn(index):
            pieces = self.feature.buffer.read(part)
            base = [] if self.feature.base is None else self.feature.base.read(new)
        if top > start:
            strip[:, :, : top - start].zero_()
        if bottom < self.spans[index].stop:
            strip[:, :, bottom - start :].zero_()
        self.compute(new, part, pieces, base)
        if self.kept is not None:
            self.kept.write(index, self.spans[index], new, copy=True)
        share = self.shared_with_next(index)
        early = share >= done  # as a rule: then the next strip need not wait for this one's top
        if early:
            self.shared.leave(index, strip[:, :, share - start : bottom - start].clone())
        if done > top:
            strip[:, :, top - start : done - start].copy_(self.shared.get(index - 1))
        if not early:
            self.shared.leave(index, strip[:, :, share - start : bottom - start].clone())
        return strip

    def shared_with_next(self, index: int) -> int:
        """From which row on the next strip needs rows of this one; its end if it needs none."""
        bottom = self.inside(index)[1]
        following = index + 1 < len(self.spans) and self.follows(index + 1)
        return min(self.inside(index + 1)[0], bottom) if following else bottom

    def compute(self, out: Tensor, part: Tensor, found: list[Tensor], base: list[Tensor]) -> None:
        """The new rows of the whole feature, of what was found in its buffers."""
        feature, kernels = self.feature, kernels_for(out.device)
        if found and found[0] is part and feature.moments is None:
            found = []
        if base and base[0] is out:
            base = []
        mean, var = (None, None) if feature.moments is None else feature.moments[1:]
        rectified = signed(part) if feature.relu else None
        added = feature.base is not None
        kernels.compute_rows(out, part, found, base, mean, var, NORM_EPS, rectified, added)

    def stop(self) -> None:
        for order in (self.turns, self.shared, self.kept):
            if order is not None:
                order.stop()


class OutputWriter:
    """The writer behind the head: output activation, cropping, [-1, 1] to [0, 1].

    Args:
        activate: of the generator.
        image: the network's input.
        out: B,3,H,W, float32, gets the result.
        look: is shown a frame's number, the first row and the rows, before the activation.
    """

    def __init__(
        self,
        activate: Callable[[Tensor, Tensor], Tensor],
        image: PaddedImage,
        out: AnyImage,
        look: Callable[[int, int, Tensor], None] | None = None,
    ):
        self.activate, self.image, self.out, self.look = activate, image, out, look

    def write(self, index: int, span: Span, strip: Tensor) -> None:
        frame, start, stop = span
        height, width = self.out.shape[2:]
        inside = (..., slice(max(height - start, 0)), slice(width))
        if self.look is not None:
            self.look(frame, start, strip[inside])
        result = self.activate(strip.float(), self.image.read(frame, start, stop))
        result = result[inside].mul_(0.5)
        if isinstance(self.out, Tensor) and self.out.device == result.device:
            place = read_rows(self.out, frame, start, start + result.shape[2])
            torch.add(result, 0.5, out=place)
        else:
            write_rows(self.out, frame, start, result.add_(0.5))

    def stop(self) -> None:
        pass
