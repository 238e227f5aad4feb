"""Measures what a task takes from whole images: exposure, noise, detail; all else is local."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..bands.rows import AnyImage, bands_of, read_rows
from ..engine.statistics import Moments, moments_of
from ..ops.arithmetic import scaled_sum
from ..ops.dtypes import to_colour, to_unit
from ..ops.filters import GREY_LEVEL
from .curve import Curve

MAX_GAIN = 8.0
"""No exposure match amplifies the model's image by more, however flat it is."""

DETAIL_FLOOR = 0.05
"""Own detail: a window's variance counts as detail above this share of the image's variance, ..."""

NOISE_FLOOR = 4.0
"""... and this many times the variance of its noise: what is noise is amplified least."""


class Affine(NamedTuple):
    """x -> gain x + offset, one of each for every channel (1,C,1,1)."""

    gain: Tensor
    offset: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.gain + self.offset


class ImageStats(NamedTuple):
    """Holds what a task takes from whole images; with it, everything else is local.

    Attributes:
        exposure: from the model's exposure to the one asked for; None where it is the model's.
        floor: variance of the input below which there is no detail in it (1,C,1,1).
        detail: how much of the detail is to be the input's own (0..1).
        bounded: whether the input bounds the model's image, which then has the input's exposure.
        curve: gives the result the scene's brightness (see exposure.py); None for the model's.
        share: how much of the new exposure is taken: 0 for the input's, 1 for the scene's.
    """

    exposure: Affine | None
    floor: Tensor
    detail: float = 0.0
    bounded: bool = False
    curve: Curve | None = None
    share: float = 1.0


def match(
    image: Moments,
    output: Moments | None,
    exposure: float,
    detail: float = 0.0,
    *,
    noise: Tensor | float = 0.0,
    curve: Curve | None = None,
) -> ImageStats:
    """Measures what the tasks take from whole images.

    Args:
        image, output: mean and variance of the input and of the model's image (1,C,1,1), over
            the pixels of one image, or of all images of a batch that share their statistics. For
            the model's exposure the second does not count.
        exposure: 0 for the input's exposure, 1 for the model's, or between.
        detail, curve: see `ImageStats`.
        noise: variance of the input's noise (1,C,1,1), on any device.
    """
    noisy = torch.as_tensor(NOISE_FLOOR * noise).to(image.var)
    floor = scaled_sum(noisy, image.var, DETAIL_FLOOR).clamp_(min=GREY_LEVEL**2)
    exposed = None if exposure == 1 or output is None else exposure_match(image, output)
    return ImageStats(exposed, floor, detail, curve=curve, share=exposure)


def colour_moments(
    image: AnyImage, device: torch.device, weights: Tensor | None = None, clipped: bool = False
) -> Moments:
    """Measures the input or the model's image, B,C,H,W, on this device, with these weights; what is
    `clipped` is in [0, 1] already."""
    bands = list(bands_of(image))

    def read(number: int) -> Tensor:
        return to_colour(read_rows(image, *bands[number]), device, clipped)

    def weigh(number: int) -> Tensor:
        assert weights is not None
        return to_unit(read_rows(weights, *bands[number]).to(device))

    return moments_of(read, len(bands), None if weights is None else weigh)


def exposure_match(image: Moments, output: Moments) -> Affine:
    """Returns the gain and offset, for each channel, that give `output` the exposure of `image`.

    They make mean and standard deviation over the pixels the same. A flat `image` gives a gain near
    0 and a flat `output` one of at most `MAX_GAIN`. Arguments: see `match`.
    """
    gain = (image.var.sqrt() / output.var.sqrt().clamp(min=GREY_LEVEL)).clamp(max=MAX_GAIN)
    return Affine(gain, image.mean - gain * output.mean)
