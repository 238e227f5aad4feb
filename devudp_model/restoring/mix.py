"""Mixes a result with the image it was made from."""

from __future__ import annotations

import torch
from torch import Tensor

from ..bands.rows import bands_of, read_rows
from ..ops.dtypes import from_unit, to_unit
from ..ops.filters import keep_white
from .validate import fit_mask


@torch.inference_mode()
def mix_in_place(
    before: Tensor,
    restored: Tensor,
    strength: float = 1.0,
    mask: Tensor | None = None,
    *,
    white: bool = False,
) -> None:
    """Takes only a share of what was restored.

    Hidden pixels (alpha 0) keep nothing of their own colour but where the mask is 0.

    Args:
        before, restored: B,C,H,W of the same type; the second becomes the mixture.
        strength: 0 for the image as it was, 1 for the result.
        mask: as for `restore`, multiplied with the strength.
        white: what is white stays white, see `keep_white`.
    """
    if strength == 1 and mask is None and not white:
        return
    mask = None if mask is None else fit_mask(mask, before)
    for band in bands_of(before):
        first, second = (to_unit(read_rows(each, *band)) for each in (before, restored))
        share = torch.ones((), device=before.device)
        if mask is not None:
            own = (min(band[0], len(mask) - 1), *band[1:])
            share = to_unit(read_rows(mask, *own)).to(before.device)
        kept = (
            torch.cat([keep_white(first[:, :3], second[:, :3]), second[:, 3:]], 1)
            if white
            else second
        )
        hidden = first[:, 3:] <= 0  # of no channel without alpha
        if hidden.shape[1]:
            kept = torch.where(hidden, second, kept)
            share = torch.where(hidden, (share > 0).float(), strength * share)
        else:
            share = strength * share
        mixed = from_unit(torch.lerp(first, kept, share.expand_as(first)), before.dtype)
        read_rows(restored, *band).copy_(mixed)
