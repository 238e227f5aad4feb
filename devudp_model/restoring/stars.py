"""Finds starry skies: they are as dark as they should be, whatever their mean says.

By its mean a starry sky is an underexposed photograph, and its brightest places are too small to
be lamps. But its stars are points that stand far out of even surroundings, each by itself, all
over the sky. In an underexposed photograph what glitters lies among other things, and noise does
not stand out of noise. Lit windows and strings of lights stand in rows. Below a sky there often is
a landscape with lights, so the upper half is looked at by itself, too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.windows import mean_along, window_max, window_mean
from .shadows import between

SMALL = 3
"""A point is smaller than 2 r + 1 pixels."""

TALL, RISE = 4 / 255, 0.35
"""Its 3x3 pixels are so much brighter than what is around it, twice the noise, and this share of
what is around it."""

ALONE, FILLED, LINE, LONG = 4, 0.38, 6, 0.5
"""In a window of 2 r + 1 pixels around it, the mean of what is brighter than its surroundings is at
most this share of it, and in rows and columns of 2 r + 1 pixels (`LINE`) the last: it is in no
cluster, and no part of a line."""

NEAR, EVEN, ROUGH, GRAIN = 12, 1 / 255, 0.06, 0.35
"""Its surroundings are even: in a window of 2 r + 1 pixels their standard deviation is at most the
second, with this share of their level and this share of the noise."""

CELLS = 12
"""The shorter side has so many cells, which are looked at for points."""

BRIGHT = 20
"""So many points are looked at for how bright they are."""

BY_THEMSELVES, OUT_OF_NOISE, CONTRAST, SPREAD, SKY = (
    (0.57, 0.65),
    (8.0, 12.0),
    (0.8, 1.2),
    (0.2, 0.35),
    (0.4, 0.55),
)
"""Not stars, and surely stars: the share of all points that lie by themselves in even surroundings;
of the least of the `BRIGHT` ones, by how often the noise and its surroundings it stands out; the
share of cells with such points; and the share of even surroundings."""

UPPER_SPREAD = (0.27, 0.37)
"""The same share of cells of the upper half, where it is looked at by itself: lights hang in rooms,
too."""

ROW, USUAL, MANY, IN_ROWS = 24, 0.107, 50, (0.235, 0.205)
"""Of the other points in a window of 2 r + 1 pixels around one, the second is the share that lies
in its row or its column, or a pixel beside them, where they lie at random. With so many of these
beside what there are, a share of the last two is no stars, and surely stars. (Skies in photographs:
up to 0.19; drawn buildings with lit windows: from 0.235 on.)"""


def stars_of(grey: Tensor, noise: float) -> float:
    """Returns how surely 1,1,H,W in [0, 1], or its upper half, is a starry sky, 0 to 1.

    Args:
        noise: its standard deviation.
    """
    whole = stars_in(grey, noise, SPREAD)
    if whole == 1:
        return whole
    return max(whole, stars_in(grey[:, :, : grey.shape[2] // 2], noise, UPPER_SPREAD))


def stars_in(grey: Tensor, noise: float, spread_limits: tuple[float, float]) -> float:
    """Returns how surely all of 1,1,H,W is a starry sky, with these limits as `SPREAD`."""
    if min(grey.shape[-2:]) < 2 * NEAR + 1:
        return 0.0
    smooth = window_mean(grey, 1)  # of a hot pixel little is left
    around = window_max(-window_max(-smooth, SMALL), SMALL)  # without all that is small
    rise = smooth - around
    points = (smooth >= window_max(smooth, SMALL)) & (rise > max(TALL, 2 * noise))
    points &= rise > RISE * around
    mean = window_mean(around, NEAR)
    rough = (window_mean(around * around, NEAR) - mean * mean).clamp(min=0).sqrt()
    even = rough < EVEN + ROUGH * mean + GRAIN * noise
    stars = points & even & ends(rise)
    tall = rise[stars]
    if len(tall) < BRIGHT:
        return 0.0
    cell = max(min(grey.shape[-2:]) // CELLS, SMALL)
    spread = F.max_pool2d(stars.float(), cell, ceil_mode=True).mean()
    contrast = (tall / (around[stars] + 2 / 255)).topk(BRIGHT).values[-1]
    signs = (
        (stars.sum() / points.sum(), BY_THEMSELVES),
        (tall.topk(BRIGHT).values[-1] / max(noise, 0.5 / 255), OUT_OF_NOISE),
        (contrast, CONTRAST),
        (spread, spread_limits),
        (even.float().mean(), SKY),
    )
    found = min(between(float(value), *limits, 0.0, 1.0) for value, limits in signs)
    return min(found, between(in_rows(stars), *IN_ROWS, 0.0, 1.0)) if found else found


def in_rows(points: Tensor) -> float:
    """Returns which share of their neighbours points (1,1,H,W) have in rows and columns: `ROW`."""
    side = 2 * ROW + 1
    around = F.pad(points.float(), [ROW] * 4)
    rows, columns = mean_along(around, ROW, 3), mean_along(around, ROW, 2)
    box = mean_along(rows, ROW, 2) * side**2
    lines = (mean_along(rows, 1, 2) + mean_along(columns, 1, 3)) * 3 * side
    at = around > 0
    aligned, others = (lines[at] - 2).sum(), (box[at] - 1).sum()  # not itself
    return float((aligned + USUAL * MANY) / (others + MANY))


def ends(rise: Tensor) -> Tensor:
    """Tells which pixels of 1,1,H,W are by themselves: see `ALONE`."""
    line = torch.maximum(mean_along(rise, LINE, 2), mean_along(rise, LINE, 3))
    return (window_mean(rise, ALONE) < FILLED * rise) & (line < LONG * rise)
