"""Checks what `restore` is given, and finds out if there is anything to restore."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bands.rows import bands_of, read_rows
from ..engine.statistics import channel_moments, moments_of
from ..ops.dtypes import LARGEST, to_unit, without_alpha
from .blocks import BLOCK, blocks_of

FLAT = 0.2 / 255
"""A channel whose standard deviation is below this has no contrast: less than what rounding to
8 bits adds (0.29 / 255)."""

MAX_NOISE, MIN_STRUCTURE = 3 / 255, 0.5 / 255
"""Nor has one whose standard deviation is below the first, if that of the means of its squares of
`BLOCK` pixels is below the second: that is a black frame, or a lens cap, with its noise."""

ENOUGH_BLOCKS = 16
"""With fewer squares, nothing is said of noise."""


def is_flat(image: Tensor) -> bool:
    """True if there is nothing in B,C,H,W (alpha does not count).

    Each channel is one value, but for very few pixels; or one value and noise of a few levels.
    Each is looked at on its own: a coloured area is as flat as a grey one.
    """
    bands, total = list(bands_of(image)), image.numel() // image.shape[1]

    def colours(number: int) -> Tensor:
        return to_unit(without_alpha(read_rows(image, *bands[number])))

    first = channel_moments(colours(0))
    # The variance within a part is a part of the whole's: as a rule the first one tells.
    if (first.var.cpu() * first.size > 2 * total * MAX_NOISE**2).any():
        return False
    if is_one_colour(image):
        return True
    variance = moments_of(colours, len(bands)).var
    blocks = image.shape[0] * (image.shape[2] // BLOCK) * (image.shape[3] // BLOCK)
    if blocks < ENOUGH_BLOCKS or (variance > MAX_NOISE**2).any():
        return False
    return bool((blocks_of(image[:, :3]).means.std(0) < MIN_STRUCTURE).all())


def is_one_colour(image: Tensor) -> bool:
    """True if each channel of B,C,H,W is one value, but for very few pixels (without alpha)."""
    bands = list(bands_of(image))
    variance = moments_of(lambda n: to_unit(read_rows(image, *bands[n])[:, :3]), len(bands)).var
    return bool((variance < FLAT**2).all())


def check_image(image: Tensor) -> None:
    """Raises ValueError unless `restore` can take it."""
    if image.ndim != 4 or image.shape[1] not in (1, 3, 4) or 0 in image.shape[2:]:
        raise ValueError(
            f"image has shape {tuple(image.shape)}: give B,C,H,W with C = 1, 3 or 4 and at least "
            "one pixel"
        )
    if not image.is_floating_point() and image.dtype not in LARGEST:
        raise ValueError(
            f"image is {image.dtype}: give floating point numbers in [0, 1], uint8 or uint16"
        )
    if not image.is_floating_point():
        return
    if image.numel() and not torch.stack(torch.aminmax(image)).cpu().isfinite().all():
        raise ValueError(
            "image has pixels that are not finite (NaN or infinite), which would spread over all "
            "of it: repair the step before, or use image.nan_to_num()"
        )


def fit_mask(mask: Tensor, image: Tensor) -> Tensor:
    """H,W or B,H,W or B,1,H,W to B,1,H,W of the image's size.

    Whole numbers over their type's range (see dtypes.py) stay what they are, unless they have to be
    resized; all else becomes float32 in [0, 1].
    """
    shape = tuple(mask.shape)
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim == 3:
        mask = mask[:, None]
    if mask.ndim != 4 or mask.shape[1] != 1 or len(mask) not in (1, len(image)):
        raise ValueError(
            f"mask has shape {shape}: give H,W or B,H,W or B,1,H,W with B = 1 or {len(image)}"
        )
    resized = mask.shape[2:] != image.shape[2:]
    if mask.dtype in LARGEST and not resized:
        return mask
    mask = to_unit(mask)
    if mask.numel() and not torch.stack(torch.aminmax(mask)).isfinite().all():
        raise ValueError(
            "mask has values that are not finite (NaN or infinite): repair the step before, or use "
            "mask.nan_to_num()"
        )
    mask = mask.clamp(0, 1)
    if resized:
        mask = F.interpolate(mask, image.shape[2:], mode="bilinear", antialias=True)
    return mask
