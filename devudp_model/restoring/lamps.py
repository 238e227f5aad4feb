"""Finds lamps that are drawn as paths: at night, shake shows in their shapes.

A lamp is so much brighter than all else that a moving camera draws its path with sharp sides. By
their edges such images are sharp, and what is between the lamps is black. But every lamp draws the
same path. So the shapes of small bright places are compared: are some more like each other than
they are like a plain ellipse? Sharp lamps, stars and lit windows are like ellipses; what glitters
is not alike, and letters stand in lines.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 24
"""A lamp is the brightest of all so many pixels around it, and its shape is no larger than twice
that."""

COARSE = 4
"""Of so many pixels at once is it found what is around them."""

EDGE, CONTRAST, LEAST = 0.15, 3.0, 0.2
"""Its pixels have this share of its linear light. It has so many times the mean of what is around
it, and at least so much of white."""

SMALLEST = 4
"""Pixels of the longer side of its shape."""

LAMPS = 48
"""So many are compared, evenly spaced over those that are found."""

MOST = 1024
"""No more are looked at for lines."""

SIDE = 64
"""Pixels of the squares in which shapes are drawn."""

SHIFTS = 3
"""They are compared up to so many pixels from where their middles meet."""

ALIKE = (0.01, 0.05)
"""By so much more two shapes are like each other than like ellipses, as a correlation, not at all
and surely."""

COPIED = 0.996
"""Shapes that are even more like each other were not drawn by a hand: the image repeats itself."""

LINE, IN_LINES = 100, (0.3, 0.6)
"""Letters of light stand in lines: their lower ends are level with others' within so many pixels.
From these shares of them on, some and all of it is writing."""

FEW, BY_CHANCE = 10, 1
"""Of fewer lamps than the first, a larger share has to be alike. So many may be, by chance."""


def paths_of(light: Tensor) -> float:
    """Returns the share of lamps that are drawn as one and the same path, 0 to 1.

    Args:
        light: linear values of the brightest channel, 1,1,H,W, 0 where nothing is to be seen.
    """
    lamps = lamps_of(light)
    shapes = lamps.shapes
    if len(shapes) < 3:
        return 0.0
    plain = ellipses_like(shapes)
    own = likeness(shapes, plain).diagonal()
    like = likeness(shapes, shapes)
    low, high = ALIKE
    more = like - torch.maximum(own[:, None], own)
    alike = ((more - low) / (high - low)).clamp(0, 1) * (like < COPIED)  # none is like itself
    found = float(alike.sum(1).max()) - BY_CHANCE
    low, high = IN_LINES
    drawn = min(max((high - written(lamps)) / (high - low), 0.0), 1.0)
    return drawn * max(found, 0.0) / max(len(shapes) - 1 - BY_CHANCE, FEW)


def written(lamps: Lamps) -> float:
    """Returns the share of lamps that stand in a line with others."""
    some = slice(0, len(lamps.last), -(-len(lamps.last) // MOST))
    low, right = lamps.last[some].unbind(1)
    level = (low[:, None] - low).abs() <= 1
    level &= (right[:, None] - right).abs() <= LINE
    return float((level.sum(1) > 1).float().mean())


class Lamps(NamedTuple):
    """Holds the lamps of an image.

    Attributes:
        first, last: their uppermost and leftmost, and lowest and rightmost pixels, n,2: y, x.
        shapes: the light of some of them, of that of their brightest pixel: m,`SIDE`,`SIDE`, with
            their middles in the squares' middles.
    """

    first: Tensor
    last: Tensor
    shapes: Tensor


def lamps_of(light: Tensor) -> Lamps:
    """Finds small bright places of 1,1,H,W."""
    light = F.avg_pool2d(F.pad(light, (1, 1, 1, 1), mode="replicate"), 3, 1)
    most, mean = around(light)
    found = ((light > EDGE * most) & (most > CONTRAST * mean) & (most > LEAST))[0, 0]
    place, part = found.nonzero(), connected(found)
    count = int(part.max()) + 1 if len(part) else 0
    value, other = (x[0, 0][found] for x in (light, most))
    both = part[:, None].expand(-1, 2)
    first = place.new_full((count, 2), max(light.shape)).scatter_reduce(0, both, place, "amin")
    last = place.new_zeros(count, 2).scatter_reduce(0, both, place, "amax")
    peak, brightest = (
        value.new_zeros(count).scatter_reduce(0, part, x, "amax") for x in (value, other)
    )
    size = (last - first).amax(1) + 1
    border = torch.tensor(light.shape[2:], device=place.device) - 1
    fits = (size >= SMALLEST) & (size <= 2 * REACH) & (peak >= brightest)
    fits &= ((first > 0) & (last < border)).all(1)
    chosen = fits.nonzero().flatten()
    first, last, middle = first[chosen], last[chosen], (first + last) // 2
    if len(chosen) > LAMPS:
        chosen = chosen[torch.arange(LAMPS, device=chosen.device) * len(chosen) // LAMPS]
    number = chosen.new_full((count,), -1)
    number[chosen] = torch.arange(len(chosen), device=chosen.device)
    lamp = number[part]
    place, part, value, lamp = (x[lamp >= 0] for x in (place, part, value, lamp))
    y, x = (place - middle[part] + SIDE // 2).unbind(1)
    shapes = value.new_zeros(len(chosen), SIDE, SIDE)
    shapes[lamp, y, x] = value / peak[part]
    return Lamps(first, last, shapes)


def around(light: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the largest value and the mean within some `REACH` pixels of each of 1,1,H,W."""
    coarse = [f(light, COARSE, ceil_mode=True) for f in (F.max_pool2d, F.avg_pool2d)]
    reach = REACH // COARSE
    most = F.max_pool2d(coarse[0], 2 * reach + 1, 1, reach)
    mean = F.avg_pool2d(coarse[1], 2 * reach + 1, 1, reach, count_include_pad=False)
    height, width = light.shape[2:]
    most, mean = (F.interpolate(x, scale_factor=COARSE, mode="nearest") for x in (most, mean))
    return most[..., :height, :width], mean[..., :height, :width]


def connected(found: Tensor) -> Tensor:
    """Returns the part, from 0 on, that each true pixel of H,W belongs to; corners connect, too."""
    number = found.new_full(found.shape, -1, dtype=torch.long)
    count = int(found.sum())
    number[found] = torch.arange(count, device=found.device)
    number = F.pad(number, (1, 1, 0, 1), value=-1)
    here = number[:-1, 1:-1]
    pairs = []
    for there in (number[:-1, 2:], number[1:, :-2], number[1:, 1:-1], number[1:, 2:]):
        both = (here >= 0) & (there >= 0)
        pairs.append(torch.stack([here[both], there[both]]))
    first, second = torch.cat(pairs, 1)
    label = torch.arange(count, device=found.device)
    while True:  # each part's smallest number spreads, ever faster
        least = torch.minimum(label[first], label[second])
        new = label.clone()
        for target in (first, second, label[first], label[second]):
            new.scatter_reduce_(0, target, least, "amin")
        new = new[new]
        if torch.equal(new, label):
            return label.unique(return_inverse=True)[1]
        label = new


def ellipses_like(shapes: Tensor) -> Tensor:
    """Ellipses with the middles, the sizes and the directions of n,`SIDE`,`SIDE`."""
    line = torch.arange(SIDE, dtype=shapes.dtype, device=shapes.device)
    weight = shapes / shapes.sum((1, 2), keepdim=True)
    down = line[:, None] - (weight.sum(2) * line).sum(1)[:, None, None]
    right = line - (weight.sum(1) * line).sum(1)[:, None, None]
    yy, xx, yx = (
        (weight * product).sum((1, 2))[:, None, None]
        for product in (down * down, right * right, down * right)
    )
    yy, xx = yy + 1 / 12, xx + 1 / 12  # of a pixel itself
    inside = 4 - (xx * down**2 - 2 * yx * down * right + yy * right**2) / (xx * yy - yx**2)
    return (inside / 1.5 + 0.5).clamp(0, 1)  # a uniform ellipse's radius is twice its deviation


def likeness(first: Tensor, second: Tensor) -> Tensor:
    """Correlations of n,`SIDE`,`SIDE` and m,`SIDE`,`SIDE`, each at its best shift: n,m."""
    first, second = (F.avg_pool2d(x[:, None], 3, 1, 1)[:, 0].double() for x in (first, second))
    padded = F.pad(second, [SHIFTS] * 4)
    flat = first.flatten(1)
    best = flat.new_zeros(len(first), len(second))
    for y in range(2 * SHIFTS + 1):
        for x in range(2 * SHIFTS + 1):
            moved = padded[:, y : y + SIDE, x : x + SIDE].flatten(1)
            best = torch.maximum(best, flat @ moved.T)
    size = [x.flatten(1).norm(dim=1).clamp(min=1e-9) for x in (first, second)]
    return best / (size[0][:, None] * size[1])
