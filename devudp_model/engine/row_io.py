"""Readers and writers of layers: images and features, in strips of rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..bands.rows import AnyImage, read_rows, write_rows
from ..bands.workers import AHEAD, Order, worker_count
from ..network.generator import NORM_EPS
from .buffers import BufferPool, RowBuffer, empty_strip
from .kernels import kernels_for, signed
from .padded_image import PaddedImage, stem_input
from .statistics import Moments, Range


class Span(NamedTuple):
    """Some rows of a frame; they may reach beyond it."""

    frame: int
    start: int
    stop: int


class Reader(Protocol):
    """Gives a layer its input: strips of rows, for several threads."""

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
    """Takes a layer's output: strips of rows, from several threads."""

    def write(self, index: int, span: Span, strip: Tensor) -> None:
        """1,C,h,W."""
        ...

    def stop(self) -> None:
        """Lets nobody wait for a strip that will not come."""
        ...


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
        reach = self.image.reach
        strip = self.image.read(frame, start + reach, stop - reach, reach)
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
        range: of the whole, where convolutions are computed in 8 bits.
    """

    buffer: RowBuffer
    moments: Moments | None
    relu: bool
    base: RowBuffer | None = None
    range: Range | None = None


class FeatureWriter:
    """The writer into a buffer: strips are appended in their order, whichever is ready first."""

    def __init__(self, buffer: RowBuffer):
        self.buffer = buffer
        self.order = Order(self.append, AHEAD * worker_count())

    def write(self, index: int, span: Span, strip: Tensor, *, copy: bool = False) -> None:
        """`copy` a strip whose memory the caller uses again."""
        self.write_pieces(index, span, [strip], copy=copy)

    def write_pieces(self, index: int, span: Span, strips: list[Tensor], *, copy: bool) -> None:
        """A strip in pieces, one below the other."""
        row = span.frame * self.buffer.shape.height + span.start
        taken: list[Tensor | None] = []
        for strip in strips:
            taken.append(self.buffer.take(row, strip, copy=copy))
            row += strip.shape[2]
        self.order.put(index, taken)

    def append(self, taken: list[Tensor | None]) -> None:
        """Appends what the buffer has taken."""
        for strip in taken:
            self.buffer.append(strip)

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
        self.copy = None if keep is None else FeatureWriter(keep)
        self.own = threading.local()

    def expect(self, spans: list[Span]) -> None:
        self.spans = spans
        self.rows = max(span.stop - span.start for span in spans)

    def inside(self, index: int) -> tuple[int, int]:
        """Returns the rows of a strip that are in the image."""
        _, start, stop = self.spans[index]
        return max(start, 0), min(stop, self.feature.buffer.shape.height)

    def follows(self, index: int) -> bool:
        """True if the strip before it is of the same frame."""
        return index > 0 and self.spans[index].frame == self.spans[index - 1].frame

    def own_buffers(self) -> tuple[Tensor, Tensor]:
        """Returns the thread's buffers: for a strip, and for what a file has to be added to it.

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
        strip, other = self.own_buffers()
        strip = strip[:, :, : self.spans[index].stop - start]
        new = strip[:, :, done - start : bottom - start]
        other = other[:, :, : new.shape[2]]
        with self.turns.turn(index):
            found = self.find(new, other)
        if top > start:
            self.blank(strip[:, :, : top - start])
        if bottom < self.spans[index].stop:
            self.blank(strip[:, :, bottom - start :])
        self.put(index, Span(self.spans[index].frame, done, bottom), new, found)
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

    def find(self, new: Tensor, other: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Reads rows of the feature's buffer and of its base, in pieces; `new` and `other` are room
        for them."""
        pieces = self.feature.buffer.read(new)
        return pieces, [] if self.feature.base is None else self.feature.base.read(other)

    def blank(self, rows: Tensor) -> None:
        """Fills rows beyond the image."""
        rows.zero_()

    def put(
        self, index: int, span: Span, out: Tensor, found: tuple[list[Tensor], list[Tensor]]
    ) -> None:
        """Makes the new rows of the whole feature, of what was found in its buffers."""
        self.compute(out, *found)
        if self.copy is not None:
            self.copy.write(index, span, out, copy=True)

    def compute(self, out: Tensor, found: list[Tensor], base: list[Tensor]) -> None:
        """Normalises, rectifies and adds."""
        feature, kernels = self.feature, kernels_for(out.device)
        if found and found[0] is out and feature.moments is None:
            found = []
        mean, var = (None, None) if feature.moments is None else feature.moments[1:]
        rectified = signed(out) if feature.relu else None
        kernels.compute_rows(out, found, base, mean, var, NORM_EPS, rectified)

    def stop(self) -> None:
        for order in (self.turns, self.shared, self.copy):
            if order is not None:
                order.stop()


class BaseReader:
    """Adds a kept feature to a layer's output, strip by strip.

    As a rule `FeatureReader` does, for the next layer. In 8 bits that layer has to know the range
    of the sum before it reads the first strip.
    """

    def __init__(self, base: RowBuffer, space: BufferPool):
        self.base, self.space = base, space
        self.turns, self.own = Order[None](), threading.local()

    def rows(self, index: int, count: int) -> list[Tensor]:
        """Reads the next `count` rows, in pieces, valid until the thread asks for the next."""
        if not hasattr(self.own, "strip") or self.own.strip.shape[2] < count:
            space = self.space
            self.own.strip = empty_strip(self.base.shape, count, space.dtype, space.device)
        with self.turns.turn(index):
            return self.base.read(self.own.strip[:, :, :count])

    def stop(self) -> None:
        self.turns.stop()


@dataclass
class OutputWriter:
    """The writer behind the head: output activation, cropping, [-1, 1] to [0, 1].

    Args:
        activate: of the generator.
        image: the network's input.
        out: B,3,H,W, float32, gets the result.
        look: is shown a frame's number, the first row and the rows, before the activation.
    """

    activate: Callable[[Tensor, Tensor], Tensor]
    image: PaddedImage
    out: AnyImage
    look: Callable[[int, int, Tensor], None] | None = None

    def write(self, index: int, span: Span, strip: Tensor) -> None:
        frame, start, stop = span
        height, width = self.out.shape[2:]
        inside = (..., slice(max(height - start, 0)), slice(width))
        head = strip.float()
        if self.look is not None:
            self.look(frame, start, head[inside])
        result = self.activate(head, self.image.read(frame, start, stop))[inside].mul_(0.5)
        if isinstance(self.out, Tensor) and self.out.device == result.device:
            region = read_rows(self.out, frame, start, start + result.shape[2])
            torch.add(result, 0.5, out=region)
        else:
            write_rows(self.out, frame, start, result.add_(0.5))

    def stop(self) -> None:
        pass
