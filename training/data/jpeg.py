"""Does to an image what JPEG does, on any device: 8x8 DCT, its tables, 4:2:0 chroma.

A real codec would work on one image at a time on the CPU, in between blur and network on the GPU.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
"""ITU-T T.81, table K.1."""

CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99), (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)  # fmt: skip
"""ITU-T T.81, table K.2."""

TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""JFIF: RGB to Y, Cb, Cr (around 0)."""


@cache
def constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns the DCT's matrix, both quantisation tables, RGB to YCbCr and back."""
    k = torch.arange(8.0)
    dct = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) / 2
    dct[0] /= math.sqrt(2)
    ycc = torch.tensor(TO_YCC)
    tables = [torch.tensor(t, dtype=torch.float32) for t in (LUMA, CHROMA)]
    return tuple(x.to(device) for x in (dct, *tables, ycc, torch.linalg.inv(ycc)))  # pyright: ignore


def jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """Images as they come back from JPEG files.

    Args:
        image: N,3,H,W in [0, 1] (values outside are clipped).
        quality: N, from 1 to 100, as libjpeg counts it.

    Returns:
        N,3,H,W in [0, 1].
    """
    height, width = image.shape[-2:]
    dct, luma, chroma, to_ycc, to_rgb = constants(image.device)
    grow = (0, -width % 16, 0, -height % 16)
    image = F.pad(image.float().clamp(0, 1), grow, mode="replicate") * 255 - 128
    Y, *C = torch.einsum("ij,njhw->nihw", to_ycc, image).split(1, dim=1)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    chroma_planes = F.avg_pool2d(torch.cat(C, 1), 2)
    Y = quantise(Y, luma, scale, dct)
    small = quantise(chroma_planes, chroma, scale, dct)
    full = torch.cat([Y, F.interpolate(small, scale_factor=2.0, mode="bilinear")], 1)
    rgb = torch.einsum("ij,njhw->nihw", to_rgb, full)
    return ((rgb.round() + 128) / 255).clamp(0, 1)[..., :height, :width]


def quantise(plane: Tensor, table: Tensor, scale: Tensor, dct: Tensor) -> Tensor:
    """N,C,H,W (multiples of 8) with each 8x8 block's DCT coefficients rounded to the table."""
    n, c, height, width = plane.shape
    steps = (table * scale.view(-1, 1, 1)).round().clamp(1, 255)
    steps = steps.view(n, 1, 1, 1, 8, 8)
    blocks = plane.view(n, c, height // 8, 8, width // 8, 8).transpose(3, 4)
    coded = (dct @ blocks @ dct.T / steps).round() * steps
    return (dct.T @ coded @ dct).transpose(3, 4).reshape(n, c, height, width)
