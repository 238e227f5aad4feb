"""Tells what dark places show: nothing, a night's sky, or a room in too little light."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .blocks import Blocks

USUAL_MEAN = 0.45
"""Mean of an average photograph, and of the generator's result, in [0, 1]."""

SEEMS_BLACK = 4 / 255
"""Places that are not brighter seem black; in a dark scene they are."""

SIGNAL = (0.65, 0.9)
"""How far the typical one of them stands out of the noise (see `Shadows`): below the first all of
them are black, above the second they are dim and show something."""

RECORDED = (0.3 / 255, 0.45 / 255)
"""Noise in the quietest of them: above the second it is the sensor's; below the first the image has
been finished by a camera or by somebody, and what seems black there is meant to be."""

MUCH = 0.25
"""From this share of the image on they decide whether it is a night."""

ROUNDING = 0.3 / 255
"""Standard deviation of rounding to 8 bits, which is noise, too."""

NIGHT, MEDIAN_SHARE = (0.35, 0.39), 0.5
"""Predicted means: up to the first a scene is dark. From the second on, black is at most this share
of the image's median."""

DARK_SCENE, DARKEST_SHARE = (0.38, 0.43), 0.01
"""Predicted means: from the second on, only this share of the places, the darkest, is black."""

SKY, EVEN, UNEVEN = 8 / 255, 0.25 / 255, 0.125
"""A sky at night: it is hardly brighter than black, and differs from place to place by no more than
the second and this share of its noise."""

SKY_SHARE = (0.03, 0.08)
"""From these shares of the image on, what is brighter than `SEEMS_BLACK` of it is held down, too, a
little and fully."""


class Shadows(NamedTuple):
    """Holds what an image shows where it seems black.

    A lamp's surroundings at night and a room in too little light are equally dark. But the sensor
    has seen the room: its walls and furniture stand out of the noise.

    Attributes:
        share: of the places (see blocks.py) that seem black, 0 to 1.
        signal: how far the typical one stands out of the noise: its level over its noise, times
            its distance from the blackest over the noise of those.
        quiet: the noise of the quietest, in [0, 1].
    """

    share: float
    signal: float
    quiet: float

    @property
    def telling(self) -> float:
        """0 if there is nothing in them, 1 if there is."""
        return between(self.signal, *SIGNAL, 0.0, 1.0)

    def correct(self, predicted: float, lights: float) -> float:
        """Returns the predicted mean, brighter where the image is an underexposed one and no night.

        That is one without lights (see `has_lights`) and with much that seems black and is not.
        """
        doubt = self.telling * (1 - lights) * between(self.quiet, *RECORDED, 0.0, 1.0)
        doubt *= min(self.share / MUCH, 1.0)
        return predicted + doubt * max(USUAL_MEAN - predicted, 0.0)

    def darken(self, predicted: float) -> float:
        """The predicted mean to hold black places by: that of a dark scene if there is nothing in
        them."""
        empty = (1 - self.telling) * min(self.share / DARKEST_SHARE, 1.0)
        return min(predicted, DARK_SCENE[1] - empty * (DARK_SCENE[1] - NIGHT[0]))


def shadows_of(source: Blocks) -> Shadows:
    """Looks at the places of the input that seem black."""
    grey, noise = source.means.mean(1), source.deviations.mean(1)
    dark = (grey < SEEMS_BLACK) & (source.means.amax(1) < 2 * SEEMS_BLACK)  # red light is light
    if not dark.any():
        return Shadows(0.0, 0.0, 0.0)
    share = dark.float().mean().item()
    grey, noise = grey[dark], noise[dark]
    some = grey[: 2**24]
    level, blackest = grey.median(), torch.quantile(some, 0.05)
    typical = noise.median() + ROUNDING
    floor = noise[grey <= torch.quantile(some, 0.1)].median() + ROUNDING
    signal = (level / typical * (level - blackest) / floor).item()
    return Shadows(share, signal, torch.quantile(noise[: 2**24], 0.1).item())


def sky_of(source: Blocks) -> tuple[Tensor, float]:
    """Finds places that are dark and even, and how surely some are brighter than black."""
    grey = source.means.mean(1)
    sky = (grey < SKY) & (source.structure < EVEN + UNEVEN * source.deviations.mean(1))
    share = (sky & (grey >= SEEMS_BLACK)).float().mean().item()
    return sky, between(share, *SKY_SHARE, 0.0, 1.0)


def between(value: float, low: float, high: float, first: float, second: float) -> float:
    """`first` up to `low`, `second` from `high` on, between them on a line."""
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return first + share * (second - first)
