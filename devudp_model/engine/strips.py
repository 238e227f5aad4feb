"""One run of a network strip by strip: on a CPU, and wherever whole features do not fit.

A strip is a few rows of a feature over its full width: the unit that one worker computes at a time.
"""

from __future__ import annotations

import logging

from torch import Tensor

from ..bands.rows import AnyImage, extremes
from ..bands.workers import in_parallel, worker_count
from .buffers import BufferPool, BufferShape, RowBuffer
from .droplets import Droplets
from .hooks import current_hooks
from .int8 import Convolution, Convolve, convolution, pays
from .int8_strips import Int8Step, QuantizedReader
from .layers import Layer
from .padded_image import PaddedImage, Weights
from .row_io import (
    BaseReader,
    Feature,
    FeatureReader,
    FeatureWriter,
    OutputWriter,
    Reader,
    Span,
    StemReader,
    Writer,
)
from .state import NetworkState
from .statistics import FeatureStatistics, Frozen, ImageStatistics, Moments, Range, group_rows
from .winograd import TILE

log = logging.getLogger("devudp")

CACHE_BYTES, GPU_STRIP_BYTES = 8 * 2**20, 64 * 2**20
"""Size of a layer's input and output strip together; on the CPU for each thread, for its cache."""

LIBRARIES_BYTES = 48 * 2**20
"""Taken by PyTorch's kernels for themselves, about."""


class StripExecution:
    """See the module: which layer reads what and writes where. Arguments: as of `Network.forward`.

    A residual block works on two buffers of its scale, the block's input and what its convolutions
    leave, in place. At the most there are four: these two of the finest scale, and, before the last
    upsampling, the two of the middle scale, half as large.
    """

    def __init__(
        self,
        network: NetworkState,
        image: AnyImage,
        memory: int | None,
        freeze: bool,
        weights: Tensor | None = None,
    ):
        self.network, self.layers, self.freeze = network, network.layers, freeze
        self.image = PaddedImage(network, image)
        self.weights = None if weights is None else Weights(network, weights)
        self.frames = image.shape[0]
        self.seen: list[Tensor] = []
        self.to_freeze: list[tuple[Frozen, Moments | Range]] = []
        self.in_int8 = pays(network, image)
        self.threads, self.strip_bytes = 1, GPU_STRIP_BYTES
        if network.device.type == "cpu":
            self.threads, self.strip_bytes = worker_count(), CACHE_BYTES
        left = None if memory is None else self.left_for_buffers(memory)
        self.space = BufferPool(network.dtype, network.device, left)
        self.advance = current_hooks().advance
        total = sum(layer.work * self.size_of(layer) for layer in self.layers)
        self.pixels_per_work = image.shape[2] * image.shape[3] / total

    def size_of(self, layer: Layer) -> int:
        """Returns the pixels of a frame of its output."""
        height, width = self.image.size
        return height * width // layer.scale**2

    def left_for_buffers(self, memory: int) -> int:
        """Returns what a memory limit leaves; where that is little, strips become smaller too."""
        network = self.network
        row = self.layers.width * self.image.size[1]
        sums = 4 * row * ceil_to(group_rows(row), TILE) * self.threads
        least = LIBRARIES_BYTES + sums + network.nbytes
        if memory < least and not network.warned:
            network.warned = True
            log.warning(
                "The memory limit is too low: it leaves %d MB, and weights, kernels and the rows "
                "in work take %d MB by themselves. Continuing with the least possible.",
                *(round(n / 1e6) for n in (memory, least)),
            )
        self.strip_bytes = min(self.strip_bytes, max(memory - least, 0) // (8 * self.threads))
        # Some four strips for each worker are alive at a time.
        return max(memory - least - 4 * self.strip_bytes * self.threads, 0)

    def run(self, out: AnyImage) -> None:
        """Runs the whole network, into `out` (B,3,H,W, float32)."""
        *inner, head = self.layers
        pixels = out.shape.numel() // out.shape[1]
        droplets = Droplets(pixels) if self.network.has_droplets else None
        look = droplets and droplets.look
        writer = OutputWriter(self.network.activate, self.image, out, look)
        reader = self.read(self.features(inner), head, None)
        step = Int8Step(head, head, head.outer, None) if self.in_int8 else None
        self.stream(head, reader, writer, self.image.size, step)
        if droplets is not None:
            droplets.heal(out, self.image.image)
        self.seen.append(extremes(out))
        if self.space.spilled:
            log.info(
                "%.2g GB of features did not fit into the memory limit and went to %s",
                self.space.spilled / 1e9,
                self.space.spill_location,
            )

    def features(self, layers: list[Layer]) -> Feature:
        """Runs the network's operations but for the head; returns what that reads."""
        stem, *others = layers
        feature = self.convolve(stem, self.standardized(), self.allocate(stem), stem)
        skips: list[RowBuffer] = []
        for layer in others:
            before, same = feature, self.shape_of(layer) == feature.buffer.shape
            target = before.buffer if same else self.allocate(layer)
            copy = None
            if layer.operation.keep:  # in its own base, if it has one: that is free once it is read
                copy = before.base or self.space.allocate(before.buffer.shape)
            base = skips.pop() if layer.operation.add else None
            convolve = self.convolution(layer, before.range)
            reader = self.read(before, convolve, copy)
            feature = self.convolve(layer, reader, target, convolve, base)
            if not same:
                self.space.free(before.buffer)
            if copy is not None:
                skips.append(copy)
            elif before.base is not None:
                self.space.free(before.base)
            if base is not None and feature.range is not None:
                self.space.free(base)  # it was added already
            else:
                feature.base = base
        return feature

    def shape_of(self, layer: Layer) -> BufferShape:
        """Returns the shape of a layer's output."""
        height, width = (side // layer.scale for side in self.image.size)
        return BufferShape(self.frames, layer.outer, height, width)

    def allocate(self, layer: Layer) -> RowBuffer:
        """Returns a new buffer for a layer's output."""
        return self.space.allocate(self.shape_of(layer))

    def read(self, feature: Feature, convolve: Convolve, keep: RowBuffer | None) -> FeatureReader:
        """Returns what reads a feature for a convolution; what it reads goes to `keep`, too."""
        if isinstance(convolve, Convolution):
            return QuantizedReader(feature, keep, self.space, convolve)
        return FeatureReader(feature, keep, self.space)

    def convolve(
        self,
        layer: Layer,
        reader: Reader,
        target: RowBuffer,
        convolve: Convolve,
        base: RowBuffer | None = None,
    ) -> Feature:
        """Convolves into `target`; normalisation (and ReLU) are left to who reads it.

        Args:
            convolve: the layer itself, or its convolution in 8 bits.
            base: what is to be added, which in 8 bits is done here.
        """
        size = target.shape.height, target.shape.width
        writer = FeatureWriter(target)
        if not self.in_int8:
            return Feature(target, self.stream(layer, reader, writer, size), layer.operation.relu)
        added = None if base is None else BaseReader(base, self.space)
        step = Int8Step(layer, convolve, target.shape.channels, added)
        self.stream(layer, reader, writer, size, step)
        self.seen += step.range
        return Feature(target, None, relu=False, range=step.range)

    def convolution(self, layer: Layer, given: Range | None) -> Convolve:
        """A layer's convolution; where the input has a range, by that or the one that is frozen."""
        if given is None:
            return layer
        own = self.network.frozen_ranges[layer.index]
        assert isinstance(own, Frozen)
        if self.freeze:
            self.to_freeze.append((own, given))
        return convolution(layer, self.layers, own.range or given)

    def stream(
        self,
        layer: Layer,
        reader: Reader,
        writer: Writer,
        size: tuple[int, int],
        step: Int8Step | None = None,
    ) -> Moments | None:
        """Convolves strip by strip; `size` of the output. The moments are those of all frames."""
        spans, scale = self.spans(layer, size), layer.scale
        reader.expect([Span(frame, *layer.needs(i, j)) for frame, i, j in spans])
        own = self.network.frozen[layer.index]
        assert isinstance(own, Frozen)
        statistics = None
        if layer.normalized and own.moments is None:
            statistics = FeatureStatistics(self.group_of(layer, size))

        def work(index: int) -> float:
            span = spans[index]
            if step is None:
                strip = layer(reader.strip(index))
            else:
                strip = step(index, reader, span.stop - span.start)
            if statistics is not None:
                statistics.add(index, strip, self.weights_of(span, scale))
            writer.write(index, span, strip)
            return layer.work * (span.stop - span.start) * size[1] * self.pixels_per_work

        def stop() -> None:
            for waiting in (reader, writer, statistics, step):
                if waiting is not None:
                    waiting.stop()

        in_parallel(work, len(spans), self.advance, stop)
        if statistics is None:
            return own.moments
        found = statistics.moments()
        self.seen.append(found.var)
        if self.freeze:
            self.to_freeze.append((own, found))
        return found

    def weights_of(self, span: Span, scale: int) -> Tensor | None:
        """Returns the weights of these rows at this scale; None where all pixels count alike."""
        return None if self.weights is None else self.weights.read(*span, scale)

    def group_of(self, layer: Layer, size: tuple[int, int]) -> int:
        """Rows of a group, for statistics and as the unit of strips."""
        rows = group_rows(max(layer.inner, layer.outer) * size[1])
        return ceil_to(rows, layer.unit)

    def spans(self, layer: Layer, size: tuple[int, int]) -> list[Span]:
        """Returns the strips of a layer's output of this size, in all frames."""
        height, width = size
        group = self.group_of(layer, size)
        rows = max(1, self.strip_bytes // (layer.bytes_per_row(width) * group)) * group
        # As many strips as give every worker the same number of them, of the same size.
        count = ceil_to(ceil_to(height, rows) // rows, self.threads)
        rows = min(rows, ceil_to(height, count * group) // count)
        return [Span(f, *strip) for f in range(self.frames) for strip in cut(height, rows, group)]

    def standardized(self) -> StemReader:
        """Returns what the stem reads: see `generator.standardize`."""
        network, image = self.network, self.image
        if not network.standardized:
            return StemReader(image, None, network.dtype)
        found = network.frozen_image.moments
        if found is None:
            height, width = image.size
            rows = max(1, min(self.strip_bytes // (64 * width), -(-height // self.threads)))
            statistics = ImageStatistics()
            spans = [
                Span(frame, start, min(start + rows, height))
                for frame in range(self.frames)
                for start in range(0, height, rows)
            ]

            def work(index: int) -> float:
                statistics.add(index, image.read(*spans[index]), self.weights_of(spans[index], 1))
                return 0.0

            in_parallel(work, len(spans))
            found = statistics.moments(network.device)
            if self.freeze:
                self.to_freeze.append((network.frozen_image, found))
        return StemReader(image, found, network.dtype)


def ceil_to(number: int, step: int) -> int:
    """Returns the next multiple of `step`."""
    return -(-number // step) * step


def cut(height: int, rows: int, group: int) -> list[tuple[int, int]]:
    """Strips of `rows` rows, a multiple of `group`; a rest below a group goes with the one before.

    So no strip is smaller than a group, unless the image is: for very small strips the libraries
    choose other kernels, which round otherwise.
    """
    starts = list(range(0, height, rows))
    if len(starts) > 1 and height - starts[-1] < group:
        starts.pop()
    return list(zip(starts, [*starts[1:], height], strict=True))
