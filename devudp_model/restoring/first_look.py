"""Looks at an image once, made small: its light, its noise, and whether there is anything in it.

Pure functions of tensors, for `auto`, which decides what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bands.rows import in_bands, write_rows
from ..ops.degrade import to_linear
from ..ops.dtypes import indexable, to_unit
from ..ops.filters import noise_variance
from .blur import FAR, BlurMeasures, measure_blur, quantile
from .coarse_to_fine import shrink
from .lamps import paths_of
from .stars import stars_of

MAX_PIXELS = 1280
"""Of the long side. Blur that cannot be seen at this size need not be removed, and the finest
pixels of large photographs are soft by themselves (demosaicing, JPEG)."""

MIN_PIXELS = 32
"""Of the short side: below, there are too few edges to tell blur, too few blocks to tell noise."""

BRIGHTEST = 0.999
"""The quantile of the linear values, means of 2x2 pixels, that is taken as the lights' level: a
lamp or a lit sign is larger than that, hot pixels are not."""

MARGIN = 8
"""One part in so many at the top and at the bottom is not searched for lights: dates, captions and
logos stand there."""

BLOCK = 8
"""Pixels of the side of the blocks whose medians are compared: what is left of noise, single stars
and hot pixels in them is little."""

MIN_RANGE = 2 / 255
"""Nearly all of the blocks' medians lie within this range: no more than rounding and a lens' own
falling off make of a lens cap."""

NOISE_RANGE, ALIKE = 10 / 255, 0.3
"""Within this larger range there is nothing either if blocks side by side are not alike (their
correlation is below the second; 0.0 to 0.15 for noise, 0.7 and more for all photographs)."""

STROKES, STROKE_CONTRAST = 0.03, 10 / 255
"""Share of pixels that differ by so much, and by six times the noise, from the image's median: text
on paper is information, too, though the blocks' medians are all paper. Stars are fewer."""

DRAWN_SHARE, DRAWN_STEEPNESS = 0.5, 0.95
"""Share of pixels exactly like the two beside them, and steepness of edges, from which on an image
is drawn or written, as screenshots are."""


class Look(NamedTuple):
    """Holds what is seen of one image.

    Attributes:
        light: mean of the linear values, 0 to 1.
        lights: linear level of its brightest places, see `BRIGHTEST`.
        noise: its standard deviation, from 0 (none) to 1 (white).
        steepness, usual, direction, echo, sharpness: see blur.py.
        paths: the share of lamps that are drawn as one and the same path; see lamps.py.
        stars: how surely it is a starry sky, 0 to 1; see stars.py.
        spread: range of the grey values of its blocks, 0 to 1.
        telling: there is more in it than noise.
        drawn: a screenshot or the like.
    """

    light: float
    lights: float
    noise: float
    steepness: float
    usual: float
    direction: float
    echo: float
    sharpness: float
    paths: float
    stars: float
    spread: float
    telling: bool
    drawn: bool


class Glance(NamedTuple):
    """Part of a `Look`: whether there is something in an image, in how much light."""

    light: float
    spread: float
    telling: bool


def look_at(image: Tensor, weights: Tensor | None = None) -> Look:
    """Looks at 1,C,H,W, any type of image (see dtypes.py), C = 1 or 3.

    Args:
        weights: 1,1,H,W, how much of each pixel is to be seen; None: all of it.
    """
    colour = made_small(image)
    seen = None if weights is None else made_small(weights)
    grey = colour.mean(1, keepdim=True)
    linear = to_linear(colour)
    shown = linear if seen is None else linear * seen
    lights = lights_of(shown)
    noise = noise_variance(grey).sqrt().item()
    light, spread, telling = glance_of(grey, linear, seen, noise)
    if min(grey.shape[-2:]) <= FAR:
        return plain_look(light, telling=True)._replace(lights=lights, noise=noise, spread=1.0)
    hidden = None if seen is None else (seen < 1).float()
    blur = measure_blur(grey, hidden)
    drawn = blur.steepness >= DRAWN_STEEPNESS and same_share(image) >= DRAWN_SHARE
    paths = paths_of(shown.amax(1, keepdim=True))
    stars = stars_of(grey, noise)
    return Look(light, lights, noise, *blur, paths, stars, spread, telling, drawn)


def plain_look(light: float, telling: bool = False) -> Look:
    """Returns the look of an image of one colour, with this mean of the linear values."""
    blur = BlurMeasures(steepness=1.0, usual=1.0, direction=0.0, echo=0.0, sharpness=1.0)
    return Look(light, light, 0.0, *blur, 0.0, 0.0, 0.0, telling, drawn=False)


def glance_at(image: Tensor, weights: Tensor | None = None) -> Glance:
    """Looks shortly; arguments as of `look_at`."""
    colour = made_small(image)
    seen = None if weights is None else made_small(weights)
    grey = colour.mean(1, keepdim=True)
    return glance_of(grey, to_linear(colour), seen, noise_variance(grey).sqrt().item())


def glance_of(grey: Tensor, linear: Tensor, seen: Tensor | None, noise: float) -> Glance:
    """Looks at 1,1,H,W and its light, 1,C,H,W; `seen`: how far it is to be seen, 1,1,H,W."""
    if seen is None:
        light = float(linear.mean())
    else:
        light = float((linear * seen).sum() / seen.sum().clamp(min=1e-9)) / linear.shape[1]
    if min(grey.shape[-2:]) <= FAR:
        return Glance(light, 1.0, True)
    spread, alike = blocks_of(grey)
    telling = spread >= NOISE_RANGE or (spread >= MIN_RANGE and alike >= ALIKE)
    telling = telling or strokes_of(grey, noise) >= STROKES
    return Glance(light, spread, telling or min(grey.shape[-2:]) < MIN_PIXELS)


def lights_of(linear: Tensor) -> float:
    """Returns the level of the brightest places of 1,C,H,W."""
    margin = linear.shape[2] // MARGIN
    middle = linear[:, :, margin : linear.shape[2] - margin].mean(1, keepdim=True)
    return quantile(F.avg_pool2d(middle, 2, ceil_mode=True), BRIGHTEST)


def made_small(image: Tensor) -> Tensor:
    """1,C,H,W to float32 in [0, 1], made smaller by a whole number if it is large."""
    scale = -(-max(image.shape[-2:]) // MAX_PIXELS)
    height, width = (-(-size // scale) for size in image.shape[-2:])
    small = torch.empty(1, image.shape[1], height, width, device=image.device)

    def make_smaller(frame: int, start: int, stop: int) -> None:
        band = to_unit(image[:, :, start:stop]).nan_to_num().clamp(0, 1)
        write_rows(small, frame, start // scale, shrink(band, scale))

    in_bands(make_smaller, image, scale)
    return small


def blocks_of(grey: Tensor) -> tuple[float, float]:
    """The range that nearly all blocks' medians of 1,1,H,W lie in, and how alike neighbours are.

    The second is a correlation, from -1 to 1.
    """
    side = max(min(BLOCK, min(grey.shape[-2:]) // BLOCK), 1)
    height, width = (size // side for size in grey.shape[-2:])
    blocks = grey[0, 0, : height * side, : width * side].unflatten(1, (width, side))
    blocks = blocks.unflatten(0, (height, side)).transpose(1, 2).flatten(2)
    medians = blocks.median(2).values
    spread = quantile(medians, 0.99) - quantile(medians, 0.01)
    rest = medians - medians.mean()
    variance = float(rest.square().mean())
    if variance <= 0:
        return spread, 1.0
    across = float((rest[:, 1:] * rest[:, :-1]).mean()) if width > 1 else 0.0
    down = float((rest[1:] * rest[:-1]).mean()) if height > 1 else 0.0
    return spread, (across + down) / 2 / variance


def strokes_of(grey: Tensor, noise: float) -> float:
    """Returns the share of pixels of 1,1,H,W that stand out from its median."""
    distance = (grey - quantile(grey, 0.5)).abs()
    return float((distance > max(STROKE_CONTRAST, 6 * noise)).float().mean())


def same_share(image: Tensor) -> float:
    """Returns the share of pixels of 1,C,H,W that are exactly as the two right of them."""
    step = max(1, image[0, 0].numel() // 2**20)
    rows = indexable(image[..., ::step, :])
    same = (rows[..., 1:] == rows[..., :-1]).all(1)
    return float((same[..., 1:] & same[..., :-1]).float().mean())


def telling_frames(looks: Sequence[Look | Glance]) -> list[int]:
    """Picks the frames that tell what a scene needs.

    Frames without information do not, nor do those that are faded out to black or white: they have
    less than half of the others' contrast, or of their light. "The others" are the second of all,
    so that one flash does not decide.

    Returns:
        their numbers; empty if there is nothing in any of them.
    """
    chosen = [i for i, look in enumerate(looks) if look.telling]
    for value in ("spread", "light"):
        ranked = sorted((getattr(looks[i], value) for i in chosen), reverse=True)
        if len(ranked) > 1:
            reference = ranked[1] if len(ranked) > 2 else ranked[0]
            chosen = [i for i in chosen if getattr(looks[i], value) >= reference / 2]
    return chosen
