"""Makes the images in samples/ from scikit-image's (samples/README.md says which).

python -m tools.make_samples
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from devudp_model.ops.degrade import degrade

FOLDER = Path(__file__).parents[1] / "samples"

# name: image, streaks in pixels, share of the light, noise
SAMPLES = {
    "dark_coffee": (skimage.data.coffee, 0.0, 0.06, 0.01),
    "blurry_cat": (skimage.data.chelsea, 9.0, 1.0, 0.0),
    "dark_blurry_astronaut": (skimage.data.astronaut, 9.0, 0.1, 0.005),
}

for name, (load, blur, light, noise) in SAMPLES.items():
    image = torch.from_numpy(load()).permute(2, 0, 1)[None].float() / 255  # 1,3,H,W in [0, 1]
    rng = torch.Generator().manual_seed(0)
    degraded = degrade(image, rng, blur=blur, light=light, noise=noise)
    pixels = (degraded[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    Image.fromarray(pixels).save(FOLDER / f"{name}.jpg", quality=90)

Image.fromarray(skimage.data.astronaut()).save(FOLDER / "good" / "astronaut.jpg", quality=90)
