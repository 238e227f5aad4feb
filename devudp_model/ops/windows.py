"""Means and maxima over windows of images, B,C,H,W: the same wherever bands begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

AWAY, AWAY_STEP = 4, 8
"""`wide_mean` is the mean of 2 n + 1 windows of 2 n + 1 pixels that many pixels apart, in both
directions: 36 pixels away and less."""

SMALL = 3
"""A GPU looks at windows of this radius and less in one pass, at larger ones in two: rows, columns.
That is more to read, from its cache, and one operation less, which is as much to write."""


def window_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over windows of 2 `radius` + 1 pixels, at the borders over what there is of them."""
    if x.device.type == "cpu":
        return mean_along(mean_along(x, radius, 2), radius, 3)
    for window, padding in passes(radius):
        x = F.avg_pool2d(x, window, stride=1, padding=padding, count_include_pad=False)
    return x


def passes(radius: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Returns windows, and their padding, that one after the other make a square one."""
    side = 2 * radius + 1
    if radius <= SMALL:
        return [((side, side), (radius, radius))]
    return [((side, 1), (radius, 0)), ((1, side), (0, radius))]


def at_once(
    function: Callable[[Tensor], Tensor], images: Sequence[Tensor], dim: int = 1
) -> Sequence[Tensor]:
    """`function` of each of several images B,C,H,W; on a GPU of all at once, in few operations.

    Args:
        dim: along which they are joined for this; 0 if `function` mixes channels.
    """
    if images[0].device.type == "cpu":
        return [function(image) for image in images]
    joined = function(torch.cat(tuple(images), dim))
    return joined.split([image.shape[dim] for image in images], dim)


def wide_mean(x: Tensor) -> Tensor:
    """Mean over the surroundings, see `AWAY`, at the borders over what there is of them."""
    near = window_mean(x, AWAY)
    return mean_along(mean_along(near, AWAY, 2, AWAY_STEP), AWAY, 3, AWAY_STEP)


def weighted_means(
    weight: Tensor, *images: Tensor, others: Sequence[Tensor] = ()
) -> Sequence[Tensor]:
    """`wide_mean` of images, B,C,H,W, where each pixel has a weight, B,1,H,W, above 0; and then of
    `others`, all of whose pixels count alike."""
    if weight.is_cpu:
        total = wide_mean(weight)
        weighted = [wide_mean(weight * image).div_(total) for image in images]
        return [*weighted, *map(wide_mean, others)]
    channels = [image.shape[1] for image in (*images, *others)]
    of_images = slice(1, 1 + sum(channels[: len(images)]))
    joined = torch.cat((weight, *images, *others), 1)
    joined[:, of_images].mul_(weight)
    joined = wide_mean(joined)
    joined[:, of_images].div_(joined[:, :1])
    return joined[:, 1:].split(channels, 1)


def mean_along(x: Tensor, radius: int, dim: int, step: int = 1) -> Tensor:
    """`window_mean` in one direction, to the last bit what avg_pool2d gives and five times as fast:
    the same sums in the same order, of whole rows at a time. Of every `step`-th pixel."""
    size, reach = x.shape[dim], radius * step
    if x.device.type != "cpu" and size % step == 0:  # in few operations: lines of `step` lines each
        lines = x.reshape(len(x), -1, size // step, step * (x.shape[3] if dim == 2 else 1))
        window, padding = (2 * radius + 1, 1), (radius, 0)
        return F.avg_pool2d(lines, window, 1, padding, count_include_pad=False).view(x.shape)
    if x.device.type != "cpu":
        around = (0, 0, reach, reach) if dim == 2 else (reach, reach)
        total = F.pad(x, around).unfold(dim, 2 * reach + 1, 1)[..., ::step].sum(-1)
    else:
        total = torch.zeros_like(x)
        for shift in range(-reach, reach + 1, step):
            length = size - abs(shift)
            if length > 0:
                part = x.narrow(dim, max(shift, 0), length)
                total.narrow(dim, max(-shift, 0), length).add_(part)
    shape = [1] * x.ndim
    shape[dim] = size
    counts = window_counts(size, radius, step, x.dtype).view(shape)
    return total.div_(counts.to(x.device))


@lru_cache(maxsize=16)
def window_counts(size: int, radius: int, step: int, dtype: torch.dtype) -> Tensor:
    """Counts what there is of the window around each of `size` pixels in a row; on the CPU, as
    nothing is to stay on a GPU."""
    with torch.inference_mode(False):
        position = torch.arange(size, device="cpu")
        before, after = (
            p.div(step, rounding_mode="floor") for p in (position, size - 1 - position)
        )
        return (before.clamp(max=radius) + after.clamp(max=radius) + 1).to(dtype)


def window_max(x: Tensor, radius: int) -> Tensor:
    """Maximum over windows of 2 `radius` + 1 pixels, at the borders over what there is of them."""
    side = 2 * radius + 1
    if x.device.type != "cpu":  # in few operations
        for window, padding in passes(radius):
            x = F.max_pool2d(x, window, stride=1, padding=padding)
        return x
    for _ in range(2):  # along the rows, then along the columns; on CPUs far faster than max_pool2d
        rows = F.max_pool1d(x.flatten(0, 2), side, stride=1, padding=radius)
        x = rows.view(x.shape).transpose(2, 3)
    return x


def closing(x: Tensor, radius: int) -> Tensor:
    """`x` without what is dark and smaller than the window (a grey closing with a square)."""
    return -window_max(-window_max(x, radius), radius)
