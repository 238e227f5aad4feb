"""Local filters of the model's image: what the tasks do beside the generator.

A filter takes the input and the model's image, B,C,H,W, float32, in [0, 1], and returns the
filtered model's image. `FILTERS` names those that a row of tasks.py may list.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from . import fringes, rims
from .arithmetic import fade_, mix, ramp, subtract_product_
from .dtypes import to_unit
from .light import from_light, to_light
from .windows import at_once, closing, window_max, window_mean

GREY_LEVEL = 1 / 255
"""The smallest standard deviation that counts as contrast: less than an 8-bit step is rounding."""

NOISE_SQUARES = 2**16
"""Noise is measured on about this many squares of 2x2 pixels."""

MEDIAN_OF_NORMAL = 0.6745
"""Median of the absolute value of normal numbers with standard deviation 1."""

DOT_RADIUS = 2
"""The largest radius of the dots that `fill_dots` fills."""

DOT_WHITE = 0.8
"""Surroundings darker than this are left alone."""

DOT_CONTRAST = 2.0
"""A dark spot of the input may have this many times its contrast in the model's image."""

WHITE = (0.8, 0.98)
"""`keep_white` starts at the first value of the input and has its full effect at the second."""

SHARPEN, SHARPEN_RADIUS, NEXT = 1.5, 3, 1
"""`sharpen` adds this share of what is left of the brightness beside its mean in windows of 2 r + 1
pixels, as far as something at most the third number of pixels away is as dark or as bright, ..."""

EDGE = 0.05
"""... half of it where its standard deviation is this: edges get nearly all, noise nothing."""

OWN_COLOUR, COLOUR_RADIUS = 0.5, 8
"""`own_colours` takes this share of the network's change of colours back, in windows of 2 r + 1
pixels, ..."""

COLOUR_FLOOR = 4e-4
"""... less where the input's light is not far above this: there its colours are noise."""


def noise_variance(image: Tensor, weights: Tensor | None = None) -> Tensor:
    """Returns the variance of the noise in B,C,H,W, for each channel (1,C,1,1).

    Squares with a pixel whose weight (B,1,H,W) is 0 do not count.

    From the median of the finest diagonal detail (Donoho, Johnstone: Ideal spatial adaptation by
    wavelet shrinkage, 1994): of squares of 2x2 pixels, evenly spaced over the image.
    """
    height, width = (size // 2 * 2 for size in image.shape[2:])
    if not height or not width:
        return torch.zeros(1, image.shape[1], 1, 1, device=image.device)
    step = 2 * max(math.isqrt(height * width // 4 // NOISE_SQUARES), 1)
    a, b, c, d = (to_unit(corner) for corner in corners_of(image, step))
    detail = (a - b - c + d).abs().transpose(0, 1).flatten(1)
    if weights is not None:
        parts = [to_unit(corner) > 0 for corner in corners_of(weights[:, 0], step)]
        seen = torch.stack(parts).all(0).flatten()
        if not seen.any():
            return torch.zeros(1, image.shape[1], 1, 1, device=image.device)
        detail = detail[:, seen]
    sigma = detail.median(1).values / (2 * MEDIAN_OF_NORMAL)
    return sigma.square().view(1, -1, 1, 1)


def corners_of(image: Tensor, step: int) -> list[Tensor]:
    """Returns the pixels of squares of 2x2, one every `step` pixels of ...,H,W: four of ...,h,w,
    from left to right, then the lower ones."""
    rows = image.unfold(-2, 2, step).unfold(-2, 2, step).unbind(-2)
    return [corner for row in rows for corner in row.unbind(-1)]


def fill_dots(image: Tensor, output: Tensor) -> Tensor:
    """Returns the model's image without the coloured dots that it makes in blown-out lights.

    Networks with InstanceNorm have a few pixels with very large features (Karras et al.: Analyzing
    and Improving the Image Quality of StyleGAN, 2020, section 2). Here they lie in lights, where
    the output is white, and single pixels miss it in one colour. A small dark spot in white stays
    as far as the input has it too.

    Args:
        image, output: B,C,H,W in [0, 1].
    """
    if output.is_cpu and output.amax((0, 2, 3)).min() <= DOT_WHITE:
        return output  # nothing is white, which on a GPU would be waited for
    grey = image.mean(1, keepdim=True)
    around, filled = at_once(partial(closing, radius=DOT_RADIUS), (grey, output))
    dip = (around - grey).div_(around.clamp(min=GREY_LEVEL))
    white = ramp(filled.amin(1, keepdim=True), DOT_WHITE, 1)
    return mix(output, torch.maximum(output, fade_(filled, dip, DOT_CONTRAST)), white)


def keep_white(image: Tensor, output: Tensor) -> Tensor:
    """Returns the model's image, not darker than the input where that is white.

    White skies and lamps are clipped: nothing more is known of them, but the network tints them.

    Args:
        image, output: B,C,H,W in [0, 1].
    """
    white = ramp(image.amin(1, keepdim=True), *WHITE)
    return mix(output, torch.maximum(output, image), white)


def sharpen(image: Tensor, output: Tensor) -> Tensor:
    """The model's image with steeper edges: an unsharp mask of its brightness, without halos.

    Nothing becomes darker or brighter than what is next to it. A single channel may leave [0, 1].

    Args:
        image, output: B,C,H,W in [0, 1]; `image` does not count.
    """
    if not output.is_cpu:
        return sharpen_at_once(output)
    grey = output.mean(1, keepdim=True)
    mean, square = (window_mean(x, SHARPEN_RADIUS) for x in (grey, grey * grey))
    variance = subtract_product_(square, mean, mean)
    sharper = grey + SHARPEN * variance / (variance + EDGE**2) * (grey - mean)
    darkest, brightest = -window_max(-grey, NEXT), window_max(grey, NEXT)
    return output + sharper.clamp_(darkest, brightest).sub_(grey)


def sharpen_at_once(output: Tensor) -> Tensor:
    """`sharpen` in few operations, for a GPU."""
    both = output.new_empty(2, len(output), 1, *output.shape[2:])
    grey, other = both
    torch.mean(output, 1, keepdim=True, out=grey)
    torch.neg(grey, out=other)
    brightest, dark = window_max(both.flatten(0, 1), NEXT).view(both.shape)
    torch.mul(grey, grey, out=other)
    mean, square = window_mean(both.flatten(0, 1), SHARPEN_RADIUS).view(both.shape)
    variance = subtract_product_(square, mean, mean)
    share = variance / (variance + EDGE**2)
    sharper = torch.addcmul(grey, share, grey - mean, value=SHARPEN)
    return output + sharper.clamp_(dark.neg_(), brightest).sub_(grey)


def own_colours(image: Tensor, output: Tensor) -> Tensor:
    """Returns the result with half of the input's own colours, as bright as it was.

    Another exposure multiplies the light of all channels by one number. The network standardizes
    each channel and so changes their ratios: half of that is taken back.

    Args:
        image, output: B,3,H,W in [0, 1].
    """
    if output.is_cpu:
        light, own_light = to_light(output), to_light(image)
        own = light_around(own_light).div_(light_around(light)).mul_(light)
        means = light.mean(1, keepdim=True), own.mean(1, keepdim=True)
    else:
        lights = to_light(torch.stack((output, image)))
        of_output, of_image = light_around(lights.flatten(0, 1)).view(lights.shape)
        light, own = lights
        torch.div(of_image, of_output, out=own).mul_(light)
        means = lights.mean(2, keepdim=True)
    own.mul_(means[0] / means[1])
    return from_light(light.lerp_(own, OWN_COLOUR)).clamp_(0, 1)


def light_around(light: Tensor) -> Tensor:
    """Returns each channel's light in the windows of B,3,H,W: what matters are their ratios."""
    return window_mean(light, COLOUR_RADIUS).add_(COLOUR_FLOOR)


FilterName = Literal[
    "calm_fringes",
    "fill_dots",
    "sharpen",
    "fill_rims",
    "own_colours",
    "keep_white",
    "calm_colours",
]


def never(image: Tensor) -> bool:
    """False: most filters change something of every image."""
    return False


class Filter(NamedTuple):
    """A filter, how many pixels around a pixel it looks at, and for which input it does nothing."""

    function: Callable[[Tensor, Tensor], Tensor]
    reach: int
    idle: Callable[[Tensor], bool] = never


FILTERS: dict[FilterName, Filter] = {
    "calm_fringes": Filter(fringes.calm_fringes, fringes.REACH),
    "fill_dots": Filter(fill_dots, 2 * DOT_RADIUS),
    "sharpen": Filter(sharpen, max(SHARPEN_RADIUS, NEXT)),
    "own_colours": Filter(own_colours, COLOUR_RADIUS),
    "fill_rims": Filter(rims.fill_rims, rims.REACH, rims.without_lamps),
    "keep_white": Filter(keep_white, 0),
    "calm_colours": Filter(fringes.calm_colours, 0),
}

CLIPPING: frozenset[FilterName] = frozenset(["own_colours"])
"""What these return is in [0, 1]."""
