"""Image files for the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from devudp_model.images.raster import to_array
from devudp_model.images.reading import read_image


def draw(path: Path, size: tuple[int, int] = (16, 12), seed: int = 0, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels[:, :, 0] if len(mode) == 1 else pixels).save(path)
    return path


def names(folder: Path) -> list[str]:
    """Every file under a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def pixels_of(path: Path) -> np.ndarray:
    return to_array(read_image(path), np.uint8)
