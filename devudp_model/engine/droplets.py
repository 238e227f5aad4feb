"""Droplets: small spots where the features of the perceptual model explode, healed in its output.

InstanceNorm divides a feature by its standard deviation over the whole image. A generator learns to
raise that by a spot of huge numbers, wherever the image can hold one, and so to scale all else
down (Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, section 2). The
head makes a white disk of some ten pixels of it. What it gives there, before the output activation,
is far beyond what any image needs: by that it is found. What belongs there is taken from the input,
by the linear relation of input and output around it, as in a guided filter.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bands.rows import AnyImage, FileImage, read_rows
from ..ops.arithmetic import add_product_, ramp, subtract_product_
from ..ops.dtypes import to_colour
from ..ops.windows import window_max, window_mean

LIMIT = (7.0, 10.0)
"""Before the output activation, no image needs more than the first: tanh(4) is white to 8 bits.
From there to the second, a spot counts more and more, so that rounding decides nothing."""

CORE = 1
"""A spot counts from 2 r + 1 pixels on: along edges, single pixels are beyond the limit."""

BORDER = 4
"""So near to the image's border a spot counts from 2x2 pixels on: its rest may lie outside."""

WHITE = 0.85
"""If all channels of the input are brighter (a lamp), white is right."""

SKIRT = 7
"""So many pixels around a droplet's core come out wrong as well."""

SOFT = 1
"""Radius of the window that softens the edge of what is healed."""

AROUND = 24
"""Radius of the windows in which input and output are compared."""

MAX_GAIN = 20.0
"""Largest slope of the output over the input."""

MIN_SOUND = 0.05
"""Share of sound pixels in the window around a pixel; with fewer it is not fully healed."""

REACH = SKIRT + 2 * SOFT + AROUND + 1
"""Healing looks at so many pixels around what is beyond the limit."""

CELL = 64
"""Droplets in the same or nearby cells of this many pixels are healed together."""

MAX_PIXELS = 2**20
"""A larger box of cells holds no droplets: it is left as it is."""

MAX_SHARE = 1 / 64
"""Share of an image's pixels; with more beyond the limit, it is no matter of droplets."""


def excess(head: Tensor) -> Tensor:
    """Measures how far B,3,H,W from before the activation is beyond the limit: B,1,H,W, 0 to 1."""
    if head.is_cpu:  # many times as fast
        most = head.abs().amax(1, keepdim=True)
    else:
        most = torch.linalg.vector_norm(head, torch.inf, dim=1, keepdim=True)
    return ramp(most, *LIMIT)


class Sides(NamedTuple):
    """Says which sides of a part of an image are the image's own."""

    top: bool = True
    bottom: bool = True
    left: bool = True
    right: bool = True


ALL_SIDES = Sides()


def heal(
    output: Tensor,
    image: Tensor,
    beyond: Tensor,
    sides: Sides = ALL_SIDES,
    out: Tensor | None = None,
) -> Tensor:
    """Returns the model's image without its droplets.

    Args:
        output, image: of the model and its input, B,3,H,W in [0, 1].
        beyond: B,1,H,W, from `excess`.
        sides: where the image ends.
        out: where to put the result, instead of a new tensor.

    Returns:
        B,3,H,W; `output` itself, to the last bit, away from droplets.
    """
    spots = beyond * (image.amin(1, keepdim=True) < WHITE)
    core = torch.maximum(1 - grow(1 - spots, CORE), cut_off(spots, sides))
    calm = window_mean(image, 1)
    found = compare(calm, output, grow(core, SKIRT + 2 * SOFT))
    known, mean_in, mean_out, variance, covariance = found
    share = window_mean(grow(core, SKIRT + SOFT), SOFT) * known
    gain = covariance.div_(variance.add_(1e-6)).clamp_(0, MAX_GAIN)
    healed = add_product_(mean_out, gain, calm - mean_in).clamp_(0, 1)
    return torch.lerp(output, healed, share, out=out)


def compare(image: Tensor, output: Tensor, wrong: Tensor) -> Sequence[Tensor]:
    """Compares B,3,H,W and B,3,H,W where B,1,H,W is 0, in windows.

    Returns:
        Whether there are enough such pixels, B,1,H,W, 0 to 1; of both images, B,3,H,W each, the
        means, the variance of the first, and their covariance.
    """
    sound = 1 - wrong
    if image.is_cpu:
        weight = window_mean(sound, AROUND)
        sure = weight.clamp(min=MIN_SOUND)
        products = image, output, image * image, image * output
        means = (window_mean(sound * x, AROUND) / sure for x in products)
        mean_in, mean_out, square, product = means
        variance = subtract_product_(square, mean_in, mean_in)
        covariance = subtract_product_(product, mean_in, mean_out)
        return (weight / MIN_SOUND).clamp_(max=1), mean_in, mean_out, variance, covariance
    maps = image.new_empty(len(image), 13, *image.shape[2:])
    torch.cat((sound, image, output), 1, out=maps[:, :7])
    rest = maps[:, 1:].unflatten(1, (2, 2, 3))
    torch.mul(rest[:, 0], image[:, None], out=rest[:, 1])
    rest.mul_(sound[:, None, None])
    maps = window_mean(maps, AROUND)
    weight = maps[:, :1]
    rest = maps[:, 1:].div_(weight.clamp(min=MIN_SOUND)).unflatten(1, (2, 2, 3))
    means = rest[:, 0]
    products = subtract_product_(rest[:, 1], means, means[:, :1])
    known = (weight / MIN_SOUND).clamp_(max=1)
    return known, *means.unbind(1), *products.unbind(1)


def cut_off(spots: Tensor, sides: Sides) -> Tensor:
    """Returns the spots, B,1,H,W, of 2x2 pixels and more near the image's border."""
    height, width = spots.shape[2:]
    if min(height, width) < 2:
        return torch.zeros_like(spots)
    top, left = min(sides.top * BORDER, height), min(sides.left * BORDER, width)
    bottom = min(sides.bottom * BORDER, height - top)
    right = min(sides.right * BORDER, width - left)
    squares = -F.max_pool2d(-spots, 2, stride=1)
    found = F.max_pool2d(squares, 2, stride=1, padding=1)
    found[:, :, top : height - bottom, left : width - right].zero_()
    return found


def grow(x: Tensor, radius: int) -> Tensor:
    """Returns the maximum over windows of 2 `radius` + 1 pixels."""
    if x.device.type == "cpu":
        return window_max(x, radius)  # up to 50 times as fast
    return F.max_pool2d(x, 2 * radius + 1, stride=1, padding=radius)  # one operation


class Droplets:
    """Finds droplets strip by strip; heals them when all strips are done.

    Args:
        pixels: of all frames.
    """

    def __init__(self, pixels: int) -> None:
        self.max_count = max(int(MAX_SHARE * pixels), CELL * CELL)
        self.count, self.lock = 0, threading.Lock()
        # For each frame row, column and value of every pixel beyond the limit, 4 bytes each: in one
        # block, as small tensors between the strips' large ones would fragment the heap.
        self.found: dict[int, bytearray] = {}

    def look(self, frame: int, start: int, rows: Tensor) -> None:
        """Rows of the output from `start` on, 1,3,rows,W, float32, before the activation.

        Any thread may call it.
        """
        beyond = excess(rows)[0, 0]
        points = beyond.nonzero()
        values = beyond[points[:, 0], points[:, 1]]
        points[:, 0] += start
        found = torch.cat([points.int(), values.view(torch.int32)[:, None]], 1).cpu()
        with self.lock:
            self.count += len(found)
            if self.count > self.max_count:
                self.found.clear()
            elif len(found):
                self.found.setdefault(frame, bytearray()).extend(found.numpy().tobytes())

    def points(self, frame: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Returns what was found in a frame: rows and columns (n,2), and excess (n)."""
        points = torch.frombuffer(self.found[frame], dtype=torch.int32).view(-1, 3).to(device)
        return points[:, :2].long(), points[:, 2].contiguous().view(torch.float32)

    def heal(self, output: AnyImage, image: AnyImage) -> None:
        """Heals the model's B,3,H,W in [0, 1], float32, in place; `image` is the input."""
        if self.count > self.max_count:
            return
        for frame in sorted(self.found):
            points, values = self.points(frame, output.device)
            for box in boxes(points, *output.shape[2:]):
                inside = within(points, box)
                spots = points[inside]
                top, bottom, left, right = surroundings(spots, box)
                rows = read_rows(output, frame, top, bottom)
                part = rows[..., left:right]
                given = to_colour(
                    read_rows(image, frame, top, bottom)[..., left:right], part.device
                )
                beyond = torch.zeros_like(part[:, :1])
                y, x = (spots - spots.new_tensor([top, left])).unbind(1)
                beyond[0, 0, y, x] = values[inside]
                height, width = output.shape[2:]
                sides = Sides(top == 0, bottom == height, left == 0, right == width)
                part.copy_(heal(part, given, beyond, sides))
                if isinstance(output, FileImage):  # else the rows are its own
                    output.write(frame, top, rows)


class Box(NamedTuple):
    """Rows and columns of an image; `bottom` and `right` are the first ones beyond."""

    top: int
    bottom: int
    left: int
    right: int


def within(points: Tensor, box: Box) -> Tensor:
    """Tells which points (n, row and column) are in a box: n, bool."""
    first, last = points.new_tensor(box).view(2, 2).T
    return ((points >= first) & (points < last)).all(1)


def surroundings(points: Tensor, box: Box) -> Box:
    """Returns what healing these points (row and column) looks at, of a `box` around them."""
    (top, left), (bottom, right) = points.amin(0).tolist(), points.amax(0).tolist()
    return Box(
        max(top - REACH, box.top),
        min(bottom + 1 + REACH, box.bottom),
        max(left - REACH, box.left),
        min(right + 1 + REACH, box.right),
    )


def boxes(points: Tensor, height: int, width: int) -> Iterator[Box]:
    """Gives boxes around all points (row, column), each with an empty cell on every side, so that
    no box looks at what another one changes."""
    cells = torch.unique(points // CELL, dim=0).tolist()
    for top, bottom in runs({row for row, _ in cells}):
        columns = {column for row, column in cells if top <= row <= bottom}
        for left, right in runs(columns):
            box = Box(
                max(top - 1, 0) * CELL,
                min((bottom + 2) * CELL, height),
                max(left - 1, 0) * CELL,
                min((right + 2) * CELL, width),
            )
            if (box.bottom - box.top) * (box.right - box.left) <= MAX_PIXELS:
                yield box


def runs(numbers: set[int]) -> Iterator[tuple[int, int]]:
    """First and last of numbers that are at most two apart."""
    ordered = sorted(numbers)
    first = ordered[0]
    for number, following in zip(ordered, [*ordered[1:], None], strict=True):
        if following is None or following > number + 2:
            yield first, number
            first = following or 0
