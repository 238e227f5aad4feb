"""Measures by the protocols that published numbers follow.

Each gives the numbers of the program that it is named after, which the tests run beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from devudp_model.ops.metrics import (
    PEAK,
    WINDOW,
    bands,
    check_pair,
    decibels,
    luminance_and_structure,
    mae,
    mean_over_windows,
    psnr,
    similarity_map,
    ssim,
)

from .alignment import aligned

Values = dict[str, float]
"""Of one pair of images, by the metric's name."""

MATLAB_Y = (65.481 / 255, 128.553 / 255, 24.966 / 255)
"""Of R, G and B on the scale 0..255; MATLAB's and BT.601's Y begins at `MATLAB_BLACK`."""

MATLAB_BLACK = 16.0

YIQ_Y = (0.299, 0.587, 0.114)

HALF = WINDOW // 2
"""Pixels of SSIM's window to each side of its centre."""

PYIQA_FLOOR = 1e-8
"""What pyiqa adds to the mean squared error of images in [0, 1]: PSNR ends at 80 dB."""


@dataclass(frozen=True)
class Protocol:
    """A way to measure.

    Attributes:
        name: on the command line, in results.json and beside tables.
        columns: the metrics, in the order of the table; `lpips` is added where it can be had.
        compare: 3,H,W uint8 twice, the image and its reference, to all metrics but LPIPS.
        text: what a reader needs to know to compare with other numbers.
        aligns: whether the image is aligned with its reference first.
    """

    name: str
    columns: tuple[str, ...]
    compare: Callable[[Tensor, Tensor], Values]
    text: str
    aligns: bool = False


def luma(image: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """3,H,W uint8 to 1,H,W float64, a weighted sum of the channels."""
    return sum(w * channel.double() for w, channel in zip(weights, image, strict=True))[None]  # pyright: ignore


def mean_square(a: Tensor, b: Tensor) -> float:
    """Returns the mean squared difference of C,H,W, in bands."""
    parts = bands(a, b, torch.float64)
    return sum((x - y).square().sum().item() for x, y in parts) / a.numel()


def as_the_paper(a: Tensor, b: Tensor) -> Values:
    """PSNR, SSIM and MAE of all channels."""
    return {"psnr": psnr(a, b), "ssim": ssim(a, b), "mae": mae(a, b)}


def as_basicsr(a: Tensor, b: Tensor) -> Values:
    """`calculate_psnr` and `calculate_ssim`, without and with `test_y_channel`; no crop."""
    x, y = (luma(image, MATLAB_Y) + MATLAB_BLACK for image in (a, b))
    return {
        "psnr": psnr(a, b),
        "ssim": ssim(a, b),
        "psnr_y": decibels(mean_square(x, y)),
        "ssim_y": mean_over_windows(similarity_map, x, y),
    }


def clipped_similarity_map(x: Tensor, y: Tensor, peak: float) -> Tensor:
    """`similarity_map` with pyiqa's structure, which is not negative."""
    luminance, structure = luminance_and_structure(x, y, peak)
    return luminance * structure.clamp(min=0)


def as_pyiqa(a: Tensor, b: Tensor) -> Values:
    """pyiqa's metrics "psnr", "psnry", "ssim" (of Y) and "ssimc" (of RGB)."""
    check_pair(a, b)
    x, y = (luma(image, YIQ_Y) for image in (a, b))
    errors = (mean_square(*pair) + PYIQA_FLOOR * PEAK**2 for pair in ((a, b), (x, y)))
    of_rgb, of_y = map(decibels, errors)
    return {
        "psnr": of_rgb,
        "psnr_y": of_y,
        "ssim_y": mean_over_windows(clipped_similarity_map, x.round(), y.round()),
        "ssim": mean_over_windows(clipped_similarity_map, a, b),
    }


def as_realblur(a: Tensor, b: Tensor) -> Values:
    """RealBlur's official evaluation: PSNR and SSIM of what the aligned images share."""
    check_pair(a, b)
    image, reference, mask = aligned(a, b)
    error = mean_square(image, reference) * mask.numel() / mask.sum().item()
    total = count = 0.0
    whole = bands(image, reference, torch.float64, 2 * HALF)
    inside = bands(mask.expand_as(image), mask.expand_as(image), torch.float64, 2 * HALF)
    for (x, y), (covered, _) in zip(whole, inside, strict=True):
        centres = covered[:, HALF:-HALF, HALF:-HALF]
        total += (similarity_map(x, y, 1.0) * centres).sum().item()
        count += centres.sum().item()
    return {"psnr": decibels(error * PEAK**2), "ssim": total / count}


PAPER_PROTOCOL = Protocol(
    "paper",
    ("psnr", "ssim", "mae", "lpips"),
    as_the_paper,
    "8-bit RGB. PSNR and MAE over all values; SSIM by an 11x11 Gaussian window (sigma 1.5), of "
    "each channel, over whole windows (no borders); LPIPS 0.1 with AlexNet. Nothing is cropped, "
    "aligned, or matched in brightness. The numbers of scikit-image with gaussian_weights=True, "
    "use_sample_covariance=False.",
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        PAPER_PROTOCOL,
        Protocol(
            "basicsr",
            ("psnr", "ssim", "psnr_y", "ssim_y"),
            as_basicsr,
            "The numbers of BasicSR's calculate_psnr and calculate_ssim with crop_border=0. PSNR "
            "and SSIM: 8-bit RGB (test_y_channel=False). PSNR Y and SSIM Y: MATLAB's Y of YCbCr "
            "(16 to 235), not rounded (test_y_channel=True). SSIM by an 11x11 Gaussian window "
            "over whole windows.",
        ),
        Protocol(
            "pyiqa",
            ("psnr", "psnr_y", "ssim_y", "ssim", "lpips"),
            as_pyiqa,
            "The numbers of pyiqa's metrics psnr (PSNR, of RGB, 80 dB at most), psnry (PSNR Y), "
            "ssim (SSIM Y), ssimc (SSIM, of RGB) and lpips (AlexNet). Y is that of YIQ (0 to 255), "
            "rounded for SSIM, whose structure is not negative.",
        ),
        Protocol(
            "realblur",
            ("psnr", "ssim"),
            as_realblur,
            "RealBlur's official evaluation: each image is scaled to the reference's brightness "
            "by one factor, aligned with it by an ECC homography (OpenCV), and compared where it "
            "covers it. RGB; SSIM by an 11x11 Gaussian window.",
            aligns=True,
        ),
    )
}
