"""The paper's test sets and its own rows on them (Tables 1 to 3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..config import ConfigError
from ..data.image_cache import decode
from ..data.layouts import LayoutName, Pair, official_pairs


class Row(NamedTuple):
    """A row of a table: a method's means over a set. LPIPS may be missing."""

    method: str
    psnr: float
    ssim: float
    mae: float
    lpips: float | None


PAPER: dict[str, list[Row]] = {
    "gopro": [
        Row("paper: FCL-GAN", 24.84, 0.771, 9.63, 0.239),
        Row("paper: CycleGAN", 22.54, 0.720, 13.95, 0.243),
        Row("paper: DEvUDP", 22.19, 0.708, 14.30, 0.253),
        Row("paper: DEvUDP-DT", 25.15, 0.786, 9.56, 0.272),
    ],
    "gopro 640x360": [
        Row("paper: CRNet*", 25.88, 0.803, 9.12, 0.192),
        Row("paper: DEvUDP-DT*", 26.69, 0.822, 8.54, 0.205),
    ],
    "realblur-j": [
        Row("paper: DEvUDP", 19.75, 0.617, 22.18, 0.261),
        Row("paper: DEvUDP-DT", 25.87, 0.790, 8.69, 0.201),
    ],
    "realblur-j 320x360": [
        Row("paper: CRNet*", 24.05, 0.715, 13.02, 0.146),
        Row("paper: DEvUDP-DT*", 26.55, 0.831, 8.80, 0.137),
    ],
    "lol": [
        Row("paper: Zero-DCE", 14.97, 0.500, 41.62, 0.432),
        Row("paper: RUAS", 16.40, 0.500, 39.11, 0.270),
        Row("paper: DEvUDP", 16.88, 0.667, 36.27, 0.326),
    ],
    "lol-blur": [
        Row("paper: FCL-GAN, then Zero-DCE", 9.07, 0.515, 86.03, 0.495),
        Row("paper: Zero-DCE, then UID-GAN", 12.23, 0.574, 59.46, 0.368),
        Row("paper: UID-GAN, then RUAS", 6.88, 0.454, 109.46, 0.510),
        Row("paper: RUAS, then FCL-GAN", 12.72, 0.602, 57.50, 0.406),
        Row("paper: DEvUDP", 18.03, 0.653, 28.14, 0.323),
    ],
}

SCALED_SIZES: dict[LayoutName, tuple[int, int]] = {"gopro": (640, 360), "realblur-j": (320, 360)}
"""Width and height of Table 1's rows with a star."""


@dataclass(frozen=True)
class TestSet:
    """Pairs under a name; scaled to `size` (width, height) before anything else if given."""

    __test__ = False  # for pytest: not a class of tests

    name: str
    pairs: list[Pair]
    size: tuple[int, int] | None = None

    def read(self, path: Path) -> np.ndarray:
        """One of the set's pictures: H,W,3 uint8."""
        pixels = decode(path)
        if self.size is None or pixels.shape[1::-1] == self.size:
            return pixels
        return np.asarray(Image.fromarray(pixels).resize(self.size, Image.Resampling.BICUBIC))

    def read_pair(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Degraded and reference picture, each H,W,3 uint8.

        Raises:
            ConfigError: they differ in size.
        """
        degraded, reference = self.read(pair.degraded), self.read(pair.reference)
        if degraded.shape != reference.shape:
            raise ConfigError(
                f"{pair.degraded} is {degraded.shape[1]}x{degraded.shape[0]} and its reference "
                f"{pair.reference} {reference.shape[1]}x{reference.shape[0]}: they cannot be "
                "compared. Leave the pair out, or make them one size."
            )
        return degraded, reference


def official_sets(layout: LayoutName, root: str, *, scaled: bool) -> list[TestSet]:
    """A data set's test part; with `scaled` also as Table 1's rows with a star have it.

    Raises:
        FileNotFoundError, ValueError: see `official_pairs`.
    """
    pairs = official_pairs(layout, root, "test")
    sets = [TestSet(layout, pairs)]
    if scaled and layout in SCALED_SIZES:
        width, height = SCALED_SIZES[layout]
        sets.append(TestSet(f"{layout} {width}x{height}", pairs, (width, height)))
    return sets
