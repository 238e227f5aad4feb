"""Unpaired pictures: sharp ones (B) and blurry ones (A), real or blurred on the fly.

Every sample is a pure function of (seed, its number), so a run can be resumed anywhere, with any
number of workers or processes, and sees the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from devudp_model.degrade import camera_shake, sensor_noise, uniform

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}

COMMON_MEAN, COMMON_SPREAD = -0.12, 0.50
"""The exposure of an average normal-light photograph, in [-1, 1] (mean, standard deviation)."""

FLAT = 0.2
"""Spread below which a crop counts as flat (sky, a wall) and is not stretched any further."""


@dataclass(frozen=True)
class DataConfig:
    """Which pictures, and what is done to them before G sees them.

    Attributes:
        sharp: folders of sharp normal-light photographs.
        blurry: folders of really blurred photographs; may be empty if blur is made.
        made_blur: share of A that is a sharp photograph blurred on the fly. Where it is above 0,
            every second sharp photograph is set aside for it, and B never shows those.
        crop: side of the square crops, pixels.
        short_side: the picture's short side is downsized to between these (section 3.4, step 2),
            pixels; never below the crop, never enlarged.
        blur_extent: shortest and longest streak of the made blur, pixels after downsizing.
        highlights: clipped highlights of the made blur are up to this much brighter than white.
        exposure: "as is" (the paper's), or "common": each crop gets one gain and one offset so that
            all have the mean and spread of an average photograph.
        noise: the largest spread of sensor noise on G's inputs, in [-1, 1]; the losses compare with
            the pictures without it. 0: none (the paper's).
        noise_share: share of the samples that get noise.
    """

    sharp: tuple[str, ...] = ()
    blurry: tuple[str, ...] = ()
    made_blur: float = 0.0
    crop: int = 256
    short_side: tuple[int, int] = (256, 360)
    blur_extent: tuple[float, float] = (3.0, 20.0)
    highlights: float = 4.0
    exposure: Literal["as is", "common"] = "as is"
    noise: float = 0.0
    noise_share: float = 0.5


def list_pictures(folders: Sequence[str | Path]) -> list[Path]:
    """All pictures below the folders, sorted.

    Raises:
        FileNotFoundError: a folder that does not exist or holds no picture.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        here = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not here:
            raise FileNotFoundError(
                f"no pictures in {folder}: give a folder with {', '.join(sorted(SUFFIXES))} files"
            )
        found += here
    return found


def common_exposure(x: Tensor) -> Tensor:
    """3,H,W in [-1, 1], mapped to the common mean and spread over its channels together."""
    std, mean = torch.std_mean(x, correction=0)
    return ((x - mean) / std.clamp(min=FLAT) * COMMON_SPREAD + COMMON_MEAN).clamp(-1, 1)


@lru_cache(maxsize=4096)
def read_picture(path: Path) -> np.ndarray:
    """H,W,3 uint8, kept in memory."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


class UnpairedPictures(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Samples (A, B, A_input, B_input), each 3,crop,crop in [-1, 1]; see `training.step.Batch`.

    Args:
        config: which pictures and how.
        length: how many samples a whole run takes.
        seed: everything random follows from it and from the sample's number.
    """

    def __init__(self, config: DataConfig, length: int, seed: int):
        self.config, self.length, self.seed = config, length, seed
        sharp = list_pictures(config.sharp)
        self.real_blurry = list_pictures(config.blurry) if config.blurry else []
        if config.made_blur > 0:
            self.to_blur, self.sharp = sharp[0::2], sharp[1::2]
        else:
            self.to_blur, self.sharp = [], sharp
        if not self.real_blurry and not self.to_blur:
            raise ValueError("no blurry pictures: give a folder of them, or set made_blur above 0")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        config = self.config
        if self.to_blur and (not self.real_blurry or uniform(rng, 0, 1) < config.made_blur):
            A = self.make_blur(self.load(pick(rng, self.to_blur), rng, margin=8), rng)
        else:
            A = self.load(pick(rng, self.real_blurry), rng)
        B = self.load(pick(rng, self.sharp), rng)
        A, B = self.finish(A, rng), self.finish(B, rng)
        return A, B, self.add_noise(A, rng), self.add_noise(B, rng)

    def load(self, path: Path, rng: torch.Generator, margin: int = 0) -> Tensor:
        """A random crop of the downsized picture: 3,crop+2*margin,... in [0, 1]."""
        pixels = read_picture(path)
        size = self.config.crop + 2 * margin
        short = min(pixels.shape[:2])
        wanted = max(int(uniform(rng, *self.config.short_side)), size)
        if wanted < short or short < size:
            scale = wanted / short
            new = [max(round(s * scale), size) for s in pixels.shape[1::-1]]
            pixels = np.asarray(Image.fromarray(pixels).resize(new, Image.Resampling.LANCZOS))
        top = int(uniform(rng, 0, pixels.shape[0] - size + 1))
        left = int(uniform(rng, 0, pixels.shape[1] - size + 1))
        crop = torch.from_numpy(pixels[top : top + size, left : left + size].copy())
        return crop.permute(2, 0, 1).float() / 255

    def make_blur(self, image: Tensor, rng: torch.Generator) -> Tensor:
        """3,H+16,W+16 to the blurred 3,H,W in [0, 1]; short streaks are more frequent."""
        low, high = self.config.blur_extent
        extent = low + (high - low) * uniform(rng, 0, 1) ** 1.5
        highlights = uniform(rng, 0, self.config.highlights)
        return camera_shake(image[None], rng, extent=extent, highlights=highlights)[0, :, 8:-8, 8:-8]

    def finish(self, image: Tensor, rng: torch.Generator) -> Tensor:
        """Flip with probability 0.5, and to [-1, 1]."""
        if uniform(rng, 0, 1) < 0.5:
            image = image.flip(-1)
        image = image * 2 - 1
        return common_exposure(image) if self.config.exposure == "common" else image

    def add_noise(self, image: Tensor, rng: torch.Generator) -> Tensor:
        """Sensor noise of random strength and grain; a quarter of it with a coarse converter."""
        if uniform(rng, 0, 1) >= self.config.noise_share or not self.config.noise:
            return image
        sigma = self.config.noise * uniform(rng, 0, 1) ** 1.5
        levels = int(uniform(rng, 8, 32)) if uniform(rng, 0, 1) < 0.25 else None
        return sensor_noise(
            image[None], rng, sigma=sigma, grain=uniform(rng, 0, 1), levels=levels
        )[0]


def pick(rng: torch.Generator, items: list[Path]) -> Path:
    """One of the items, each as likely as any other."""
    return items[int(torch.randint(len(items), (), generator=rng))]
