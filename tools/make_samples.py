"""Makes the images in samples/ from the photographs that samples/README.md names.

    python -m tools.make_samples FOLDER

FOLDER holds flowers-lossless.png; the others come with scikit-image.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from devudp_model.ops.degrade import degrade

SAMPLES = Path(__file__).parents[1] / "samples"


def make(pixels: np.ndarray, name: str, blur: float, light: float, noise: float) -> None:
    """Makes H,W,3 uint8 worse: streaks in pixels, the share of the light that is left, noise."""
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255  # 1,3,H,W in [0, 1]
    rng = torch.Generator().manual_seed(0)
    degraded = degrade(image, rng, blur=blur, light=light, noise=noise)
    save((degraded[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8), name)


def save(pixels: np.ndarray, name: str) -> None:
    Image.fromarray(pixels).save(SAMPLES / name, quality=90)


if __name__ == "__main__":
    flowers = np.array(Image.open(Path(sys.argv[1]) / "flowers-lossless.png").convert("RGB"))
    make(skimage.data.coffee(), "dark_coffee.jpg", blur=0.0, light=0.06, noise=0.01)
    make(skimage.data.chelsea(), "blurry_cat.jpg", blur=9.0, light=1.0, noise=0.0)
    make(flowers, "dark_blurry_flowers.jpg", blur=9.0, light=0.1, noise=0.005)
    save(flowers, "good/flowers.jpg")
