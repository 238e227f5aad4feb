"""Blur that was made on the fly, and is therefore known.

What it lets G learn, without ever showing it the sharp photograph behind A:

- G_inv is that blur (eq. 5: A_recon = blur(L)). With a network as G_inv, L = A costs nothing, since
  G_inv can be the identity as well; with the blur itself only a sharp L gives A back.
- L made smaller is nearly sharp. Blurred along another path it must come back (Chen, Tachella,
  Davies: Equivariant Imaging, 2021; with scale: Scanvic and others: Scale-Equivariant Imaging,
  2023): G sees pairs that it made itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from devudp_model.degrade import Shake, apply_noise, apply_shake

from .exposure import Exposure

BORDER = 12
"""Pixels along a crop's sides where A's blur came from outside of it, and L's cannot."""

MARGIN = 8
"""Pixels around a crop that the made blur may draw in from outside."""


class Noise(NamedTuple):
    """Sensor noise to be added; see `devudp_model.degrade.sensor_noise`."""

    normal: Tensor  # 1,3,H,W, at least as large as the picture
    sigma: float
    grain: float
    levels: int | None

    def __call__(self, x: Tensor) -> Tensor:
        """3,H,W to the same, on any scale."""
        normal = self.normal[..., : x.shape[1], : x.shape[2]].to(x.device, non_blocking=True)
        how = {"sigma": self.sigma, "grain": self.grain, "levels": self.levels}
        return apply_noise(x[None], normal, **how)[0]


class KnownBlur(NamedTuple):
    """How a picture of A came about."""

    shake: Shake
    flip: bool
    exposure: Exposure | None  # what was mapped to the common exposure; None: as it is

    def __call__(self, L: Tensor) -> Tensor:
        """3,H,W in [-1, 1], sharp, to what the camera would have made of it, on A's scale."""
        if self.exposure is not None:
            L = self.exposure.undo(L)
        light = (L.flip(-1) if self.flip else L).clamp(-1, 1).add(1).div(2)
        A = apply_shake(light[None], self.shake)[0] * 2 - 1
        A = A.flip(-1) if self.flip else A
        return A if self.exposure is None else self.exposure.map(A)


class Again(NamedTuple):
    """How a restored picture is to be blurred again.

    `scale` is the share of its size that it is shrunk to beforehand, the same for a whole batch.
    """

    scale: float
    shake: Shake
    noise: Noise | None


class BlurInverse(nn.Module):
    """G_inv without weights: the blur that made A."""

    def forward(self, L: Tensor, blurs: Sequence[KnownBlur]) -> Tensor:
        """B,3,H,W in [-1, 1] to the same."""
        with torch.autocast(L.device.type, enabled=False):
            pairs = zip(L.float(), blurs, strict=True)
            return torch.stack([blur(picture) for picture, blur in pairs])


def interior(x: Tensor) -> Tensor:
    """Without the border in which a crop's blur cannot be known; B,C,H,W, larger than that."""
    return x[..., BORDER:-BORDER, BORDER:-BORDER]


@torch.no_grad()
def blur_again(L: Tensor, how: Sequence[Again]) -> tuple[Tensor, Tensor]:
    """Sharp pictures made from restored ones, and G's input made from those.

    Args:
        L: B,3,H,W in [-1, 1].
        how: n for each, picture by picture.

    Returns:
        Both n B,3,h,w with h = scale H - 2 `MARGIN`.
    """
    sharp = F.interpolate(
        L.float(), scale_factor=how[0].scale, mode="bicubic", antialias=True, align_corners=False
    ).clamp(-1, 1)
    sharp = sharp.repeat_interleave(len(how) // len(L), 0)
    blurry = []
    for picture, again in zip(sharp, how, strict=True):
        taken = apply_shake((picture[None] + 1) / 2, again.shake)[0] * 2 - 1
        blurry.append(taken if again.noise is None else again.noise(taken))
    inside = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    return sharp[inside].contiguous(), torch.stack(blurry)[inside].contiguous()
