"""What a user asks for, done with what the model gives.

The model changes the exposure of every image, since it forgets the input's (see `standardize` in
generator.py). So one network serves three tasks:

- ``joint``: the model's image, sharper and well exposed, with a little of the input's own detail.
- ``deblur``: the model's image, with the input's exposure given back.
- ``low light``: the input's own detail, with the model's exposure and colours.

Everything here is a pure function of tensors: B,C,H,W, float32, in [0, 1].
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .engine.statistics import Moments
from .generator import Variant

Task = Literal["joint", "deblur", "low light"]
TASKS: tuple[Task, ...] = get_args(Task)

DEFAULT_EXPOSURE: dict[Task, float] = {"joint": 1.0, "deblur": 0.0, "low light": 1.0}
BUNDLED_VARIANT: dict[Task, Variant] = {
    "joint": "devudp",
    "deblur": "devudp-dt",
    "low light": "devudp",
}

GREY_LEVEL = 1 / 255
"""The smallest spread that counts as one: less than a step of 8 bits is rounding."""

MAX_GAIN = 8.0
"""No exposure match amplifies the model's image by more, however flat it is."""

DETAIL: dict[Task, float] = {"joint": 0.35, "deblur": 0.0, "low light": 1.0}
"""How much of the detail is the input's own, and not the model's."""

DETAIL_RADIUS = 2
"""Own detail: the input's gain and offset are fitted in windows of 2 r + 1 pixels, smoothed so.

The smaller, the more comes from the model's image, which has less noise than a dark input.
"""

DETAIL_FLOOR = 0.1
"""Own detail: a window's variance counts as detail above this share of the image's variance."""

DOT_RADIUS = 2
"""Dots in white of up to so many pixels around their middle are filled; see `fill_dots`."""

DOT_WHITE = 0.8
"""Surroundings darker than this are left alone."""

DOT_CONTRAST = 2.0
"""What is dark in the input's white as well may become so much darker in the model's image."""

WHITE = (0.8, 0.98)
"""From the first to the second value, the input counts more and more as white; see `keep_white`."""

OVERSHOOT_RADIUS = 6
"""Nothing becomes lighter or darker than what lies within so many pixels; see `cut_overshoot`."""

SPECK_RADIUS = 1
"""What is no wider than 2 r + 1 pixels counts for its r nearest neighbours only."""

COLOUR_SHARE = 0.5
"""`deblur` takes so much of what the network changes in one colour and not in all."""


def bundled_variant(task: Task) -> Variant:
    """The variant whose bundled weights serve a task best."""
    return BUNDLED_VARIANT[task]


class Affine(NamedTuple):
    """x -> gain x + offset, one of each for every channel (1,C,1,1)."""

    gain: Tensor
    offset: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.gain + self.offset


class Match(NamedTuple):
    """What a task takes from whole images; with it, everything else is local.

    Attributes:
        exposure: from the model's exposure to the one asked for; None where it is the model's.
        floor: variance of the input below which there is no detail in it (1,C,1,1).
        detail: how much of the detail is to be the input's own (0..1).
        bounded: whether the input bounds the model's image, which then has the input's exposure.
    """

    exposure: Affine | None
    floor: Tensor
    detail: float = 0.0
    bounded: bool = False


def match(image: Moments, output: Moments, exposure: float, detail: float = 0.0) -> Match:
    """What the tasks take from whole images.

    Args:
        image, output: mean and variance of the input and of the model's image (1,C,1,1), over
            the pixels of one image, or of all images of a batch that share their statistics.
        exposure: 0 for the input's exposure, 1 for the model's, or between.
        detail: see `Match`.
    """
    floor = (DETAIL_FLOOR * image.var).clamp(min=GREY_LEVEL**2)
    exposed = None if exposure == 1 else exposure_match(image, output, exposure)
    return Match(exposed, floor, detail)


def exposure_match(image: Moments, output: Moments, exposure: float) -> Affine:
    """Gain and offset, for each channel, that give `output` the exposure of `image`.

    They make mean and spread over the pixels the same. A flat `image` gives a gain near 0 and a
    flat `output` one of at most `MAX_GAIN`, so neither explodes. Arguments: see `match`.
    """
    gain = (image.var.sqrt() / output.var.sqrt().clamp(min=GREY_LEVEL)).clamp(max=MAX_GAIN)
    offset = image.mean - gain * output.mean
    return Affine(exposure + (1 - exposure) * gain, (1 - exposure) * offset)


def window_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over windows of 2 `radius` + 1 pixels, at the borders over what there is of them."""
    side = 2 * radius + 1
    for window, padding in (((side, 1), (radius, 0)), ((1, side), (0, radius))):
        x = F.avg_pool2d(x, window, stride=1, padding=padding, count_include_pad=False)
    return x


def detail_transfer(image: Tensor, output: Tensor, floor: Tensor) -> Tensor:
    """The input's detail in the model's exposure and colours.

    In every window the model's image is fitted by gain * image + offset, channel by channel, and
    the smoothed gains and offsets are applied to the input: a guided filter (He, Sun, Tang: Guided
    Image Filtering, 2013, eqs. 5, 6, 8) of the model's image with the input as its guide.

    Args:
        image, output: B,C,H,W.
        floor: variance (1,C,1,1) from which on a window is detail and not noise.
    """
    mean, mean_out = window_mean(image, DETAIL_RADIUS), window_mean(output, DETAIL_RADIUS)
    variance = window_mean(image * image, DETAIL_RADIUS) - mean * mean
    covariance = window_mean(image * output, DETAIL_RADIUS) - mean * mean_out
    gain = covariance / (variance + floor)
    offset = mean_out - gain * mean
    return window_mean(gain, DETAIL_RADIUS) * image + window_mean(offset, DETAIL_RADIUS)


def window_max(x: Tensor, radius: int) -> Tensor:
    """Maximum over windows of 2 `radius` + 1 pixels, at the borders over what there is of them."""
    side = 2 * radius + 1
    for _ in range(2):  # along the rows, then along the columns; on CPUs far faster than max_pool2d
        rows = F.max_pool1d(x.flatten(0, 2), side, stride=1, padding=radius)
        x = rows.view(x.shape).transpose(2, 3)
    return x


def closing(x: Tensor, radius: int) -> Tensor:
    """`x` without what is dark and smaller than the window (a grey closing with a square)."""
    return -window_max(-window_max(x, radius), radius)


def fill_dots(image: Tensor, output: Tensor) -> Tensor:
    """The model's image without the coloured dots that it makes in blown-out lights.

    Networks with InstanceNorm have a few pixels with gigantic features (Karras et al.: Analyzing
    and Improving the Image Quality of StyleGAN, 2020, section 2). Here they lie in lights, where
    the output is white, and single pixels miss it in one colour. A small dark spot in white stays
    as far as the input has it too.

    Args:
        image, output: B,C,H,W in [0, 1].
    """
    if output.amax((0, 2, 3)).min() <= DOT_WHITE:
        return output  # nothing is white
    grey = image.mean(1, keepdim=True)
    around = closing(grey, DOT_RADIUS)
    dip = DOT_CONTRAST * (around - grey) / around.clamp(min=GREY_LEVEL)
    filled = closing(output, DOT_RADIUS)
    white = ((filled.amin(1, keepdim=True) - DOT_WHITE) / (1 - DOT_WHITE)).clamp(0, 1)
    return output + white * (torch.maximum(output, filled * (1 - dip)) - output)


def keep_white(image: Tensor, output: Tensor) -> Tensor:
    """The model's image, not darker than the input where that is white.

    White skies and lamps are clipped: nothing more is known of them, but the network tints them.

    Args:
        image, output: B,C,H,W in [0, 1].
    """
    start, stop = WHITE
    white = ((image.amin(1, keepdim=True) - start) / (stop - start)).clamp(0, 1)
    return output + white * (image - output).clamp(min=0)


def cut_overshoot(image: Tensor, output: Tensor) -> Tensor:
    """The model's image without rims that are lighter or darker than all around them.

    Sharpening goes too far beside edges, which shows as halos. A blurred image has about the
    range of the sharp one wherever it is more than a line or a dot, so every pixel is cut off at
    the least and the greatest value that its channel of the input has nearby. Specks do not count:
    they would spread.

    Args:
        image, output: B,C,H,W of the same exposure.
    """
    bounded = torch.minimum(output, highest_nearby(image))
    return torch.maximum(bounded, -highest_nearby(-image))


def highest_nearby(x: Tensor) -> Tensor:
    """What no pixel of B,C,H,W may exceed; see `cut_overshoot`."""
    without_specks = -closing(-x, SPECK_RADIUS)
    return torch.maximum(window_max(without_specks, OVERSHOOT_RADIUS), window_max(x, SPECK_RADIUS))


def calm_colours(image: Tensor, output: Tensor) -> Tensor:
    """The model's image with fewer coloured fringes, which it makes at edges of lights.

    Where it only makes things lighter or darker, it stays. Arguments: see `cut_overshoot`.
    """
    change = output - image
    return output - (1 - COLOUR_SHARE) * (change - change.mean(1, keepdim=True))


def own_bounds(task: Task, shortcut: bool) -> bool:
    """Whether the input bounds the image: where the network keeps its exposure."""
    return shortcut and task == "deblur"


def own_exposure(task: Task, shortcut: bool) -> float:
    """The `exposure` of a task where the user asks for none.

    A network with the global shortcut keeps the input's by itself. Matching it would take back a
    part of what it does, since sharper images have a larger spread.
    """
    return 1.0 if shortcut else DEFAULT_EXPOSURE[task]


def own_detail(task: Task, shortcut: bool) -> float:
    """How much of the detail is the input's own, which a network with the global shortcut keeps."""
    return 0.0 if shortcut and task != "low light" else DETAIL[task]


def reach(task: Task) -> int:
    """How many pixels around a pixel `apply_task` looks at."""
    if task == "deblur":
        return OVERSHOOT_RADIUS + 2 * SPECK_RADIUS
    return 2 * (DOT_RADIUS + DETAIL_RADIUS)


def apply_task(
    image: Tensor,
    output: Tensor,
    task: Task,
    matched: Match,
    *,
    strength: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """The image that the user asked for.

    Args:
        image: the input, B,C,H,W in [0, 1].
        output: the model's image of it, same shape and range.
        task: which one.
        matched: from `match` of the whole images.
        strength: 0 for the input as it was, 1 for the task's full effect.
        mask: B or 1,1,H,W in [0, 1], multiplied with the strength.

    Returns:
        B,C,H,W in [0, 1].
    """
    if task != "deblur":
        output = fill_dots(image, output.clamp(0, 1))
    if matched.bounded:
        output = calm_colours(image, cut_overshoot(image, output))
    if matched.detail:
        own = detail_transfer(image, output, matched.floor)
        output = own if matched.detail == 1 else output.lerp(own, matched.detail)
    if matched.exposure is not None:
        output = matched.exposure(output)
    output = output.clamp(0, 1)
    if task != "deblur":
        output = keep_white(image, output)
    share = strength if mask is None else strength * mask
    if isinstance(share, float) and share == 1.0:
        return output
    return image + share * (output - image)
