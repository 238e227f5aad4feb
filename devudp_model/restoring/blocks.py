"""Means and deviations of squares of 8x8 pixels: what an image shows, its noise averaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bands.rows import AnyImage, made_in_bands, read_rows
from ..ops.dtypes import to_colour

BLOCK = 8
"""Pixels of a square's side."""


class Blocks(NamedTuple):
    """The squares of a batch, float32, in main memory.

    Attributes:
        means: of their pixels, n,3.
        deviations: their pixels' standard deviations, n,3.
        structure: standard deviation of the grey means of each and the eight around it, n.
    """

    means: Tensor
    deviations: Tensor
    structure: Tensor


def blocks_of(
    image: AnyImage,
    weights: Tensor | None = None,
    fetch: Callable[[Tensor], Tensor] = Tensor.cpu,
    clipped: bool = False,
) -> Blocks:
    """Measures the squares of B,C,H,W, any type of image; one for all of an image that is smaller.

    Incomplete squares do not count, nor do those of which less than half is visible (as long as
    there are others).

    Args:
        weights: B,1,H,W, how far a pixel is visible.
        fetch: brings the means to main memory.
        clipped: whether the image is in [0, 1] already.
    """
    height, width = image.shape[2:]
    down, right = min(BLOCK, height), min(BLOCK, width)
    maps = 2 if weights is None else 3
    shape = image.shape[0], 3 * maps, height // down, width // right

    def work(frame: int, start: int, stop: int) -> Tensor:
        count = (stop - start) // down
        if not count:
            return torch.empty(1, shape[1], 0, shape[3], device=image.device)
        rows = read_rows(image, frame, start, start + count * down)
        rows = to_colour(rows, image.device, clipped)
        parts = [rows, rows * rows]
        if weights is not None:
            seen = read_rows(weights, frame, start, start + count * down)
            parts.append(to_colour(seen, image.device))
        return F.avg_pool2d(torch.cat(parts, 1), (down, right))

    found = made_in_bands(work, image, lambda: torch.empty(shape, device=image.device), down)
    assert isinstance(found, Tensor)  # squares are few
    found = fetch(found).unflatten(1, (maps, 3)).transpose(0, 1)
    structure = structure_of(found[0].mean(1, keepdim=True)).flatten()
    means, squares, *seen = found.movedim(2, -1).reshape(maps, -1, 3)
    shown = seen[0][:, 0] >= 0.5 if seen else None
    if shown is not None and bool(shown.any()):
        means, squares, structure = (x[shown] for x in (means, squares, structure))
    return Blocks(means, (squares - means * means).clamp(min=0).sqrt(), structure)


def structure_of(grey: Tensor) -> Tensor:
    """Returns the standard deviation of each value of B,1,H,W and the eight around it."""
    grey = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    mean = F.avg_pool2d(grey, 3, 1)
    return (F.avg_pool2d(grey * grey, 3, 1) - mean * mean).clamp(min=0).sqrt()
