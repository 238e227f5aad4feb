"""Draws looks of no average daylight photograph: night, light of one colour, borders.

`draw_look` takes the random decisions for one crop, in a loader's worker; the rest is arithmetic on
the crops of a step. A night photograph keeps its own exposure in the losses, for "the common
exposure" of a night is fog. Strong light of one colour belongs to the scene: it is in G's input
and in the losses, and G has to keep it. A white balance that is slightly off is an error of the
camera: it is in the input alone, and G has to undo it. The two do not overlap: `WEAK` is
weaker than any white balance that is worth training on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from devudp_model.ops.degrade import to_linear, to_srgb, uniform

from ..config import DataConfig

BLACK, BLACK_SHARE = 10, 0.1
"""A photograph of a night has at least this share of pixels that are darker than this, of 255."""

LUMA = (0.299, 0.587, 0.114)

WEAK = (2.0, 6.0)
"""In light of one colour, a channel that is not of that colour has this many stops less."""

WIDEST = 0.25
"""Widest border, as a share of the crop's side."""

BRIGHTER = 2.0
"""Borders are up to so many stops brighter than white in the inputs: the photograph inside may be
much darker than the page that it lies on."""

SIDES = ((1, 1, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0),
         (0, 0, 0, 1))  # fmt: skip
"""Where a border can be: top, bottom, left, right."""


class Look(NamedTuple):
    """Holds what is special about one crop.

    Attributes:
        own: it keeps its photograph's exposure in the losses.
        light: gain of each channel in linear light, in inputs and losses.
        balance: gain of each channel in linear light, in the input.
        border: its width at the top, bottom, left and right, pixels.
        level: of the border, from 0 (black) to 1 (white).
        boost: the border is so many times as bright in the input, in sRGB values.
    """

    own: bool = False
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    level: float = 0.0
    boost: float = 1.0


PLAIN = Look()


class Looks(NamedTuple):
    """The looks of N crops. `own`, `level`, `boost` N; `light`, `balance` N,3; `border` N,4."""

    own: Tensor
    light: Tensor
    balance: Tensor
    border: Tensor
    level: Tensor
    boost: Tensor


def is_night(pixels: np.ndarray, below: float) -> bool:
    """True if a photograph (H,W,3 uint8) is dark on purpose: dark on average, with black places.

    Args:
        below: its mean is less than this, from 0 (black) to 1 (white); at 0 no photograph is.
    """
    if not below:
        return False
    luma = pixels[::2, ::2].astype(np.float32) @ np.array(LUMA, np.float32)
    return bool(luma.mean() < below * 255 and (luma < BLACK).mean() >= BLACK_SHARE)


def draw_look(rng: torch.Generator, config: DataConfig, night: bool) -> Look:
    """Returns a crop's look. No random number is drawn for what the settings leave out."""
    look = Look(own=night)
    if config.coloured_light and uniform(rng, 0, 1) < config.coloured_light:
        look = look._replace(light=draw_light(rng))
    if config.white_balance:
        most = config.white_balance
        r, g, b = (2 ** uniform(rng, -most, most) for _ in range(3))
        look = look._replace(balance=(r, g, b))
    if config.border_share and uniform(rng, 0, 1) < config.border_share:
        look = draw_border(rng, look, config.crop)
    return look


def draw_light(rng: torch.Generator) -> tuple[float, float, float]:
    """Gains of light of one colour: one or two channels are strong, the others weak."""
    kind = int(uniform(rng, 1, 7))  # bits of the strong channels: neither none nor all
    r, g, b = (
        uniform(rng, 0.6, 1) if kind >> k & 1 else 2 ** -uniform(rng, *WEAK) for k in range(3)
    )
    return r, g, b


def draw_border(rng: torch.Generator, look: Look, side: int) -> Look:
    """A look with a border: often black or white, else grey; narrow ones are more frequent."""
    where = SIDES[int(uniform(rng, 0, len(SIDES)))]
    width = max(1, round(side * WIDEST * uniform(rng, 0, 1) ** 2))
    kind, grey = uniform(rng, 0, 1), uniform(rng, 0, 1)
    level = 0.0 if kind < 0.5 else 1.0 if kind < 0.8 else grey
    top, bottom, left, right = (width * s for s in where)
    boost = 2 ** uniform(rng, 0, BRIGHTER)
    return look._replace(border=(top, bottom, left, right), level=level, boost=boost)


def stack_looks(looks: Sequence[Look]) -> Looks | None:
    """Returns the looks of a step's crops; None if nothing is special about any."""
    if all(look == PLAIN for look in looks):
        return None
    own, *rest = zip(*looks, strict=True)
    return Looks(torch.tensor(own), *map(torch.tensor, rest))


def gain_light(image: Tensor, gains: Tensor) -> Tensor:
    """N,3,H,W, sRGB values from 0, with N,3 gains in linear light; those of 1 change nothing."""
    gained = to_srgb(to_linear(image) * gains[..., None, None])
    return torch.where((gains == 1).all(1).view(-1, 1, 1, 1), image, gained)


def in_light(image: Tensor, looks: Looks) -> Tensor:
    """N,3,H,W in [-1, 1], in the light that each look asks for."""
    plain = (looks.light == 1).all(1).view(-1, 1, 1, 1)
    return torch.where(plain, image, gain_light((image + 1) / 2, looks.light) * 2 - 1)


def with_border(image: Tensor, looks: Looks, values: Tensor) -> Tensor:
    """N,3,H,W with each look's border in its value of `values` (N)."""
    height, width = image.shape[-2:]
    top, bottom, left, right = (x.view(-1, 1, 1) for x in looks.border.unbind(1))
    y = torch.arange(height, device=image.device).view(1, -1, 1)
    x = torch.arange(width, device=image.device).view(1, 1, -1)
    inside = (y >= top) & (y < height - bottom) & (x >= left) & (x < width - right)
    return torch.where(inside[:, None], image, values.view(-1, 1, 1, 1).to(image.dtype))
