"""Blur that was made on the fly, and is therefore known.

What it lets G learn, without ever showing it the sharp photograph behind A:

- G_inv is that blur (eq. 5: A_recon = blur(L)). With a network as G_inv, L = A costs nothing, since
  G_inv can be the identity as well; with the blur itself only a sharp L gives A back.
- A picture made smaller is sharper, since its blur shrinks with it. Blurred along another path it
  must come back (Chen, Tachella, Davies: Equivariant Imaging, 2021; with scale: Scanvic and others:
  Scale-Equivariant Imaging, 2023). That picture is L (`blur_again`), or A itself (data.again_of).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from devudp_model.degrade import Shake, apply_noise, apply_shake

from ..data.exposure import Exposure

BORDER = 12
"""Pixels along a crop's sides where A's blur came from outside of it, and L's cannot."""

MARGIN = 8
"""Pixels around a crop that the made blur may draw in from outside."""

POSES_PER_PIXEL = 1.5
"""Of a straight movement: closer together, its streaks look no different."""

PART_SOFTNESS = 0.1
"""How softly a part that moves on its own goes over into the rest: a share of the mask's spread."""


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


class Part(NamedTuple):
    """A part of the picture that moves in a way of its own, as objects do."""

    shake: Shake
    relief: Tensor  # 1,1,h,w; stretched over the picture, the part is where it is above 0

    def mask(self, height: int, width: int) -> Tensor:
        """1,1,`height`,`width` in [0, 1]."""
        size = (height, width)
        relief = F.interpolate(self.relief, size, mode="bicubic", align_corners=True)
        return torch.sigmoid(relief / PART_SOFTNESS)


class Blur(NamedTuple):
    """How a picture was blurred: the camera's movement, and that of a part."""

    shake: Shake
    part: Part | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """3,H,W in [0, 1] to the same."""
        blurry = apply_shake(x[None], self.shake)
        if self.part is not None:
            mask = self.part.mask(*x.shape[1:]).to(x.device, non_blocking=True)
            blurry = blurry.lerp(apply_shake(x[None], self.part.shake), mask)
        return blurry[0]


def within(x: Tensor, margin: int = MARGIN) -> Tensor:
    """Without `margin` pixels along each side; ...,H,W."""
    return x[..., margin:-margin, margin:-margin]


class KnownBlur(NamedTuple):
    """How a picture of A came about."""

    blur: Blur
    flip: bool
    exposure: Exposure | None  # what was mapped to the common exposure; None: as it is

    def __call__(self, L: Tensor) -> Tensor:
        """3,H,W in [-1, 1], sharp, to what the camera would have made of it, on A's scale."""
        if self.exposure is not None:
            L = self.exposure.undo(L)
        light = (L.flip(-1) if self.flip else L).clamp(-1, 1).add(1).div(2)
        # The camera saw a margin around it as well, and turned around a point of the whole.
        light = F.pad(light, (MARGIN,) * 4, mode="reflect")
        A = within(self.blur(light)) * 2 - 1
        A = A.flip(-1) if self.flip else A
        return A if self.exposure is None else self.exposure.map(A)


def straight_shake(
    rng: torch.Generator,
    directions: int,
    *,
    extent: float,
    highlights: float = 0.0,
    curve: float | None = None,
) -> Shake:
    """An even movement along one of some directions, evenly spaced from level on.

    Args:
        rng: draws which one.
        directions: how many there are.
        extent: length of the streaks in pixels.
        highlights, curve: as for `Shake`.
    """
    angle = math.pi * int(torch.randint(directions, (), generator=rng)) / directions
    along = torch.linspace(-0.5, 0.5, max(round(extent * POSES_PER_PIXEL), 2))
    path = torch.stack([along * math.cos(angle), along * math.sin(angle), along * 0], 1)
    return Shake(path, (0.0, 0.0), extent, 0.0, highlights, curve)


class Again(NamedTuple):
    """How a restored picture is to be blurred again.

    `scale` is the share of its size that it is shrunk to beforehand, the same for a whole batch.
    """

    scale: float
    blur: Blur
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
    return within(x, BORDER)


@torch.no_grad()
def blur_again(L: Tensor, how: Sequence[Again]) -> tuple[Tensor, Tensor]:
    """Sharp pictures made from restored ones, and G's input made from those.

    Args:
        L: B,3,H,W in [-1, 1].
        how: one for each.

    Returns:
        Both B,3,h,w with h = scale H - 2 `MARGIN`.
    """
    sharp = F.interpolate(
        L.float(), scale_factor=how[0].scale, mode="bicubic", antialias=True, align_corners=False
    ).clamp(-1, 1)
    blurry = []
    for picture, again in zip(sharp, how, strict=True):
        taken = again.blur((picture + 1) / 2) * 2 - 1
        blurry.append(taken if again.noise is None else again.noise(taken))
    return within(sharp).contiguous(), within(torch.stack(blurry)).contiguous()
