"""A working size: the network runs on a smaller copy of a large image.

What it changes is brought to the full size by a local affine model with the image as its guide
(He, Sun: Fast Guided Filter, 2015; Chen et al.: Bilateral Guided Upsampling, 2016). In each window
of the small copy the model's image is fitted by gain * copy + offset, channel by channel. At the
full size the result is the enlarged fit, plus gain * what the copy has lost of the image. So a
change of exposure leaves edges as sharp as they were, without halos.

Part of the model's image itself is taken beside its fit (`OWN`), for what no affine model holds. A
generator with the global shortcut keeps the exposure and changes details alone: there it is all of
it, and the copy is made and enlarged as sharp as can be.

What the copy has lost is detail and noise. At the full size the network would have taken part of
the noise away, and so much is taken from what is added.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bands.rows import (
    BAND_PIXELS,
    GPU_BAND_PIXELS,
    AnyImage,
    in_bands,
    new_image,
    read_rows,
    write_rows,
)
from ..bands.workers import in_parallel
from ..ops.dtypes import to_colour
from ..ops.filters import GREY_LEVEL, noise_variance
from ..ops.windows import window_mean

RADIUS, SHORTCUT_RADIUS = 6, 2
"""Windows of the local model have 2 r + 1 pixels of the small copy; the second is of generators
with the global shortcut. (In small windows, detail that the network takes for noise is lost.)"""

OWN = 0.3
"""The share of the model's image itself, beside its fit."""

MAX_GAIN = 8.0
"""Detail is amplified by no more."""

NOISE_RADIUS = 2
"""Windows in which detail is told from noise have 2 r + 1 pixels of the image."""

FLOOR = (GREY_LEVEL / 4) ** 2
"""Windows with less variance have no contrast that could tell the gain."""


Run = Callable[[AnyImage, int | None, AnyImage], object]
"""Runs the network on the small copy, B,3,h,w in [0, 1], in so many bytes; writes to the last."""

Kernel = Literal["bilinear", "bicubic"]
REACH: dict[Kernel, int] = {"bilinear": 1, "bicubic": 2}
"""Pixels that each looks at on both sides."""


def working_shape(height: int, width: int, pixels: int | None) -> tuple[int, int] | None:
    """Returns height and width of the copy that the network works on; None for the image itself.

    Args:
        height, width: of the image.
        pixels: the working size; None for any.
    """
    if pixels is None or height * width <= pixels:
        return None
    scale = math.sqrt(pixels / (height * width))
    return max(math.floor(height * scale), 1), max(math.floor(width * scale), 1)


def run_smaller(
    run: Run,
    image: Tensor,
    size: tuple[int, int],
    out: AnyImage,
    memory: int | None,
    *,
    keeps_exposure: bool,
    weights: Tensor | None = None,
) -> None:
    """Runs the network on smaller copies of images and brings the result to their size.

    Args:
        run: the network.
        image: B,C,H,W, any type of image.
        size: height and width of the copies.
        out: B,3,H,W, on the network's device: where the result goes.
        memory: limit in bytes; None for none.
        keeps_exposure: whether the network has the global shortcut.
        weights: B,1,H,W, how much each pixel counts; None: all alike.
    """
    shape, device = torch.Size((len(image), 3, *size)), out.device
    kernel: Kernel = "bicubic" if keeps_exposure else "bilinear"
    small, memory = new_image(shape, device, memory)
    shrink_into(small, image, kernel)
    restored, memory = new_image(shape, device, memory)
    gain, memory = new_image(shape, device, memory)
    fit, memory = (None, memory) if keeps_exposure else new_image(shape, device, memory)
    run(small, memory, restored)
    fit_affine(gain, fit, small, restored)
    noise = noise_variance(image[:, :3], weights).to(device)
    enlarge_into(out, image, small, restored if fit is None else fit, gain, noise, kernel)


def shrink_into(small: AnyImage, image: Tensor, kernel: Kernel = "bilinear") -> None:
    """Writes an antialiased copy of B,C,H,W to B,3,h,w, in bands."""
    frames, _, height, width = small.shape
    pixels = BAND_PIXELS if image.device.type == "cpu" else GPU_BAND_PIXELS
    rows = max(pixels * height // image[0, 0].numel(), 1)
    bands = [(frame, top) for frame in range(frames) for top in range(0, height, rows)]

    def make(number: int) -> float:
        frame, start = bands[number]
        stop = min(start + rows, height)

        def narrow(first: int, last: int) -> Tensor:
            wide = to_colour(read_rows(image, frame, first, last), small.device)
            size = (last - first, width)
            return F.interpolate(wide, size, mode=kernel, antialias=True)

        made = resample(narrow, image.shape[2], height, start, stop, kernel)
        write_rows(small, frame, start, made.clamp_(0, 1))
        return 0.0

    in_parallel(make, len(bands))


def fit_affine(gain: AnyImage, fit: AnyImage | None, small: AnyImage, restored: AnyImage) -> None:
    """Writes the local model's gain and, if asked for, its fit of `restored` with a share of that.

    All are B,3,h,w; in bands.
    """
    radius = SHORTCUT_RADIUS if fit is None else RADIUS
    height, around = small.shape[2], 2 * radius

    def work(frame: int, start: int, stop: int) -> None:
        top, bottom = max(start - around, 0), min(stop + around, height)
        before, after = (read_rows(each, frame, top, bottom) for each in (small, restored))
        slope, offset = local_model(before, after, radius)
        inner = slice(start - top, stop - top)
        write_rows(gain, frame, start, slope[:, :, inner])
        if fit is not None:
            fitted = offset.addcmul_(slope, before)
            write_rows(fit, frame, start, fitted.lerp_(after, OWN)[:, :, inner])

    in_bands(work, small)


def local_model(before: Tensor, after: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Returns gain and offset from `before` to `after`, B,C,h,w, around each pixel.

    Of all windows that hold a pixel, those with most contrast count most: else the gain of flat
    surroundings would reach into edges, as a halo. Where nothing has contrast, the gain is the
    ratio of brightness.
    """
    mean, mean_after = window_mean(before, radius), window_mean(after, radius)
    variance = (window_mean(before * before, radius) - mean * mean).clamp(min=0) + FLOOR
    covariance = window_mean(before * after, radius) - mean * mean_after
    ratio = (mean_after + GREY_LEVEL) / (mean + GREY_LEVEL)
    gain = ((covariance + FLOOR * ratio) / variance).clamp(0, MAX_GAIN)
    weight = window_mean(variance, radius)
    offset = variance * (mean_after - gain * mean)
    return window_mean(variance * gain, radius) / weight, window_mean(offset, radius) / weight


def enlarge_into(
    out: AnyImage,
    image: Tensor,
    small: AnyImage,
    made: AnyImage,
    gain: AnyImage,
    noise: Tensor,
    kernel: Kernel = "bilinear",
) -> None:
    """Writes `made`, enlarged, with the image's detail, in bands.

    Args:
        out: B,3,H,W.
        image: B,C,H,W.
        small, made, gain: B,3,h,w.
        noise: its variance in the image (1,C,1,1).
        kernel: of what is enlarged.
    """
    height, width = image.shape[2:]

    def work(frame: int, start: int, stop: int) -> None:
        top, bottom = max(start - NOISE_RADIUS, 0), min(stop + NOISE_RADIUS, height)

        def wide(each: AnyImage, first: int, last: int) -> Tensor:
            read = partial(read_rows, each, frame)
            rows = resample(read, each.shape[2], height, first, last, kernel)
            return F.interpolate(rows, (last - first, width), mode=kernel)

        rows = to_colour(read_rows(image, frame, top, bottom), out.device)
        lost = rows - wide(small, top, bottom)
        lost = without_noise(lost, noise)[:, :, start - top : stop - top]
        detailed = wide(made, start, stop).addcmul_(wide(gain, start, stop), lost)
        write_rows(out, frame, start, detailed.clamp_(0, 1))

    in_bands(work, image)


def without_noise(lost: Tensor, noise: Tensor) -> Tensor:
    """Returns the share of detail, B,C,H,W, that the network keeps in noise of this variance.

    Half of what varies as noise does, a fifth of what varies a quarter as much, nearly all of what
    varies ten times as much: about what it keeps at the full size (docs/experiments.md). Wiener's
    filter is stricter, and fine texture would be missed.
    """
    variance = window_mean(lost * lost, NOISE_RADIUS)
    return lost * (variance / (variance + noise).clamp_(min=1e-12))


def resample(
    read: Callable[[int, int], Tensor],
    source: int,
    target: int,
    start: int,
    stop: int,
    kernel: Kernel = "bilinear",
) -> Tensor:
    """Returns rows of an image of another height, interpolated without aliases.

    Every row is the same whichever rows are asked for with it.

    Args:
        read: gives rows from one (inclusive) to another (exclusive): 1,C,rows,W.
        source, target: the height that there is, and the one that is made.
        start, stop: which rows of the latter, the last one exclusive.
        kernel: as of PyTorch, with antialiasing where the image is made smaller.
    """
    scale = source / target
    width = max(scale, 1.0)
    support = width * REACH[kernel]
    centre = ((torch.arange(start, stop, dtype=torch.float64) + 0.5) * scale)[:, None]
    first = (centre - support + 0.5).floor()
    index = first + torch.arange(2 * math.ceil(support) + 1)
    far = ((index + 0.5 - centre) / width).abs()
    if kernel == "bilinear":
        weight = (1 - far).clamp(min=0)
    else:
        weight = cubic(far, -0.5 if scale > 1 else -0.75)
    if scale > 1 or kernel == "bilinear":  # else the outermost rows go on beyond the border
        weight = weight * ((index >= 0) & (index < source))
    weight = (weight / weight.sum(1, keepdim=True)).float()
    index = index.clamp(min=0)
    index = index.clamp(max=source - 1).long()
    top = int(index.min())
    rows = read(top, int(index.max()) + 1)
    index, weight = (index - top).to(rows.device), weight.to(rows.device)
    total = torch.zeros(*rows.shape[:2], stop - start, rows.shape[3], device=rows.device)
    for tap in range(index.shape[1]):
        total.addcmul_(rows.index_select(2, index[:, tap]), weight[:, tap, None])
    return total


def cubic(far: Tensor, a: float) -> Tensor:
    """Returns the weights of bicubic interpolation (Keys, 1981) at these distances, 0 beyond 2."""
    near = ((a + 2) * far - (a + 3)) * far * far + 1
    outer = ((far - 5) * far + 8) * far * a - 4 * a
    return torch.where(far <= 1, near, outer) * (far < 2)
