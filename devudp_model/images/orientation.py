"""Turns pixels as EXIF's orientation says."""

from __future__ import annotations

import numpy as np


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """H,W,C as EXIF's orientation (1 to 8) wants it shown."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
