"""Mixes a result with the image it was made from."""

from __future__ import annotations

import torch
from torch import Tensor

from ..bands.rows import bands_of, read_rows
from ..ops.dtypes import from_unit, to_unit
from .validate import fit_mask


@torch.inference_mode()
def mix_in_place(
    before: Tensor, restored: Tensor, strength: float = 1.0, mask: Tensor | None = None
) -> None:
    """Takes only a share of what was restored.

    Args:
        before, restored: B,C,H,W of the same type; the second becomes the mixture.
        strength: 0 for the image as it was, 1 for the result.
        mask: as for `restore`, multiplied with the strength.
    """
    if strength == 1 and mask is None:
        return
    mask = None if mask is None else fit_mask(mask, before)
    for band in bands_of(before):
        first, second = (to_unit(read_rows(each, *band)) for each in (before, restored))
        share = torch.full((), strength, device=before.device)
        if mask is not None:
            own = (min(band[0], len(mask) - 1), *band[1:])
            share = share * to_unit(read_rows(mask, *own)).to(before.device)
        mixed = from_unit(torch.lerp(first, second, share.expand_as(first)), before.dtype)
        read_rows(restored, *band).copy_(mixed)
