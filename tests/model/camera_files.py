"""Raw files, HEIC and others, as cameras and phones lay them out, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

CFA, LINEAR_RAW = 32803, 34892
WHITE = 4095

TAGS: list[tuple[Any, ...]] = [
    (50706, 1, 4, bytes([1, 4, 0, 0]), True),
    (50707, 1, 4, bytes([1, 1, 0, 0]), True),
    (50708, 2, 0, "Test Camera", True),
    (50721, 10, 9, (4124, 10000, -1324, 10000, -1088, 10000, -9692, 10000, 15376, 10000, 1642,
                    10000, -2498, 10000, 2656, 10000, 6190, 10000), True),
    (50778, 3, 1, 21, True),
    (50728, 5, 3, (1,) * 6, True),
]  # fmt: skip
SENSOR: list[tuple[Any, ...]] = [
    (33421, 3, 2, (2, 2), True),
    (33422, 1, 4, bytes([0, 1, 1, 2]), True),
]
LEVELS: list[tuple[Any, ...]] = [(50717, 4, 1, WHITE, True), (50714, 3, 1, 0, True)]


def mosaic(light: np.ndarray) -> np.ndarray:
    """H,W,3 linear light as a sensor with red, green, green, blue sees it."""
    seen = np.empty(light.shape[:2])
    for y, x, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        seen[y::2, x::2] = light[y::2, x::2, channel]
    return np.round(seen * WHITE).astype(np.uint16)


def write_dng(
    path: Path,
    light: np.ndarray,
    *,
    preview: bool = False,
    more: list[tuple[Any, ...]] | None = None,
) -> None:
    """DNG; with a small preview first, as cameras write it; more: tags of the first directory."""
    own = [*TAGS, *(more or [])]
    tifffile = pytest.importorskip("tifffile")
    plain: dict[str, Any] = {"metadata": None, "software": False}
    with tifffile.TiffWriter(path) as tiff:
        if preview:
            small = np.zeros((60, 80, 3), np.uint8)
            tiff.write(small, photometric="rgb", subfiletype=1, subifds=1, extratags=own, **plain)
        tags = [*SENSOR, *LEVELS] if preview else [*own, *SENSOR, *LEVELS]
        tiff.write(mosaic(light), photometric=CFA, subfiletype=0, extratags=tags, **plain)
