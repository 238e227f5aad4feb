"""Finds what counts of an image: neither pixels nobody sees nor the frame around it.

Statistics of whole images are to be those of the photograph. Two things in a file are no part of
it, and would decide how bright all the rest becomes:

- hidden pixels, those with an alpha of 0, which may have any colour;
- a frame or margin: black bars, a white border. It is uniform to a few levels along a whole edge,
  free of noise, and ends in a straight, abrupt edge. A night sky at the border of a photograph has
  no such edge, so it is no frame.

All functions are pure and give the same numbers whatever the number of threads.
"""

from __future__ import annotations

from operator import add
from typing import NamedTuple

import torch
from torch import Tensor

from ..bands.rows import bands_of, read_rows
from ..engine.hooks import Finished
from ..ops.dtypes import from_unit, indexable, to_unit, without_alpha

UNIFORM = 2.5 / 255
"""A frame's pixels are that close to its colour, in each channel."""

EDGE = 5 / 255
"""Behind a frame's edge, a pixel is that far from its colour, in some channel, ..."""

EDGE_SHARE = 0.5
"""... in this share of the pixels of the `EDGE_LINES` lines behind it."""

EDGE_LINES, ABRUPT = 3, 0.35
"""Before the edge, as many lines are on average at most this share as far from the colour."""

RINGING_LINES, RINGING = 12, 0.2
"""A compressed frame ends in up to so many lines that are not quite uniform: their distance from
its colour is below this share of that of the photograph behind them, ..."""

RINGING_MOST, RINGING_SHARE = 20 / 255, 0.05
"""... and at most this share of their pixels is farther from it."""

MIN_CONTENT = 32
"""Pixels of a side, and ..."""

MIN_SHARE = 0.2
"""... share of the image's side that are left within a frame; else it is none."""

NESTED = 4
"""So many frames may lie one within the other."""


class Region(NamedTuple):
    """A rectangle of an image; `bottom` and `right` are the first row and column beyond."""

    top: int
    bottom: int
    left: int
    right: int

    def of(self, x: Tensor) -> Tensor:
        """This part of ...,H,W, as a view."""
        if self.is_whole(x):
            return x
        return x[..., self.top : self.bottom, self.left : self.right]

    def is_whole(self, x: Tensor) -> bool:
        """True if nothing of ...,H,W lies outside."""
        return self == (0, x.shape[-2], 0, x.shape[-1])

    def within(self, outer: Region) -> Region:
        """Returns where in an image this region of its region `outer` is."""
        return Region._make(map(add, self, (outer.top, outer.top, outer.left, outer.left)))


class Content(NamedTuple):
    """Holds what counts of a batch.

    Attributes:
        image: B,C,h,w, C = 1 or 3, of the batch's type: the region, without alpha. What is hidden
            has the mean colour of what is seen of its image. A view of the batch if nothing is.
        weights: B,1,h,w, alpha as it came; None if everything is opaque.
        region: where it lies in the batch.
    """

    image: Tensor
    weights: Tensor | None
    region: Region


def whole(image: Tensor) -> Content:
    """Returns all of B,C,H,W."""
    return Content(without_alpha(image), None, Region(0, image.shape[2], 0, image.shape[3]))


def content_of(image: Tensor) -> Content | None:
    """Finds what counts of images that are looked at together.

    Args:
        image: B,C,H,W in [0, 1], C = 1, 3 or 4 (RGB and alpha), any type of image (see dtypes.py).
            Of several images (a video's frames), the region is common to all.

    Returns:
        None if nothing is to be seen, as all is transparent.
    """
    region = Region(0, image.shape[2], 0, image.shape[3])
    colour, weights = without_alpha(image), None
    if image.shape[1] == 4 and not is_opaque(image[:, 3:]):
        seen = visible_region(image[:, 3:])
        if seen is None:
            return None
        region, weights = seen, seen.of(image[:, 3:])
        colour = fill_in_place(seen.of(colour).clone(), weights)
    inner = within_frames(colour)
    if weights is not None:
        weights = inner.of(weights)
    region = inner.within(region)
    return Content(inner.of(colour), weights, region)


def show_whole(finished: Finished | None, result: Tensor, region: Region) -> Finished | None:
    """Makes a function that is shown a region's rows and passes on whole ones, with the frame."""
    if finished is None or region.is_whole(result):
        return finished
    frame, height = -1, result.shape[2]

    def show(rows: Tensor, start: int, inner_height: int) -> None:
        nonlocal frame
        frame += start == 0
        last = start + rows.shape[2] == inner_height
        top = region.top + start if start else 0
        bottom = height if last else region.top + start + rows.shape[2]
        finished(read_rows(result, frame, top, bottom)[:, :3], top, height)

    return show


def keep_hidden(image: Tensor, mask: Tensor, result: Tensor) -> None:
    """Gives hidden pixels of B,4,H,W their own colour back where the mask (B,1,H,W) is 0."""
    for frame, start, stop in bands_of(image):
        rows = read_rows(image, frame, start, stop)
        share = to_unit(read_rows(mask, min(frame, len(mask) - 1), start, stop)).to(rows.device)
        hidden = (to_unit(rows[:, 3:]) <= 0) & (share <= 0)  # uint16 cannot be compared
        out = indexable(read_rows(result, frame, start, stop))
        out.copy_(torch.where(hidden, indexable(rows), out))


def is_opaque(alpha: Tensor) -> bool:
    """True if B,1,H,W is 1 everywhere."""
    return all(bool((to_unit(read_rows(alpha, *band)) >= 1).all()) for band in bands_of(alpha))


def visible_region(alpha: Tensor) -> Region | None:
    """Returns the smallest region with all of B,1,H,W that is above 0; None without any."""
    rows = torch.zeros(alpha.shape[2], dtype=torch.bool, device=alpha.device)
    columns = torch.zeros(alpha.shape[3], dtype=torch.bool, device=alpha.device)
    for frame, start, stop in bands_of(alpha):
        seen = to_unit(read_rows(alpha, frame, start, stop))[0, 0] > 0
        rows[start:stop] |= seen.any(1)
        columns |= seen.any(0)
    ys, xs = rows.nonzero().flatten().tolist(), columns.nonzero().flatten().tolist()
    return Region(ys[0], ys[-1] + 1, xs[0], xs[-1] + 1) if ys else None


def visible_mean(colour: Tensor, alpha: Tensor) -> Tensor:
    """Mean of 1,C,H,W weighted with its alpha, 1,1,H,W: 1,C,1,1, float32; 0 if all is hidden."""
    sums = torch.zeros(colour.shape[1] + 1, dtype=torch.float64)
    for band in bands_of(colour):
        weight = to_unit(read_rows(alpha, *band)).clamp(0, 1)
        seen = torch.cat([to_unit(read_rows(colour, *band)).clamp(0, 1) * weight, weight], 1)
        sums += seen[0].cpu().double().sum(2).cumsum(1)[:, -1]  # in the order of the rows
    mean = sums[:-1] / sums[-1].clamp(min=1e-9)
    return mean.float().view(1, -1, 1, 1).to(colour.device)


def fill_in_place(colour: Tensor, alpha: Tensor) -> Tensor:
    """Gives B,C,H,W the mean of each image's visible pixels where B,1,H,W is 0; returns it."""
    for frame in range(len(colour)):
        one = slice(frame, frame + 1)
        mean = from_unit(visible_mean(colour[one], alpha[one]), colour.dtype)
        for band in bands_of(colour[one]):
            hidden = to_unit(read_rows(alpha[one], *band)) <= 0
            out = indexable(read_rows(colour[one], *band))
            out.copy_(torch.where(hidden, indexable(mean), out))
    return colour


def within_frames(colour: Tensor) -> Region:
    """Returns the region of B,C,H,W, C = 1 or 3, within all frames; all of it without one."""
    region = Region(0, colour.shape[2], 0, colour.shape[3])
    for _ in range(NESTED):
        inner = within_frame(region.of(colour))
        if inner.is_whole(region.of(colour)):
            break
        region = inner.within(region)
    return region


def within_frame(colour: Tensor) -> Region:
    """Returns the region of B,C,H,W within its outermost frame."""
    height, width = colour.shape[2:]
    if min(height, width) < MIN_CONTENT or not (colour.is_cpu or is_framed(colour)):
        return Region(0, height, 0, width)
    sides = [Side(colour, vertical, far) for vertical in (True, False) for far in (False, True)]
    rough = [side.uniform() for side in sides]
    widths = [
        side.width(depth, rough[2:] if side.vertical else rough[:2])
        for side, depth in zip(sides, rough, strict=True)
    ]
    top, bottom, left, right = widths
    if not enough(height, top + bottom) or not enough(width, left + right):
        return Region(0, height, 0, width)
    return Region(top, height - bottom, left, width - right)


def is_framed(colour: Tensor) -> bool:
    """True if one of the outermost lines of B,C,H,W is uniform. As a rule none is, and a GPU has to
    be asked but once."""
    height, width = colour.shape[2:]
    image = indexable(colour)
    rows, columns = image[:, :, :: height - 1], image[:, :, :, :: width - 1].mT
    lines = to_unit(torch.cat([rows, columns], 3).cpu().view(colour.dtype))  # B,C,2,W + H
    for pair in lines.split([width, height], 3):
        uniform = (pair - pair.mean(3, keepdim=True)).abs() <= UNIFORM
        if uniform.transpose(0, 2).flatten(1).all(1).any():
            return True
    return False


def enough(size: int, taken: int) -> bool:
    """True if an image's side has enough left within a frame."""
    return size - taken >= max(MIN_CONTENT, MIN_SHARE * size)


class Side:
    """The lines along one side of B,C,H,W, counted from the border.

    Args:
        vertical: whether they are rows, counted up or down.
        far: whether they are counted from the bottom (or right).
    """

    def __init__(self, colour: Tensor, vertical: bool, far: bool):
        self.vertical, self.far = vertical, far
        self.image = colour if vertical else colour.transpose(2, 3)
        self.size = self.image.shape[2]
        self.colours = self.lines(0, 1).mean(3, keepdim=True)  # B,C,1,1

    def lines(self, start: int, stop: int) -> Tensor:
        """These lines, B,C,n,length, float32, the outermost one first."""
        stop = min(stop, self.size)
        if not self.far:
            return to_unit(self.image[:, :, start:stop])
        return to_unit(self.image[:, :, self.size - stop : self.size - start]).flip(2)

    def distance(self, start: int, stop: int) -> Tensor:
        """Returns how far the pixels of these lines are from the border's colour: B,n,length."""
        return (self.lines(start, stop) - self.colours).abs().amax(1)

    def uniform(self) -> int:
        """Counts the lines that are uniform in all images that are not uniform everywhere."""
        counts, start, step = torch.zeros(len(self.image), dtype=torch.long), 0, 4
        going = torch.ones(len(self.image), dtype=torch.bool)
        while start < self.size and going.any():
            even = (self.distance(start, start + step) <= UNIFORM).all(2).cpu()  # B,n
            run = even.long().cumprod(1).sum(1)
            counts += run * going
            going &= run == even.shape[1]
            start, step = start + step, min(2 * step, 64)
        found = counts[counts < self.size]
        return int(found.min()) if len(found) else 0

    def width(self, depth: int, across: list[int]) -> int:
        """Returns the frame's width, where `depth` lines are uniform; 0 if no edge follows.

        Args:
            across: how many pixels to leave out at the lines' ends, which lie in the frame too.
        """
        if not depth or depth >= self.size:
            return 0
        length = self.image.shape[3]
        inside = (
            slice(across[0], length - across[1]) if enough(length, sum(across)) else slice(None)
        )
        first = max(depth - EDGE_LINES, 0)
        found = self.distance(first, depth + 2 * RINGING_LINES)[..., inside]
        levels = found.mean((0, 2))  # of each line
        at = depth - first
        if found.shape[1] == at + 2 * RINGING_LINES:
            near = levels < RINGING * levels[at + RINGING_LINES :].mean()
            near &= (found > RINGING_MOST).float().mean((0, 2)) <= RINGING_SHARE
            at += int(near[at : at + RINGING_LINES].long().cumprod(0).sum())
        before, behind = levels[max(at - EDGE_LINES, 0) : at], levels[at : at + EDGE_LINES]
        departs = (found[:, at : at + EDGE_LINES] > EDGE).float().mean((1, 2))
        abrupt = bool(before.mean() <= ABRUPT * behind.mean())
        return first + at if abrupt and float(departs.max()) >= EDGE_SHARE else 0
