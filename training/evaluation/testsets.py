"""Test sets: named pairs of degraded and reference images, the paper's among them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..config import ConfigError
from ..data.image_cache import decode
from ..data.layouts import LayoutName, Pair, official_pairs

SCALED_SIZES: dict[LayoutName, tuple[int, int]] = {"gopro": (640, 360), "realblur-j": (320, 360)}
"""Width and height of Table 1's rows with a star."""


@dataclass(frozen=True)
class TestSet:
    """Named pairs, scaled to `size` (width, height in pixels) first if that is given."""

    __test__ = False  # for pytest: not a class of tests

    name: str
    pairs: list[Pair]
    size: tuple[int, int] | None = None

    def takes(self, method: str) -> bool:
        """Whether the method of this name is measured on the set."""
        return True

    def read(self, path: Path) -> np.ndarray:
        """One of the set's images: H,W,3 uint8."""
        pixels = decode(path)
        if self.size is None or pixels.shape[1::-1] == self.size:
            return pixels
        return np.asarray(Image.fromarray(pixels).resize(self.size, Image.Resampling.BICUBIC))

    def read_pair(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """The degraded and the reference image, each H,W,3 uint8.

        Raises:
            ConfigError: they differ in size.
        """
        degraded, reference = self.read(pair.degraded), self.read(pair.reference)
        if degraded.shape != reference.shape:
            raise ConfigError(
                f"{pair.degraded} is {degraded.shape[1]}x{degraded.shape[0]} and its reference "
                f"{pair.reference} {reference.shape[1]}x{reference.shape[0]}: they cannot be "
                "compared. Leave the pair out, or scale both to one size with --size."
            )
        return degraded, reference


def official_sets(layout: LayoutName, root: str, *, scaled: bool) -> list[TestSet]:
    """A data set's test part; with `scaled` also at the size of Table 1's rows with a star.

    Raises:
        FileNotFoundError, ValueError: see `official_pairs`.
    """
    pairs = official_pairs(layout, root, "test")
    sets = [TestSet(layout, pairs)]
    if scaled and layout in SCALED_SIZES:
        width, height = SCALED_SIZES[layout]
        sets.append(TestSet(f"{layout} {width}x{height}", pairs, (width, height)))
    return sets
