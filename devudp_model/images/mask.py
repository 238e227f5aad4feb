"""Masks out of image files."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from ..bands.rows import bands_of
from ..ops.dtypes import to_unit
from .reading import read_stored


def read_mask(path: str | os.PathLike[str]) -> Tensor:
    """Reads a mask, white where to restore: 1,1,H,W; grey as it is stored, others as float32.

    What is transparent does not count: what lies hidden there is often white.

    Raises:
        ImageError: as `read_image`.
    """
    image = read_stored(path)
    pixels = image.origin.pixels if image.origin is not None else image.pixels
    if pixels.shape[1] == 1 and image.alpha is None and not pixels.is_floating_point():
        return pixels
    mask = torch.empty(1, 1, *pixels.shape[2:])
    for _, start, stop in bands_of(pixels):
        rows = slice(start, stop)
        mask[:, :, rows] = to_unit(pixels[:, :, rows]).mean(1, keepdim=True).clamp(0, 1)
        if image.alpha is not None:
            mask[:, :, rows] *= to_unit(image.alpha[:, :, rows]).clamp(0, 1)
    return mask
