"""One run of a network strip by strip: on a CPU, and wherever whole features have no room."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..bands.rows import AnyImage, extremes
from ..bands.workers import in_parallel, worker_count
from .buffers import BufferPool, BufferShape, RowBuffer
from .droplets import Droplets
from .hooks import current
from .layers import Layer
from .padded_image import PaddedImage
from .row_io import (
    Feature,
    FeatureReader,
    FeatureWriter,
    OutputWriter,
    Reader,
    Span,
    StemReader,
    Writer,
)
from .statistics import FeatureStatistics, ImageStatistics, KeptMoments, Moments, group_rows

if TYPE_CHECKING:
    from .network import Network

log = logging.getLogger("devudp")

CACHE_BYTES, GPU_STRIP_BYTES = 4 * 2**20, 64 * 2**20
"""Of a layer's input and output strip together; on the CPU for each thread, for its cache."""

LIBRARIES_BYTES = 48 * 2**20
"""What PyTorch's kernels take for themselves, about."""


class StripExecution:
    """See the module: which layer reads what and writes where. Arguments: as of `Network.forward`.

    A residual block works on two buffers of its scale, the block's input and what its convolutions
    leave, in place. At the most there are four: these two of the finest scale, and, before the last
    upsampling, the two of the middle scale, half as large.
    """

    def __init__(self, network: Network, image: AnyImage, memory: int | None, keep: bool):
        self.network, self.layers, self.keep = network, network.layers, keep
        self.image = PaddedImage(image, network.device)
        self.frames = image.shape[0]
        self.seen: list[Tensor] = []
        self.to_keep: list[tuple[KeptMoments, Moments]] = []
        self.threads, self.strip_bytes = 1, GPU_STRIP_BYTES
        if network.device.type == "cpu":
            self.threads, self.strip_bytes = worker_count(), CACHE_BYTES
        left = None if memory is None else self.left_for_buffers(memory)
        self.space = BufferPool(network.dtype, network.device, left)
        self.advance = current().advance
        total = sum(layer.work * self.size_of(layer) for layer in self.layers)
        self.pixels_per_work = image.shape[2] * image.shape[3] / total

    def size_of(self, layer: Layer) -> int:
        """Pixels of a frame of its output."""
        height, width = self.image.size
        return height * width // self.layers.scale_of(layer) ** 2

    def left_for_buffers(self, memory: int) -> int:
        """Of a memory limit; where little is left, strips become smaller too."""
        network = self.network
        row = network.width * self.image.size[1]
        sums = 4 * row * group_rows(row) * self.threads
        least = LIBRARIES_BYTES + sums + sum(buffer.nbytes for buffer in network.buffers())
        if memory < least and not network.warned:
            network.warned = True
            log.warning(
                "The memory limit is too low: it leaves %d MB, and weights, kernels and the rows "
                "in work take %d MB by themselves. Going on with as little as possible.",
                *(round(n / 1e6) for n in (memory, least)),
            )
        self.strip_bytes = min(self.strip_bytes, max(memory - least, 0) // (8 * self.threads))
        # Some four strips for each worker are alive at a time.
        return max(memory - least - 4 * self.strip_bytes * self.threads, 0)

    def run(self, out: AnyImage) -> None:
        """The whole network, into `out` (B,3,H,W, float32)."""
        layers = self.layers
        feature = self.layer(layers.stem, self.standardized(), self.allocate(1))
        feature = self.blocks(layers.encode1, feature)
        feature, skip1 = self.down(layers.down1, feature, self.allocate(2))
        feature = self.blocks(layers.encode2, feature)
        feature, skip2 = self.down(layers.down2, feature, self.allocate(4))
        feature = self.blocks(layers.encode3, feature)
        feature = self.blocks(layers.decode3, feature)
        feature = self.up(layers.up2, feature, self.allocate(2), skip2)
        feature = self.blocks(layers.decode2, feature)
        feature = self.up(layers.up1, feature, self.allocate(1), skip1)
        feature = self.blocks(layers.decode1, feature)
        pixels = out.shape.numel() // out.shape[1]
        droplets = Droplets(pixels) if self.network.has_droplets else None
        look = droplets and droplets.look
        writer = OutputWriter(self.network.activate, self.image, out, look)
        self.stream(layers.head, self.read(feature), writer, self.image.size)
        if droplets is not None:
            droplets.heal(out, self.image.image)
        self.seen.append(extremes(out))
        for place, found in self.to_keep:
            place.keep(found)
        if self.space.spilled:
            log.info(
                "%.2g GB of features did not fit into the memory limit and went to %s",
                self.space.spilled / 1e9,
                self.space.spill_location,
            )

    def allocate(self, scale: int) -> RowBuffer:
        """A new buffer; `scale` 1, 2 or 4 pixels to one."""
        height, width = self.image.size
        shape = (self.frames, self.network.width * scale, height // scale, width // scale)
        return self.space.allocate(BufferShape(*shape))

    def read(self, feature: Feature, keep: RowBuffer | None = None) -> FeatureReader:
        return FeatureReader(feature, keep, self.space)

    def blocks(self, stage: nn.ModuleList, feature: Feature) -> Feature:
        """Residual blocks, in place on two buffers."""
        for conv1, conv2 in stage:  # pyright: ignore[reportGeneralTypeIssues]
            work, base = feature.buffer, self.buffer_to_keep(feature)
            inner = self.layer(conv1, self.read(feature, keep=base), work)
            feature = self.layer(conv2, self.read(inner), work, relu=False)
            feature.base = base
        return feature

    def buffer_to_keep(self, feature: Feature) -> RowBuffer:
        """Where a feature is to be kept: where a part of it was, as far as that is free."""
        return feature.base or self.space.allocate(feature.buffer.shape)

    def down(self, layer: Layer, feature: Feature, target: RowBuffer) -> tuple[Feature, RowBuffer]:
        """The coarser feature, and the buffer where the finer one is kept."""
        kept = self.buffer_to_keep(feature)
        coarser = self.layer(layer, self.read(feature, keep=kept), target)
        self.space.free(feature.buffer)
        return coarser, kept

    def up(self, layer: Layer, feature: Feature, target: RowBuffer, skip: RowBuffer) -> Feature:
        """The finer feature, with the encoder's added."""
        finer = self.layer(layer, self.read(feature), target)
        self.space.free(feature.buffer)
        if feature.base is not None:
            self.space.free(feature.base)
        finer.base = skip
        return finer

    def layer(
        self, layer: Layer, reader: Reader, target: RowBuffer, *, relu: bool = True
    ) -> Feature:
        """Convolution into `target`; normalisation (and ReLU) are left to who reads it."""
        height, width = target.shape[2:]
        writer = FeatureWriter(target)
        return Feature(target, self.stream(layer, reader, writer, (height, width)), relu)

    def stream(
        self, layer: Layer, reader: Reader, writer: Writer, size: tuple[int, int]
    ) -> Moments | None:
        """Convolves strip by strip; `size` of the output. The moments are those of all frames."""
        spans = self.spans(layer, size)
        reader.expect([Span(frame, *layer.needs(i, j)) for frame, i, j in spans])
        place = self.network.kept[layer.index]
        assert isinstance(place, KeptMoments)
        statistics = None
        if layer.normalized and place.moments is None:
            statistics = FeatureStatistics(self.group_of(layer, size))

        def work(index: int) -> float:
            strip, span = layer(reader.strip(index)), spans[index]
            if statistics is not None:
                statistics.add(index, strip)
            writer.write(index, span, strip)
            pixels = (span.stop - span.start) * size[1]
            return layer.work * pixels * self.pixels_per_work

        def stop() -> None:
            for waiting in (reader, writer, statistics):
                if waiting is not None:
                    waiting.stop()

        in_parallel(work, len(spans), self.advance, stop)
        if statistics is None:
            return place.moments
        found = statistics.moments()
        self.seen.append(found.var)
        if self.keep:
            self.to_keep.append((place, found))
        return found

    def group_of(self, layer: Layer, size: tuple[int, int]) -> int:
        """Rows of a group, for statistics and as the unit of strips."""
        return group_rows(max(layer.inner, layer.outer) * size[1])

    def spans(self, layer: Layer, size: tuple[int, int]) -> list[Span]:
        """The strips of a layer's output of this size, in all frames."""
        height, width = size
        group = self.group_of(layer, size)
        rows = max(1, self.strip_bytes // (layer.bytes_per_row(width) * group)) * group
        # As many strips as give every worker the same number of them, of the same size.
        count = ceil_to(ceil_to(height, rows) // rows, self.threads)
        rows = min(rows, ceil_to(height, count * group) // count)
        return [Span(f, *strip) for f in range(self.frames) for strip in cut(height, rows, group)]

    def standardized(self) -> StemReader:
        """What the stem reads: see `generator.standardize`."""
        network, image = self.network, self.image
        if not network.standardized:
            return StemReader(image, None, network.dtype)
        found = network.kept_image.moments
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
                statistics.add(index, image.read(*spans[index]))
                return 0.0

            in_parallel(work, len(spans))
            found = statistics.moments(network.device)
            if self.keep:
                self.to_keep.append((network.kept_image, found))
        return StemReader(image, found, network.dtype)


def ceil_to(number: int, step: int) -> int:
    """The next multiple of `step`."""
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
