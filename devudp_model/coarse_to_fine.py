"""Coarse to fine: in a smaller image long blur is short, and the network was trained on short blur.

The image is deblurred at a fraction of its size, and the change is enlarged and added to it; then
the same at twice that fraction, and so on. The result is the network's input at the full size. At
the smaller sizes, sharp places are left alone. This adds a third to the work, or a quarter with one
smaller size. For networks without whole-image statistics (DEvUDP-DT).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from .filters import GREY_LEVEL, window_mean

SCALES = (8, 4, 2)
"""The images are made smaller by these factors, one after the other."""

LEAST_SIDE = 180
"""Pixels of the short side that a smaller image has at least: about that of the smallest
photographs which the network was trained on (192). In smaller ones, details look like blur."""

SHARP = 0.7
"""Ratio of fine-band to coarser-band RMS above which a place counts as sharp and is not changed."""

BLURRED = 0.3
"""Ratio below which it counts as blurred, and the network's change is taken in full."""

SHARE_RADIUS = 2
"""The RMS values are taken over windows of 2 r + 1 blocks of 4x4 pixels."""

STRIP_PIXELS = 2**18
"""Approximate size of the strips in which a change is enlarged."""

HALO = 2
"""Pixels of support that bicubic interpolation needs on each side."""


def scales_for(height: int, width: int) -> tuple[int, ...]:
    """The factors by which an image of this size is made smaller."""
    return tuple(scale for scale in SCALES if min(height, width) >= LEAST_SIDE * scale)


def coarse_to_fine(
    run: Callable[[Tensor], Tensor], image: Tensor, scales: Sequence[int] | None = None
) -> Tensor:
    """Restores images at the coarser scales.

    Args:
        run: the network, B,3,h,w in [0, 1] to the same.
        image: B,3,H,W in [0, 1], float32; is written to.
        scales: the factors; those of `scales_for` if None.

    Returns:
        `image`.
    """
    scales = scales_for(*image.shape[2:]) if scales is None else scales
    for scale in scales:
        small = shrink(image, scale)
        add_enlarged(image, run(small) - small, scale)
        image.clamp_(0, 1)
    return image


def where_blurred(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`run`, limited to blurred places; see `blurred_share`."""
    return lambda image: image + blurred_share(image) * (run(image) - image)


def blurred_share(image: Tensor) -> Tensor:
    """How much each place is blurred, so that a network at this size can improve it.

    Compares the finest band with a band four times as coarse. A sharp photograph has about as much
    of both (Field: Relations between the statistics of natural images and the response properties
    of cortical cells, 1987); blur removes the finest band.

    Args:
        image: B,3,H,W in [0, 1].

    Returns:
        B,1,H,W in [0, 1]: 0 where it is sharp.
    """
    grey = image.mean(1, keepdim=True)
    fine = window_mean(shrink(finest(grey).square(), 4), SHARE_RADIUS)
    coarse = window_mean(finest(shrink(grey, 4)).square(), SHARE_RADIUS)
    ratio = ((fine + GREY_LEVEL**2 / 4) / (coarse + 4 * GREY_LEVEL**2)).sqrt()
    share = ((SHARP - ratio) / (SHARP - BLURRED)).clamp(0, 1)
    share = F.interpolate(share, scale_factor=4.0, mode="bilinear")
    return share[..., : image.shape[2], : image.shape[3]]


def finest(x: Tensor) -> Tensor:
    """The finest band of B,C,H,W: what is lost at half the size."""
    detail = x.clone()
    add_enlarged(detail, -shrink(x, 2), 2)
    return detail


def shrink(image: Tensor, scale: int) -> Tensor:
    """B,C,H,W to B,C,h,w with h = H / `scale`, rounded up: the means of squares of pixels."""
    return F.avg_pool2d(image, scale, ceil_mode=True, count_include_pad=False)


def add_enlarged(image: Tensor, change: Tensor, scale: int) -> None:
    """Adds B,C,h,w, enlarged to the size of B,C,H,W, in place."""
    width = image.shape[3]
    rows = max(1, STRIP_PIXELS // (width * scale))
    for start in range(0, change.shape[2], rows):
        stop, top = min(start + rows, change.shape[2]), max(start - HALO, 0)
        enlarged = F.interpolate(
            change[:, :, top : stop + HALO], scale_factor=float(scale), mode="bicubic"
        )
        place = image[:, :, start * scale : stop * scale]
        first = (start - top) * scale
        place += enlarged[:, :, first : first + place.shape[2], :width]
