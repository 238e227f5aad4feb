"""Finds where in a known image a tile comes from.

The host's upscale node cuts images into tiles of 512 pixels with an overlap of 32, but the
network looks 72 pixels far. Measured with frozen statistics and bare tiles: single pixels up to 138
of 255 grey levels off near the overlaps, nothing elsewhere. Knowing the whole image, one can give
each tile the surroundings that it was cut out of; then it comes out just as in the whole image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..devudp_model.restoring.content import Region

PROBES = 64
"""Pixels of the tile that are compared before anything is compared in full."""

MAX_CANDIDATES = 256
"""A tile that may lie at more places than this is flat or repeats; any of them will do."""


class Place(NamedTuple):
    """A tile's image in the batch, and its upper left corner."""

    image: int
    top: int
    left: int


def find_tile(tile: Tensor, images: Tensor) -> Place | None:
    """Finds where `tile` (1,C,h,w) occurs in `images` (B,C,H,W), to the last bit.

    None: it occurs nowhere, so it was cut out of another image or has been changed since.
    """
    hint = place_in_memory(tile, images)
    tile = tile[0].to(images.device, images.dtype)
    if tile.shape[0] != images.shape[1]:
        return None
    if hint is not None and lies_at(tile, images[hint.image], hint.top, hint.left):
        return hint
    for number in range(len(images)):
        place = find_in_image(tile, images[number])
        if place is not None:
            return Place(number, *place)
    return None


def place_in_memory(tile: Tensor, images: Tensor) -> Place | None:
    """Guesses where the tile lies if it is a view into a batch laid out like `images`.

    It tells apart what the pixels cannot, one part of a flat sky from another.
    """
    row, column = tile.stride()[-2:]
    if column < 1 or row != column * images.shape[-1]:
        return None
    number, rest = divmod(int(tile.storage_offset()), row * images.shape[-2])
    top, rest = divmod(rest, row)
    return Place(number, top, rest // column) if number < len(images) else None


def lies_at(tile: Tensor, image: Tensor, top: int, left: int) -> bool:
    """True if C,h,w equals that part of C,H,W."""
    height, width = tile.shape[-2:]
    return torch.equal(image[:, top : top + height, left : left + width], tile)


def find_in_image(tile: Tensor, image: Tensor) -> tuple[int, int] | None:
    """As `find_tile`, for C,h,w in C,H,W."""
    height, width = tile.shape[-2:]
    down = image.shape[-2] - height + 1
    right = image.shape[-1] - width + 1
    if down < 1 or right < 1:
        return None
    possible = torch.ones(down, right, dtype=torch.bool, device=image.device)
    for y, x in probes(height, width):
        seen = image[:, y : y + down, x : x + right]
        possible &= (seen == tile[:, y, x, None, None]).all(0)
        if possible.sum() <= 1:
            break
    places = possible.nonzero()
    # Of many places the middle ones first: there the image's borders, which matter, are far away.
    first = max(len(places) - MAX_CANDIDATES, 0) // 2
    for top, left in places[first : first + MAX_CANDIDATES].tolist():
        if lies_at(tile, image, top, left):
            return top, left
    return None


def probes(height: int, width: int) -> list[tuple[int, int]]:
    """Pseudo-random pixels of the tile, always the same ones."""
    rng = torch.Generator().manual_seed(0)
    ys = torch.randint(height, (PROBES,), generator=rng).tolist()
    xs = torch.randint(width, (PROBES,), generator=rng).tolist()
    return list(zip(ys, xs, strict=True))


class Context(NamedTuple):
    """A tile with its surroundings: where to cut it, and where the tile lies in what was cut."""

    rows: slice
    columns: slice
    inner_rows: slice
    inner_columns: slice


def part_inside(place: Place, tile: Tensor, region: Region) -> Context:
    """The part of a tile in a region of its image: where in the region, and where in the tile.

    Of a tile outside, the slices are empty.
    """
    rows, inner_rows = overlap(place.top, tile.shape[-2], region.top, region.bottom)
    columns, inner_columns = overlap(place.left, tile.shape[-1], region.left, region.right)
    return Context(rows, columns, inner_rows, inner_columns)


def overlap(start: int, length: int, first: int, end: int) -> tuple[slice, slice]:
    """One axis of `part_inside`."""
    low = min(max(start, first), end)
    high = max(min(start + length, end), low)
    return slice(low - first, high - first), slice(low - start, high - start)


def with_context(place: Place, tile: Tensor, image: Tensor, around: int, step: int) -> Context:
    """Returns the tile's surroundings, `around` pixels on each side as far as the image goes.

    They start at a multiple of `step` pixels, since the network halves the image and has to halve
    the part in the same rhythm.
    """
    rows, inner_rows = widen(place.top, tile.shape[-2], image.shape[-2], around, step)
    columns, inner_columns = widen(place.left, tile.shape[-1], image.shape[-1], around, step)
    return Context(rows, columns, inner_rows, inner_columns)


def widen(start: int, length: int, size: int, around: int, step: int) -> tuple[slice, slice]:
    """One axis of `with_context`."""
    outer = max(start - around, 0) // step * step
    end = min(start + length + around, size)
    return slice(outer, end), slice(start - outer, start - outer + length)
