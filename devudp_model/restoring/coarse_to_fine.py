"""Coarse to fine: in a smaller image long blur is short, and the network was trained on short blur.

The image is deblurred at a fraction of its size, and the change is enlarged and added to it; then
the same at twice that fraction, and so on. The result is the network's input at the full size. At
the smaller sizes, sharp places are left alone. This adds a third to the work, or a quarter with one
smaller size; in bf16 somewhat more, as images smaller than half stay in fp32. For networks
without whole-image statistics (DEvUDP-DT).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bands.rows import AnyImage, FileImage, in_bands, made_in_bands, read_rows, write_rows
from ..ops.arithmetic import mix_into, ramp
from ..ops.filters import GREY_LEVEL
from ..ops.windows import window_mean

Run = Callable[[Any], Any]
"""From an image to one of the same size, both in memory or in a file."""

Room = Callable[[torch.Size], AnyImage]
SomeImage = TypeVar("SomeImage", bound=AnyImage)

SCALES = (8, 4, 2)
"""The images are made smaller by these factors, one after the other."""

MIN_SIDE = 180
"""Pixels of the short side that a smaller image has at least: about that of the smallest
photographs which the network was trained on (192). In smaller ones, details look like blur."""

SHARP = 0.7
"""Ratio of fine-band to coarser-band RMS above which a place counts as sharp and is not changed."""

BLURRED = 0.3
"""Ratio below which it counts as blurred, and the network's change is taken in full."""

BLOCK = 4
"""Pixels of the side of a block."""

SHARE_RADIUS = 2
"""The RMS values are taken over windows of 2 r + 1 blocks."""

BALANCE_RADIUS, SMALLEST = 3, 1e-6
"""Nearby are, for `balanced`, twice so many pixels; and the smallest mean change that counts."""

HALO = 2
"""Pixels of support that bicubic interpolation needs on each side."""


def scales_for(height: int, width: int) -> tuple[int, ...]:
    """Returns the factors by which an image of this size is made smaller."""
    return tuple(scale for scale in SCALES if min(height, width) >= MIN_SIDE * scale)


def coarse_to_fine(
    run: Run, image: SomeImage, scales: Sequence[int] | None = None, allocate: Room | None = None
) -> SomeImage:
    """Restores images at the coarser scales.

    Args:
        run: the network, B,3,h,w in [0, 1] to the same.
        image: B,3,H,W in [0, 1], float32; is written to.
        scales: the factors; those of `scales_for` if None.
        allocate: makes the smaller images; on the image's device if None.

    Returns:
        `image`.
    """
    scales = scales_for(*image.shape[2:]) if scales is None else scales
    for scale in scales:
        small = smaller(image, scale, allocate)
        add_change(image, small, run(small), scale)
    return image


def smaller(image: AnyImage, scale: int, allocate: Room | None = None) -> AnyImage:
    """`shrink` of a whole image, band by band."""
    frames, channels, height, width = image.shape
    shape = torch.Size((frames, channels, -(-height // scale), -(-width // scale)))

    def new() -> AnyImage:
        if allocate is not None:
            return allocate(shape)
        return torch.empty(shape, dtype=image.dtype, device=image.device)

    def make(frame: int, start: int, stop: int) -> Tensor:
        return shrink(read_rows(image, frame, start, stop), scale)

    return made_in_bands(make, image, new, scale)


def add_change(
    image: AnyImage, small: AnyImage, restored: AnyImage, scale: int, balance: bool = False
) -> None:
    """Adds what was changed in the smaller image, enlarged, to the image; clipped to [0, 1].

    Args:
        balance: add of it what is `balanced`.
    """
    height, width = small.shape[2], image.shape[3]
    reach = 2 * BALANCE_RADIUS if balance else 0

    def add(frame: int, start: int, stop: int) -> None:
        top, bottom = max(start // scale - HALO, 0), min(-(-stop // scale) + HALO, height)
        around = slice(max(top - reach, 0), min(bottom + reach, height))
        rows = (read_rows(each, frame, around.start, around.stop) for each in (restored, small))
        change = next(rows) - next(rows)
        if balance:
            change = balanced(change)[:, :, top - around.start : bottom - around.start]
        first = start - top * scale
        enlarged = enlarge(change, scale)[:, :, first : first + stop - start, :width]
        rows = read_rows(image, frame, start, stop).add_(enlarged).clamp_(0, 1)
        if isinstance(image, FileImage):  # else the rows are its own
            write_rows(image, frame, start, rows)

    in_bands(add, image, scale)


def balanced(change: Tensor) -> Tensor:
    """Returns of a change, B,C,H,W, what is made brighter as far as as much is made darker nearby.

    Blur moves light and keeps its amount; so does what takes blur away. A network that sees blur
    where there is none makes dark things larger, or bright ones.
    """
    if not change.is_cpu:
        return balanced_at_once(change)
    parts = change.clamp(min=0), (-change).clamp_(min=0)
    brighter, darker = map(nearby, parts)
    own = torch.where(change > 0, brighter, darker).clamp_(min=SMALLEST)
    return change * (torch.minimum(brighter, darker) / own)


def balanced_at_once(change: Tensor) -> Tensor:
    """`balanced` in few operations, for a GPU."""
    both = change.new_empty(2, *change.shape)
    torch.clamp(change, min=0, out=both[0])
    torch.sub(both[0], change, out=both[1])
    means = nearby(both.flatten(0, 1)).view(both.shape)
    least = torch.minimum(*means)
    brighter, darker = both.div_(means.clamp_(min=SMALLEST))
    return brighter.sub_(darker).mul_(least)


def nearby(x: Tensor) -> Tensor:
    """Returns the weighted mean of what is around each pixel of B,C,H,W."""
    return window_mean(window_mean(x, BALANCE_RADIUS), BALANCE_RADIUS)


def where_blurred(run: Run) -> Run:
    """`run`, limited to blurred places; see `blurred_share`. What it returns is written to."""

    def limited(image: AnyImage) -> AnyImage:
        share, output = blurred_share(image), run(image)

        def limit(frame: int, start: int, stop: int) -> None:
            before, after = (read_rows(each, frame, start, stop) for each in (image, output))
            shares = share_of_rows(share, frame, start, stop)[..., : before.shape[3]]
            mix_into(before, after, shares, out=after)
            if isinstance(output, FileImage):  # else the rows are its own
                write_rows(output, frame, start, after)

        in_bands(limit, image, BLOCK)
        return output

    return limited


def blurred_share(image: AnyImage) -> Tensor:
    """Returns how much each place is blurred, so that a network at this size can improve it.

    Compares the finest band with a band four times as coarse. A sharp photograph has about as much
    of both (Field: Relations between the statistics of natural images and the response properties
    of cortical cells, 1987); blur removes the finest band.

    Args:
        image: B,3,H,W in [0, 1].

    Returns:
        B,1,h,w in [0, 1], one number for each block of `BLOCK` x `BLOCK` pixels: 0 where it is
        sharp.
    """
    frames, _, height, width = image.shape
    shape = (frames, 2, -(-height // BLOCK), -(-width // BLOCK))

    def new() -> Tensor:
        return torch.empty(shape, device=image.device)

    def measure(frame: int, start: int, stop: int) -> Tensor:
        top = max(start - 2 * HALO, 0)
        bottom = min(stop + 2 * HALO, image.shape[2])
        rows = read_rows(image, frame, top, bottom)
        both = rows.new_empty(1, 2, *rows.shape[2:])
        square, grey = both.split(1, 1)
        torch.mean(rows, 1, keepdim=True, out=grey)
        inner = slice(start - top, stop - top)
        torch.square(finest(grey), out=square)
        return shrink(both[:, :, inner], BLOCK)

    found = made_in_bands(measure, image, new, BLOCK)
    assert isinstance(found, Tensor)  # blocks are few
    greys = found[:, 1:]
    torch.square(finest(greys), out=greys)
    fine, coarse = window_mean(found, SHARE_RADIUS).split(1, 1)
    ratio = ((fine + GREY_LEVEL**2 / 4) / (coarse + 4 * GREY_LEVEL**2)).sqrt()
    return ramp(ratio, SHARP, BLURRED)


def share_of_rows(share: Tensor, frame: int, start: int, stop: int) -> Tensor:
    """1,1,rows,W of `blurred_share`, enlarged to pixels; `start` is a multiple of `BLOCK`."""
    top, bottom = max(start // BLOCK - 1, 0), -(-stop // BLOCK) + 1
    shares = share[frame : frame + 1, :, top:bottom]
    enlarged = F.interpolate(shares, scale_factor=float(BLOCK), mode="bilinear")
    first = start - top * BLOCK
    return enlarged[:, :, first : first + stop - start]


def finest(x: Tensor) -> Tensor:
    """Returns the finest band of B,C,H,W: what is lost at half the size."""
    height, width = x.shape[2:]
    return x - enlarge(shrink(x, 2), 2)[:, :, :height, :width]


def shrink(image: Tensor, scale: int) -> Tensor:
    """B,C,H,W to B,C,h,w with h = H / `scale`, rounded up: the means of squares of pixels."""
    return F.avg_pool2d(image, scale, ceil_mode=True, count_include_pad=False)


def enlarge(change: Tensor, scale: int) -> Tensor:
    """B,C,h,w to B,C,`scale` h,`scale` w, by bicubic interpolation."""
    return F.interpolate(change, scale_factor=float(scale), mode="bicubic")
