"""Mean and variance of images and features, accumulated strip by strip.

A normalisation needs two numbers for each channel. Accumulated over strips they are those of the
whole image, so strips come out as they would in one piece.

On the CPU they do not depend on the strips or the number of threads, to the last bit: one thread
adds up a group of rows in float32, groups always start at the same rows, and they are joined in
float64 in the order of the image.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..bands.workers import Stopped, in_parallel
from .kernels import kernels_for

BATCH_NORM_STATS = frozenset(["cuda"])
"""Types of devices that have `torch.batch_norm_stats`."""

TINY = 1e-9
"""Least sum of weights: there is something to divide by where nothing is visible."""

GROUP_NUMBERS = 2**17
"""Least size of a group of rows: in float32 it still fits into a core's cache."""


class Moments(NamedTuple):
    """Mean and variance (not the sample's: divided by n), float32, and of how many numbers (or, of
    weighted ones, the sum of the weights)."""

    size: float
    mean: Tensor
    var: Tensor


class Range(NamedTuple):
    """Bounds of each channel of a feature: vectors of C, float32."""

    low: Tensor
    high: Tensor


class Frozen(nn.Module):
    """One layer's moments, or its input's range, in a network whose statistics are frozen; moves
    with it."""

    first: Tensor | None
    second: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("first", None)
        self.register_buffer("second", None)

    def freeze(self, found: Moments | Range) -> None:
        """From now on, this is what counts, but for the size of moments."""
        *_, self.first, self.second = found

    @property
    def moments(self) -> Moments | None:
        """Returns them; None until they are frozen."""
        known = self.range
        return None if known is None else Moments(0, *known)

    @property
    def range(self) -> Range | None:
        """Returns it; None until it is frozen."""
        if self.first is None or self.second is None:
            return None
        return Range(self.first, self.second)


def group_rows(numbers: int) -> int:
    """Rows in a group, an even number, for rows of `numbers` numbers."""
    return 2 * -(-GROUP_NUMBERS // (2 * numbers))


def to_float64(x: Tensor) -> Tensor:
    """Returns `x` in float64, on the CPU if its device has none."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def small(x: Tensor) -> Any:
    """Returns a few numbers that are to live for a while: on a CPU as Python's lists.

    Small tensors made between large ones, which live shorter, would leave holes in the process's
    memory that the next large one does not fit into.
    """
    return x.tolist() if x.is_cpu else x


def in_order(x: Tensor) -> Tensor:
    """Returns the sum over the first dimension, one after the other."""
    return x.cumsum(0)[-1]


def join(parts: list[Moments]) -> Moments:
    """The moments of all parts together (Chan, Golub, LeVeque 1979, eq. 2.1, for many parts).

    Every part's mean and variance have the same shape.
    """
    if len(parts) == 1:
        return parts[0]
    stacked = (torch.stack(each) for each in ([p.mean for p in parts], [p.var for p in parts]))
    return join_stacked([part.size for part in parts], *stacked)


def join_stacked(parts: Sequence[float], means: Tensor, variances: Tensor) -> Moments:
    """`join` of parts of these sizes."""
    exact_means, total = to_float64(means), max(sum(parts), TINY)
    sizes = torch.tensor(parts, dtype=exact_means.dtype, device=exact_means.device)
    sizes = sizes.view(-1, *[1] * (means.ndim - 1))
    mean = in_order(sizes * exact_means) / total
    var = in_order(sizes * (to_float64(variances) + (exact_means - mean).square())) / total
    return Moments(total, mean.to(means), var.to(variances))


def channel_moments(x: Tensor) -> Moments:
    """For each channel of B,C,H,W (float32), over the rest: 1,C,1,1."""
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0, keepdim=True)
    return Moments(x.numel() // x.shape[1], mean, var)


def weighted_moments(x: Tensor, weights: Tensor) -> Moments:
    """`channel_moments` of B,C,H,W with a weight for each pixel (B,1,H,W)."""
    exact, weights = to_float64(x), to_float64(weights)
    size = float(weights.sum())
    mean = (exact * weights).sum((0, 2, 3), keepdim=True) / max(size, TINY)
    var = ((exact - mean).square() * weights).sum((0, 2, 3), keepdim=True) / max(size, TINY)
    return Moments(size, mean.to(x), var.to(x))


def moments_of(
    read: Callable[[int], Tensor],
    count: int,
    weigh: Callable[[int], Tensor] | None = None,
) -> Moments:
    """`join` of the `channel_moments` of `count` bands, which `read` gets by their numbers.

    They are written into one block; see `small` for why.

    Args:
        weigh: gets the bands' weights, B,1,h,W; None: all pixels count alike.
    """

    def moments_at(index: int) -> Moments:
        x = read(index)
        return channel_moments(x) if weigh is None else weighted_moments(x, weigh(index))

    first = moments_at(0)
    if count == 1:
        return first
    found = first.mean.new_empty(2, count, *first.mean.shape)
    sizes = [first.size] * count
    found[0, 0], found[1, 0] = first.mean, first.var

    def work(index: int) -> float:
        moments = moments_at(index + 1)
        found[0, index + 1], found[1, index + 1] = moments.mean, moments.var
        sizes[index + 1] = moments.size
        return 0.0

    in_parallel(work, count - 1)
    return join_stacked(sizes, *found)


class ImageStatistics:
    """One mean and variance over everything: scalars. Strips, 1,C,h,W, come in any order."""

    def __init__(self) -> None:
        self.sums: dict[int, Any] = {}
        self.sizes: dict[int, float] = {}

    def add(self, index: int, strip: Tensor, weights: Tensor | None = None) -> None:
        """`index`: the strip's number from the top; `weights`: 1,1,h,W (see `Weights`)."""
        exact = to_float64(strip)  # a dark image is close to -1: float32 would leave it few digits
        if weights is None:
            parts = [exact.sum(3), exact.square_().sum(3)]
            self.sizes[index] = strip.numel()
        else:
            share = to_float64(weights)
            parts = [(exact * share).sum(3), (exact.square_() * share).sum(3)]
            self.sizes[index] = strip.shape[1] * float(share.sum())
        sums = torch.stack(parts)  # 2,1,C,h
        self.sums[index] = small(sums.sum(2)[:, 0])

    def moments(self, device: torch.device) -> Moments:
        size = max(sum(self.sizes.values()), TINY)
        sums = [torch.as_tensor(found, dtype=torch.float64) for found in sorted_values(self.sums)]
        mean, square = in_order(torch.cat(sums, 1).T) / size
        return Moments(
            size, mean.float().to(device), (square - mean**2).clamp(min=0).float().to(device)
        )


class FeatureStatistics:
    """Mean and variance of each channel: vectors of C. Strips, 1,C,h,W, come in any order.

    Args:
        rows: of a group. Strips begin at multiples of it; a frame's last one may end anywhere.
    """

    def __init__(self, rows: int):
        self.rows = rows
        self.parts: dict[int, Moments] = {}
        self.sums: dict[int, bytes] = {}
        self.squares: dict[int, bytes] = {}
        self.sizes: dict[int, float] = {}
        self.origin: Tensor | None = None
        self.begun = threading.Event()
        self.own = threading.local()

    def add(self, index: int, strip: Tensor, weights: Tensor | None = None) -> None:
        """A strip, channels_last, of any floating type; `index`: its number from the top;
        `weights`: 1,1,h,W (see `Weights`).

        Waits until strip 0 is there: another thread may be adding it.
        """
        if strip.device.type != "cpu":
            self.parts[index] = strip_moments(strip, weights)
            return
        pixels = strip.permute(0, 2, 3, 1)[0]  # h,W,C
        self.sizes[index] = len(pixels) * strip.shape[3]
        if index == 0:
            # A mean far from 0 would cost digits. (16 bits have fewer of them to begin with.)
            self.origin = pixels[0, 0].float() * (strip.dtype == torch.float32)
            self.begun.set()
        self.begun.wait()
        if self.origin is None:
            raise Stopped
        if not hasattr(self.own, "buffer"):
            self.own.buffer = torch.empty(self.rows, *pixels.shape[1:])
        origin = self.origin if strip.dtype == torch.float32 else None
        group_sums, buffer = kernels_for(strip.device).group_sums, self.own.buffer
        if weights is None:
            sums, squares = group_sums(pixels, origin, self.rows, buffer)
        else:
            share = weights.permute(0, 2, 3, 1)[0]  # h,W,1
            self.sizes[index] = float(share.double().sum())
            pixels = pixels.float() if origin is None else pixels - origin
            sums, _ = group_sums(pixels * share, None, self.rows, buffer)
            _, squares = group_sums(pixels * share.sqrt(), None, self.rows, buffer)
        # Not as tensors (see `small`), nor as lists, which are slow to make and to read.
        self.sums[index], self.squares[index] = sums.numpy().tobytes(), squares.numpy().tobytes()

    def stop(self) -> None:
        """Lets nobody wait for a strip 0 that will not come."""
        self.begun.set()

    def moments(self) -> Moments:
        if self.parts:
            return join(sorted_values(self.parts))
        size = max(sum(self.sizes.values()), TINY)
        assert self.origin is not None
        sums, squares = (
            torch.frombuffer(bytearray(b"".join(sorted_values(found))), dtype=torch.float32)
            .view(-1, len(self.origin))
            .double()
            for found in (self.sums, self.squares)
        )
        mean, square = in_order(sums) / size, in_order(squares) / size
        var = (square - mean.square()).clamp(min=0)
        return Moments(size, (mean + self.origin).float(), var.float())


def sorted_values(found: dict[int, Any]) -> list[Any]:
    """In the order of their keys."""
    return [found[key] for key in sorted(found)]


def strip_moments(x: Tensor, weights: Tensor | None = None) -> Moments:
    """For each channel of B,C,H,W of any floating type, in float32, where there is a GPU.

    The kernel behind BatchNorm reads 16-bit features at full speed and adds them up in float32;
    `torch.var_mean` would need a float32 copy of them.
    """
    if weights is not None:
        size, mean, var = weighted_moments(x.float(), weights)
        return Moments(size, mean.flatten(), var.flatten())
    count = x.numel() // x.shape[1]
    if x.device.type in BATCH_NORM_STATS:
        eps = 1e-6
        mean, rstd = torch.batch_norm_stats(x, eps)
        var = (rstd.square().reciprocal() - eps).clamp(min=0)
    else:
        var, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
    return Moments(count, mean, var)
