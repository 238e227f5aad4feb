"""Unpaired images: sharp ones (B) and blurry ones (A), real or blurred on the fly.

Every sample is a pure function of the seed, its stage and its number, so a run can be resumed
anywhere, with any number of workers or processes, and sees the same images. `UnpairedImages` takes
all random decisions and cuts the crops, in the loader's workers; `synthesis.py` does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from devudp_model.ops.degrade import Shake, draw_shake, to_linear, to_srgb, uniform

from ..config import Config, DataConfig
from ..config.stages import stage_configs
from .domains import find_domains
from .image_cache import ImageCache, UnreadableImage
from .looks import draw_look, is_night
from .synthesis import NO_NOISE, CropPlan, NoisePlan, cut_sides

TRIES = 10
"""This many unreadable images in a row are no coincidence."""

UNUSED_FROM = 10**12
"""Samples from this number on are never trained on."""

POSES_PER_PIXEL = 1.5
"""Camera poses of a straight motion: more make no visible difference."""


class Key(NamedTuple):
    """Names a sample: the stage's index, and the sample's number in the whole run."""

    stage: int
    number: int


class Sample(NamedTuple):
    """One crop of each domain, the files they come from, and which files could not be read."""

    A: CropPlan
    B: CropPlan
    files: tuple[str, str]
    faults: tuple[str, ...]


class Crop(NamedTuple):
    """Holds what was cut: 3,S,S uint8, its file, and if that shows a night (see `is_night`)."""

    pixels: Tensor
    file: str
    night: bool


def log_uniform(rng: torch.Generator, low: float, high: float) -> float:
    """One number in [low, high), log-uniform."""
    return math.exp(uniform(rng, math.log(low), math.log(high)))


@lru_cache(maxsize=16)
def shuffled(seed: int, count: int) -> list[int]:
    """Returns the numbers below `count` in random order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


class UnpairedImages(Dataset[Sample]):
    """Samples by their key.

    Args:
        config: of the run.
    """

    def __init__(self, config: Config):
        self.seed = config.seed
        self.stages = [stage.data for stage in stage_configs(config)]
        self.domains = find_domains(config)
        self.cache = ImageCache(self.domains.trained_on, int(config.data.cache_gb * 1e9))

    def __getitem__(self, key: Key) -> Sample:
        stage, number = key
        return SampleMaker(self, self.stages[stage], number).make()

    def pick(self, paths: Sequence[Path], number: int, domain: int) -> int:
        """Picks the next image: all once, in random order, then all in another order."""
        epoch, place = divmod(number, len(paths))
        order = shuffled((self.seed * 1_000_003 + epoch) * 2 + domain, len(paths))
        return order[place]


class SampleMaker:
    """Makes one sample.

    Args:
        images: the data set.
        config: of the sample's stage.
        number: the sample's.
    """

    def __init__(self, images: UnpairedImages, config: DataConfig, number: int):
        self.images, self.config, self.number = images, config, number
        self.domains = images.domains
        self.rng = torch.Generator().manual_seed(images.seed * 1_000_003 + number)
        self.faults: list[str] = []

    def make(self) -> Sample:
        """Returns the sample.

        Raises:
            UnreadableImage: many in a row cannot be read.
        """
        config, domains = self.config, self.domains
        sides, blur = cut_sides(config), None
        # No random number is drawn where there is only one possible outcome.
        if domains.clips and (config.frames_share >= 1 or self.chance(config.frames_share)):
            A = self.average_frames(sides[0])
        elif domains.to_blur and (
            not domains.real_blurry or self.chance(config.synthetic_blur_share)
        ):
            A = self.crop_of(domains.to_blur, sides[0], domain=0)
            blur = self.draw_motion(config.blur_length)
        else:
            A = self.crop_of(domains.real_blurry, sides[0], domain=0)
        B = self.crop_of(domains.sharp, sides[1], domain=1)
        reblur = None if config.reblur_length is None else self.draw_motion(config.reblur_length)
        plans = (self.plan(A, blur, reblur), self.plan(B, None, None))
        return Sample(*plans, (A.file, B.file), tuple(self.faults))

    def uniform(self, low: float, high: float) -> float:
        """One number in [low, high)."""
        return uniform(self.rng, low, high)

    def chance(self, share: float) -> bool:
        """True for this share of the samples."""
        return self.uniform(0, 1) < share

    def plan(self, crop: Crop, blur: Shake | None, reblur: Shake | None) -> CropPlan:
        """Decides what is done to a crop."""
        config = self.config
        low, high = config.tone
        flip = self.chance(0.5)
        tone = 1.0 if low == high == 1 else log_uniform(self.rng, low, high)
        noise = self.draw_noise()
        black = config.black_level * self.uniform(0, 1) ** 2 if config.black_level else 0.0
        quality = 0
        if config.jpeg_share and self.chance(config.jpeg_share):
            lowest, highest = config.jpeg_quality
            quality = int(self.uniform(lowest, highest + 1))
        look = draw_look(self.rng, config, crop.night)
        return CropPlan(crop.pixels, blur, reblur, flip, tone, noise, black, quality, look)

    def draw_noise(self) -> NoisePlan:
        """Noise of random strength and grain; a quarter of it with a coarse converter."""
        config = self.config
        if not config.noise or not self.chance(config.noise_share):
            return NO_NOISE
        sigma = config.noise * self.uniform(0, 1) ** 1.5
        levels = int(self.uniform(8, 32)) if self.chance(0.25) else 0
        seed = int(torch.randint(2**40, (), generator=self.rng))
        shot = self.uniform(0, config.shot_noise) if config.shot_noise else 0.0
        return NoisePlan(seed, sigma, self.uniform(0, 1), shot, levels)

    def draw_motion(self, between: tuple[float, float]) -> Shake:
        """Returns a camera's movement. Short ones are more frequent, unless they are straight."""
        config, (low, high) = self.config, between
        how = {
            "highlights": self.uniform(0, config.highlights),
            "curve": log_uniform(self.rng, *config.curve) if config.curve else None,
        }
        kind, share = self.uniform(0, 1), self.uniform(0, 1)
        if kind < config.straight_share:
            return self.straight(low + (high - low) * share, **how)
        length = low + (high - low) * share**1.5
        if kind < config.straight_share + config.sweep_share:
            roll = self.uniform(0, length)
            return draw_shake(self.rng, extent=length, roll=roll, sweep=True, **how)
        return draw_shake(self.rng, extent=length, **how)

    def straight(self, length: float, highlights: float, curve: float | None) -> Shake:
        """Returns a uniform motion along a line."""
        directions = self.config.directions
        turn = self.uniform(0, 1)
        angle = math.pi * (int(turn * directions) / directions if directions else turn)
        along = torch.linspace(-0.5, 0.5, max(round(length * POSES_PER_PIXEL), 2))
        path = torch.stack([along * math.cos(angle), along * math.sin(angle), along * 0], 1)
        return Shake(path, (0.0, 0.0), length, 0.0, highlights, curve)

    def crop_of(self, paths: Sequence[Path], side: int, domain: int) -> Crop:
        """Returns a crop of the next image; an unreadable one is noted, and its neighbour taken."""
        first = self.images.pick(paths, self.number, domain)
        for step in range(TRIES):
            path = paths[(first + step) % len(paths)]
            try:
                pixels = self.images.cache.read(path)
            except UnreadableImage as error:
                self.faults.append(str(error))
                continue
            night = is_night(pixels, self.config.keep_dark)
            return Crop(self.cut(pixels, self.draw_place(), side), str(path), night)
        raise UnreadableImage(
            f"{TRIES} images in a row cannot be read (last: {self.faults[-1]}). "
            "devudp-train check-data lists all that is wrong with them"
        )

    def average_frames(self, side: int) -> Crop:
        """Returns the average in linear light of some consecutive frames."""
        clips = self.domains.clips
        clip = clips[int(torch.randint(len(clips), (), generator=self.rng))]
        low, high = self.config.frames_window
        count = min(int(self.uniform(low, high + 1)), len(clip))
        start = int(self.uniform(0, len(clip) - count + 1))
        place, crops, nights = self.draw_place(), [], []
        for path in clip[start : start + count]:
            try:
                frame = self.images.cache.read(path)
            except UnreadableImage as error:
                self.faults.append(str(error))
                continue
            crops.append(self.cut(frame, place, side).float() / 255)
            nights.append(is_night(frame, self.config.keep_dark))
        if not crops:
            raise UnreadableImage(f"none of {count} frames can be read (last: {self.faults[-1]})")
        light = torch.stack([to_linear(crop) for crop in crops]).mean(0)
        pixels = (to_srgb(light) * 255).round().to(torch.uint8)
        return Crop(pixels, str(clip[start + count // 2]), all(nights))

    def draw_place(self) -> tuple[float, float, float]:
        """Draws where to crop: the short side in pixels, and top and left in [0, 1)."""
        short = self.uniform(*self.config.short_side)
        return short, self.uniform(0, 1), self.uniform(0, 1)

    def cut(self, pixels: np.ndarray, place: tuple[float, float, float], side: int) -> Tensor:
        """Returns a crop of the downsized image: H,W,3 uint8 to 3,side,side uint8."""
        height, width = pixels.shape[:2]
        short = min(height, width)
        wanted = max(int(place[0]) if self.config.downsize else short, side)
        scale = wanted / short if wanted < short or short < side else 1.0
        # Only the part of the source under the crop is resized.
        sizes = [max(round(s * scale), side) for s in (height, width)]
        top, left = (int(u * (s - side + 1)) for u, s in zip(place[1:], sizes, strict=True))
        if scale == 1.0:
            crop = pixels[top : top + side, left : left + side].copy()
        else:
            crop = resized_box(pixels, sizes, top, left, side)
        return torch.from_numpy(crop).permute(2, 0, 1).contiguous()


def resized_box(
    pixels: np.ndarray, sizes: Sequence[int], top: int, left: int, side: int
) -> np.ndarray:
    """side,side,3 of the image resized to `sizes` (height, width), cut at `top`, `left`."""
    down, across = (s / new for s, new in zip(pixels.shape[:2], sizes, strict=True))
    reach = [math.ceil(3 * max(f, 1)) for f in (down, across)]  # of the Lanczos filter
    y0, x0 = top * down, left * across
    y1, x1 = y0 + side * down, x0 + side * across
    first_y, first_x = max(int(y0) - reach[0], 0), max(int(x0) - reach[1], 0)
    part = pixels[first_y : math.ceil(y1) + reach[0], first_x : math.ceil(x1) + reach[1]]
    box = (x0 - first_x, y0 - first_y, x1 - first_x, y1 - first_y)
    box = (*box[:2], min(box[2], part.shape[1]), min(box[3], part.shape[0]))
    image = Image.fromarray(np.ascontiguousarray(part))
    return np.array(image.resize((side, side), Image.Resampling.LANCZOS, box=box))
