"""The network's input: padded, in the range and type that the stem wants."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bands.rows import AnyImage, read_rows
from ..network.generator import STANDARDIZE_EPS, pad_to_stride
from ..ops.arithmetic import linear
from ..ops.dtypes import indexable, to_colour, to_unit
from .layers import split_high_low
from .state import NetworkState
from .statistics import Moments


class PaddedImage:
    """The input as the stem wants it: padded, standardized, in strips.

    Args:
        network: whose stem reads it.
        image: B,C,H,W in [0, 1] (values beyond are clipped), any type of image and any device.

    Attributes:
        size: height and width, multiples of the network's stride.
        reach: pixels that the stem looks at on each side.
    """

    def __init__(self, network: NetworkState, image: AnyImage):
        self.image, self.device = image, network.device
        self.reach = network.layers.stem.reach
        self.height, self.width = image.shape[2:]
        self.grid = network.stride, network.min_side
        self.rows, self.columns = (
            padded_indices(side, *self.grid, self.reach) for side in image.shape[2:]
        )
        self.size = len(self.rows) - 2 * self.reach, len(self.columns) - 2 * self.reach

    @cached_property
    def indices(self) -> tuple[Tensor, Tensor]:
        """Returns which rows and columns stand where, on the image's device."""
        return self.rows.to(self.image.device), self.columns.to(self.image.device)

    def read(self, frame: int, start: int, stop: int, reach: int = 0) -> Tensor:
        """1,3,rows,W in [-1, 1], float32, with `reach` pixels all around."""
        rows, columns = self.indices
        rows = rows[start + self.reach - reach : stop + self.reach + reach]
        columns = columns[self.reach - reach : len(columns) - self.reach + reach]
        if self.image.device.type == "cpu":
            return self.in_range(self.gather(frame, rows, columns, reach))
        whole = read_rows(self.image, frame, 0, self.height)  # in as few operations as possible
        return self.in_range(select(whole[:, :3], rows, columns))

    def read_all(self) -> Tensor:
        """Returns all frames, as `read` without a reach: B,3,H,W."""
        assert isinstance(self.image, Tensor)  # where whole features have room, the image has
        return pad_to_stride(linear(to_colour(self.image, self.device), 2, -1), *self.grid)

    def with_reach(self, image: Tensor) -> Tensor:
        """Pads what `read_all` gave as the stem wants it."""
        return F.pad(image, [self.reach] * 4, mode="reflect")

    def gather(self, frame: int, rows: Tensor, columns: Tensor, reach: int) -> Tensor:
        """Returns these rows and columns; what lies within the image is copied, not looked up."""
        first, last = int(rows.min()), int(rows.max()) + 1
        block = read_rows(self.image, frame, first, last)[:, :3]
        strip = indexable(block)
        if len(rows) != last - first or int(rows[0]) != first:
            strip = strip.index_select(2, rows - first)
        left, right = (
            strip.index_select(3, edge) for edge in (columns[:reach], columns[reach + self.width :])
        )
        parts = [part for part in (left, strip, right) if part.shape[3]]
        return (torch.cat(parts, 3) if len(parts) > 1 else strip).view(block.dtype)

    def in_range(self, strip: Tensor) -> Tensor:
        """Returns what was read, 3 channels in [-1, 1], on the network's device."""
        strip = to_unit(strip.to(self.device)).clamp(0, 1).mul_(2).sub_(1)
        return strip.expand(-1, 3, -1, -1)


WEIGHT_STEPS = 2**12
"""Weights are multiples of one part in so many: sums of such are exact, in any order."""


class Weights:
    """Weighs each pixel in the statistics, at the scales of the features.

    Args:
        network: whose statistics they are for.
        weights: B,1,H,W in [0, 1], any type of image.
    """

    def __init__(self, network: NetworkState, weights: Tensor):
        self.image = PaddedImage(network, weights)

    def read(self, frame: int, start: int, stop: int, scale: int) -> Tensor:
        """1,1,rows,w, float32: these rows at a scale of 1, 2 or 4 pixels to one."""
        return self.at(self.image.read(frame, start * scale, stop * scale), scale)

    def read_all(self, scale: int) -> Tensor:
        """Reads the weights of all frames, B,1,h,w."""
        return self.at(self.image.read_all(), scale)

    def at(self, rows: Tensor, scale: int) -> Tensor:
        """B,3,h,w in [-1, 1] to weights."""
        means = F.avg_pool2d((rows[:, :1] + 1) / 2, scale)
        return (means * WEIGHT_STEPS).round() / WEIGHT_STEPS


def select(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Returns these rows and columns of B,C,H,W of any type."""
    return indexable(image).index_select(2, rows).index_select(3, columns).view(image.dtype)


def padded_indices(size: int, stride: int, min_side: int, reach: int) -> Tensor:
    """Returns which line of an image of `size` lines stands where, once `pad_to_stride` and the
    stem's reflection have padded it."""
    line = torch.arange(size, dtype=torch.float32).expand(1, 1, 1, size)
    lines = pad_to_stride(line, stride, min_side)
    return F.pad(lines[:, :, 0], (reach, reach), mode="reflect")[0, 0].long()


def stem_input(image: Tensor, moments: Moments | None, dtype: torch.dtype) -> Tensor:
    """Makes what the stem reads of B,3,H,W in [-1, 1]: standardized with the moments, in the dtype
    (in two parts if it has 16 bits, see `Layer`), channels_last."""
    if moments is not None:
        image = (image - moments.mean) * torch.rsqrt(moments.var + STANDARDIZE_EPS)
    if dtype == torch.float32:
        return image.to(memory_format=torch.channels_last)
    if image.is_cpu:
        high, low = split_high_low(image, dtype)
        return torch.cat([high, low, high], 1).to(memory_format=torch.channels_last)
    frames, channels, *size = image.shape  # the same in fewer operations
    shape = frames, 3 * channels, *size
    made = torch.empty(shape, dtype=dtype, device=image.device, memory_format=torch.channels_last)
    parts = made.unflatten(1, (3, channels))
    parts[:, ::2].copy_(image[:, None])
    torch.sub(image, parts[:, 0], out=parts[:, 1])
    return made
