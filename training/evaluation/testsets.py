"""Test sets: named pairs of degraded and reference images, the paper's among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..config import ConfigError
from ..data.image_cache import decode
from ..data.layouts import LAYOUTS, LayoutName, Pair, official_pairs

SCALED_SIZES: dict[LayoutName, tuple[int, int]] = {"gopro": (640, 360), "realblur-j": (320, 360)}
"""Width and height of Table 1's rows with a star."""


@dataclass(frozen=True)
class TestSet:
    """Named pairs, scaled to `size` (width, height in pixels) first if that is given.

    Attributes:
        paper: the key of the paper's rows for it, see `paper.py`.
    """

    __test__ = False  # for pytest: not a class of tests

    name: str
    pairs: list[Pair]
    size: tuple[int, int] | None = None
    paper: str = ""

    def takes(self, method: str) -> bool:
        """True if the method of this name is measured on the set."""
        return True

    def read(self, path: Path) -> np.ndarray:
        """One of the set's images: H,W,3 uint8."""
        pixels = decode(path)
        if self.size is None or pixels.shape[1::-1] == self.size:
            return pixels
        return np.asarray(Image.fromarray(pixels).resize(self.size, Image.Resampling.BICUBIC))

    def read_pair(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Returns the degraded and the reference image, each H,W,3 uint8.

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


def official_sets(
    layout: LayoutName, root: str, *, scaled: bool, kinds: Sequence[str] = ()
) -> list[TestSet]:
    """Returns a data set's test part; with `scaled` also at the size of Table 1's rows with a star.

    Args:
        layout: which data set.
        root: its folder, as unpacked.
        scaled: see above.
        kinds: of its blurry images, each a set of its own; none: the layout's default.

    Raises:
        FileNotFoundError, ValueError: see `official_pairs`.
    """
    sets, blurs = [], LAYOUTS[layout].blurs
    for kind in kinds or blurs[:1]:
        pairs = official_pairs(layout, root, "test", kind)
        name = f"{layout} {kind}" if len(blurs) > 1 else layout
        sets.append(TestSet(name, pairs, paper=layout))
        if scaled and layout in SCALED_SIZES:
            width, height = SCALED_SIZES[layout]
            size = f"{width}x{height}"
            sets.append(TestSet(f"{name} {size}", pairs, (width, height), f"{layout} {size}"))
    return sets


def notes(sets: Sequence[TestSet], *, aligned: bool) -> list[str]:
    """Says what a reader of a set's numbers must know beside the protocol, a paragraph each."""
    layouts = {test_set.paper.split(" ")[0] for test_set in sets}
    found = []
    if "realblur-j" in layouts and not aligned:
        found.append(
            "RealBlur-J: plain, and so are the paper's rows. The official evaluation, whose "
            "numbers most papers give, aligns each pair first (--align) and comes out higher."
        )
    if "gopro" in layouts:
        found.append(
            "GoPro: Nah et al. give numbers on blur_gamma; MPRNet, HINet, DeepRFT and DMPHN, among "
            "others, on blur (--kind). The paper does not say which."
        )
    if "lol-blur" in layouts:
        found.append(
            "LOL-Blur: LEDNet's numbers are on low_blur_noise (--kind). The paper does not say "
            "which."
        )
    return found
