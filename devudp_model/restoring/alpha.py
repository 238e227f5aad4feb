"""Joins an image file's pixels and its alpha for restoring, and parts them again."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.dtypes import from_colour, from_unit, indexable, to_unit
from .content import is_opaque


def with_alpha(pixels: Tensor, alpha: Tensor | None) -> Tensor:
    """Pixels 1,C,H,W with their alpha, 1,1,H,W, as 1,4,H,W; as they are if all is opaque.

    Without it, pixels that nobody sees would decide how the others are restored.
    """
    if alpha is None or is_opaque(alpha):
        return pixels
    if alpha.dtype != pixels.dtype:  # colours may have been converted, in float
        alpha = from_unit(to_unit(alpha), pixels.dtype)
    parts = [indexable(x) for x in (pixels.expand(-1, 3, -1, -1), alpha)]
    return torch.cat(parts, 1).view(pixels.dtype)


def without_alpha(restored: Tensor, pixels: Tensor) -> Tensor:
    """The colours of what was restored `with_alpha`, of as many channels as `pixels`."""
    if restored.shape[1] == pixels.shape[1]:
        return restored
    colours = restored[:, :3]
    if pixels.shape[1] == 3:
        return colours
    return from_unit(from_colour(to_unit(colours), pixels.shape[1]), pixels.dtype)
