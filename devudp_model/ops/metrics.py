"""PSNR, SSIM and MAE of 8-bit images: exact sums or float64, with torch alone.

The protocol of the paper's tables: 8-bit outputs against 8-bit references. Equal to scikit-image's
``structural_similarity(channel_axis=2, gaussian_weights=True, use_sample_covariance=False,
data_range=255)`` and ``peak_signal_noise_ratio(data_range=255)``, which the tests show.

Images are compared in bands of rows, so that large ones take little memory beside themselves.

    from devudp_model.ops.metrics import psnr, ssim, mae
    psnr(restored, reference)        # both 3,H,W uint8
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

PEAK = 255.0

WINDOW = 11
"""Side of SSIM's Gaussian window (Wang et al., 2004), which ends at 3.5 standard deviations."""

SIGMA = 1.5

PRODUCT_SIDE = 512
"""Up to this side, means are a matrix product: for a training's crops six times as fast, with the
gradient, as convolutions of one channel. For large images it would be more work than those."""

BAND_PIXELS = 2**18
"""Of one channel, which are in float64 at a time; SSIM has a dozen numbers for each."""


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal images.

    Args:
        a, b: 3,H,W uint8 (any number of channels).

    Raises:
        ValueError: not two uint8 images of one size.
    """
    check_pair(a, b)
    total = sum(int((x - y).square().sum()) for x, y in bands(a, b, torch.int32))
    return decibels(total / a.numel())


def mae(a: Tensor, b: Tensor) -> float:
    """Mean absolute error on the scale 0..255. Arguments and errors as for `psnr`."""
    check_pair(a, b)
    return sum(int((x - y).abs().sum()) for x, y in bands(a, b, torch.int32)) / a.numel()


def decibels(error: float) -> float:
    """PSNR of a mean squared error on the scale 0..255."""
    return 10 * math.log10(PEAK**2 / error) if error else math.inf


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity: each channel's mean over all whole windows, then the channels' mean.

    Args:
        a, b: 3,H,W uint8 (any number of channels), H and W at least 11.

    Raises:
        ValueError: not two uint8 images of one size, or smaller than the window.
    """
    check_pair(a, b)
    height, width = a.shape[-2:]
    if min(height, width) < WINDOW:
        raise ValueError(
            f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels, and this one has "
            f"{width}x{height}: it compares windows of that size. Leave such small images out."
        )
    return mean_over_windows(similarity_map, a, b)


def mean_over_windows(
    measure: Callable[[Tensor, Tensor, float], Tensor], a: Tensor, b: Tensor
) -> float:
    """The mean over channels and whole windows, in bands, of two images on the scale 0..255.

    Args:
        measure: such as `similarity_map`.
        a, b: C,H,W, H and W at least 11.
    """
    channels, height, width = a.shape
    parts = bands(a, b, torch.float64, WINDOW - 1)
    total = sum(measure(x, y, PEAK).sum().item() for x, y in parts)
    return total / (channels * (height - WINDOW + 1) * (width - WINDOW + 1))


def similarity(x: Tensor, y: Tensor, peak: float) -> Tensor:
    """SSIM, a scalar with a gradient, of ...,H,W (H and W at least 11) in [0, `peak`]."""
    return similarity_map(x.flatten(0, -3), y.flatten(0, -3), peak).mean()


def similarity_map(x: Tensor, y: Tensor, peak: float) -> Tensor:
    """SSIM of each whole window: C,H,W to C,H-10,W-10."""
    luminance, structure = luminance_and_structure(x, y, peak)
    return luminance * structure


def luminance_and_structure(x: Tensor, y: Tensor, peak: float) -> tuple[Tensor, Tensor]:
    """SSIM's two factors for each whole window: C,H,W to C,H-10,W-10 each."""
    C1, C2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    cov = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * cov + C2) / (var_x + var_y + C2)
    return luminance, structure


def check_pair(a: Tensor, b: Tensor) -> None:
    """Raises a ValueError for images that cannot be compared."""
    for image in (a, b):
        if image.dtype != torch.uint8 or image.ndim != 3:
            raise ValueError(
                f"the metrics compare 8-bit images (3,H,W uint8), not {tuple(image.shape)} "
                f"{image.dtype}: round to 0..255 first, as saving to a file would"
            )
    if a.shape != b.shape:
        raise ValueError(
            f"the images differ in size: {tuple(a.shape)} and {tuple(b.shape)}. "
            "Crop or scale one of them first; which one is a matter of the protocol"
        )


def bands(
    a: Tensor, b: Tensor, dtype: torch.dtype, overlap: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Cuts two images into bands of one channel, 1,h,W in `dtype`, of about `BAND_PIXELS`.

    Args:
        a, b: C,H,W, H at least `overlap` + 1.
        dtype: of the bands.
        overlap: rows that a band shares with the next one.
    """
    height, width = a.shape[-2:]
    rows = max(BAND_PIXELS // max(width, 1), 1)
    for channel in range(len(a)):
        for top in range(0, height - overlap, rows):
            band = slice(top, top + rows + overlap)
            yield a[channel, None, band].to(dtype), b[channel, None, band].to(dtype)


def blur(x: Tensor) -> Tensor:
    """C,H,W to C,H-10,W-10: the Gaussian window's means, where the window fits."""
    height, width = x.shape[-2:]
    if max(height, width) <= PRODUCT_SIDE:
        return window_at_each(height, x) @ x @ window_at_each(width, x).mT
    window = window_at_each(WINDOW, x)
    down = F.conv2d(x[:, None], window.view(1, 1, -1, 1))
    return F.conv2d(down, window.view(1, 1, 1, -1))[:, 0]


def window_at_each(side: int, like: Tensor) -> Tensor:
    """Returns S-10,S: the Gaussian window at each of its positions along a side."""
    positions = torch.arange(side, dtype=like.dtype, device=like.device)
    offsets = positions - positions[: side - WINDOW + 1, None] - WINDOW // 2
    window = torch.exp(-0.5 * (offsets / SIGMA) ** 2) * (offsets.abs() <= WINDOW // 2)
    return window / window.sum(1, keepdim=True)
