"""Photographs shaken on purpose, to measure whether shake is found; each is a function of its seed.

A hand holds still for a part of the time: then edges stay sharp, with a faint ghost beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from devudp_model.ops.degrade import (
    HIGHLIGHTS,
    Shake,
    apply_noise,
    apply_shake,
    darken,
    draw_shake,
    normalized_path,
    shake_path,
    uniform,
)
from training.data.domains import excluded_names
from training.data.layouts import list_images

HELD_OUT = 6
"""One in so many photographs is held out when weights are fitted."""


def photographs(folder: Path, without: str) -> list[Path]:
    """Returns the images of a folder, sorted, but for those that a table names (empty: none)."""
    names = excluded_names(without)
    return [path for path in list_images([folder]) if path.name not in names]


def held_out(files: list[Path]) -> list[Path]:
    """One in `HELD_OUT`."""
    return files[HELD_OUT - 1 :: HELD_OUT]


def hand(rng: torch.Generator) -> Shake:
    """Returns a hand's path of 12 to 40 pixels, as the training draws it."""
    return draw_shake(rng, extent=uniform(rng, 12, 40))


def paused(rng: torch.Generator) -> Shake:
    """A hand's path of 12 to 40 pixels that stands still, once to three times, 20 to 60 % long."""
    extent = uniform(rng, 12, 40)
    poses = int(min(max(extent, 12), 36))
    path = shake_path(rng, poses)
    pauses, time = 1 + int(uniform(rng, 0, 3)), uniform(rng, 0.2, 0.6)
    length = int(time / (1 - time) * poses / pauses)
    places = torch.randint(poses, (pauses,), generator=rng).tolist()
    path = torch.cat([path] + [path[at : at + 1].expand(length, 3) for at in places])
    pivot = (uniform(rng, -0.5, 0.5), uniform(rng, -0.5, 0.5))
    highlights = HIGHLIGHTS if uniform(rng, 0, 1) < 0.5 else 0.0
    return Shake(path - path.mean(0), pivot, extent, extent / 4, highlights)


def ghosts(rng: torch.Generator) -> Shake:
    """Two or three places at up to 6 to 24 pixels from each other, and nothing between."""
    extent = uniform(rng, 6, 24)
    places = normalized_path(torch.randn(2 + int(uniform(rng, 0, 2)), 3, generator=rng))
    path = torch.cat([place.expand(4 + int(uniform(rng, 0, 8)), 3) for place in places])
    path = path + torch.randn(path.shape, generator=rng) * 0.8 / extent
    return Shake(path - path.mean(0), (0.0, 0.0), extent, extent / 4, 0.0)


def straight(rng: torch.Generator) -> Shake:
    """Returns a straight line of 8 to 30 pixels, at one speed."""
    extent, angle = uniform(rng, 8, 30), uniform(rng, 0, math.pi)
    time = torch.linspace(-0.5, 0.5, int(extent) + 1)
    path = torch.stack([time * math.cos(angle), time * math.sin(angle), 0 * time], 1)
    return Shake(path, (0.0, 0.0), extent, 0.0, 0.0)


SHAKES: dict[str, Callable[[torch.Generator], Shake]] = {
    "paused": paused,
    "ghosts": ghosts,
    "straight": straight,
    "hand": hand,
}

KINDS = (*SHAKES, "dark", "dark-paused")
"""Of `made_worse`."""


def made_worse(image: Tensor, kind: str, seed: int) -> Tensor:
    """Makes what a camera would of a good photograph, 1,3,H,W in [0, 1], in 8 bits.

    Args:
        kind: of `KINDS`: how it was shaken, with a little noise; `dark`: 3 to 13 % of the light,
            with more noise; or both.
        seed: for all that is random.
    """
    rng = torch.Generator().manual_seed(seed)
    shake = kind.removeprefix("dark").removeprefix("-")
    if shake:
        image = apply_shake(image, SHAKES[shake](rng))
    noise = uniform(rng, 0, 0.006)
    if kind.startswith("dark"):
        image, noise = darken(image, uniform(rng, 0.03, 0.13)), uniform(rng, 0, 0.012)
    normal = torch.randn(image.shape, generator=rng)
    image = apply_noise(image, normal, sigma=noise, grain=0.5)
    return (image.clamp(0, 1) * 255).round() / 255


def shaken_ones(files: list[Path]) -> Iterator[tuple[Path, str, int]]:
    """Files, kinds and seeds: all kinds in turns, pauses twice as often."""
    kinds = ("paused", *SHAKES)
    for number, file in enumerate(files):
        yield file, kinds[number % len(kinds)], 1000 + number
