"""Unpaired pictures: sharp ones (B) and blurry ones (A), real or blurred on the fly.

Every sample is a pure function of (seed, its number), so a run can be resumed anywhere, with any
number of workers or processes, and sees the same pictures. It is made in two halves:
`UnpairedPictures` takes all decisions and reads the crops (in the loader's workers); `develop` does
the arithmetic (blur, exposure, noise) on whatever device the training runs on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from devudp_model.degrade import Shake, draw_shake, to_linear, to_srgb, uniform

from ..method.reblur import MARGIN, Again, Blur, KnownBlur, Noise, Part, straight_shake, within
from ..method.step import Batch
from .domains import DataConfig, find_sides
from .exposure import Exposure, exposure_of
from .image_cache import PictureCache, UnreadablePicture

TRIES = 10
"""So many unreadable pictures in a row are no accident."""

UNUSED_FROM = 10**12
"""Samples from this number on are never trained on."""


def log_uniform(rng: torch.Generator, low: float, high: float) -> float:
    """One number in [low, high), each as likely as its double."""
    return math.exp(uniform(rng, math.log(low), math.log(high)))


class Shot(NamedTuple):
    """One picture of a sample: the crop as read, and what is to be done to it.

    `pixels` is 3,H,W: uint8, or float32 in [0, 1] where frames were averaged. It is larger than the
    crop by a margin for each blur, and by what it is to be shrunk by.
    """

    pixels: Tensor
    blur: Blur | None
    again: Blur | None  # by which it is blurred once more after it was shrunk
    flip: bool
    tone: float  # exponent of the input's tone curve; 1: as it is
    noise: Noise | None
    floor: float | None  # what the input's sensor shows as black, in [0, 1]; None: not clipped


class Sample(NamedTuple):
    """One of each domain, the files they come from, and which files could not be read.

    `again` is how L = G(A) is to be blurred for other rounds; empty where that is not wanted.
    """

    A: Shot
    B: Shot
    again: tuple[Again, ...]
    files: tuple[str, str]
    faults: tuple[str, ...]


class Camera(NamedTuple):
    """How a camera sums up light; see `devudp_model.degrade.Shake`."""

    highlights: float
    curve: float | None


class UnpairedPictures(Dataset[Sample]):
    """Samples by their number.

    Args:
        config: which pictures and how.
        length: how many samples a whole run takes.
        seed: everything random follows from it and from the sample's number.
    """

    def __init__(self, config: DataConfig, length: int, seed: int):
        self.config, self.length, self.seed = config, length, seed
        self.sides = find_sides(config)
        single = [*self.sides.sharp, *self.sides.to_blur, *self.sides.real_blurry]
        frames = [frame for clip in self.sides.clips for frame in clip]
        self.cache = PictureCache([*single, *frames], int(config.cache_gb * 1e9))

        self.A_size = self.B_size = config.crop
        if config.blurs_A_again:
            self.A_size = round((config.crop + 2 * MARGIN) / config.again_scale)
            self.B_size = round(config.crop / config.again_scale)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Sample:
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        sides, faults = self.sides, []
        blur = None
        # A question with one possible answer draws no random number.
        if sides.clips and (self.config.frames_share >= 1 or self.yes(rng, "frames_share")):
            A, A_file = self.average_frames(rng, faults)
        elif sides.to_blur and (not sides.real_blurry or self.yes(rng, "made_blur")):
            A, A_file = self.crop_of(sides.to_blur, rng, faults, self.A_size + 2 * MARGIN)
            blur = self.draw_blur(rng, self.config.blur_extent)
        else:
            A, A_file = self.crop_of(sides.real_blurry, rng, faults, self.A_size)
        B, B_file = self.crop_of(sides.sharp, rng, faults, self.B_size)
        flip_A, flip_B = (uniform(rng, 0, 1) < 0.5 for _ in "AB")
        input_A, input_B = (
            (self.draw_tone(rng), self.draw_noise(rng), self.draw_floor(rng)) for _ in "AB"
        )
        again, of_L = None, ()
        if self.config.again_extent is not None:
            blurred = self.draw_blur(rng, self.config.again_extent)
            if self.config.blurs_A_again:
                again = blurred
            else:
                of_L = (Again(self.config.again_scale, blurred, self.draw_noise(rng)),)
        return Sample(
            Shot(A, blur, again, flip_A, *input_A),
            Shot(B, None, None, flip_B, *input_B),
            of_L,
            (A_file, B_file),
            tuple(faults),
        )

    def draw_blur(self, rng: torch.Generator, between: tuple[float, float]) -> Blur:
        """A camera's movement, and sometimes that of a part of the picture."""
        camera = self.draw_camera(rng)
        shake = self.draw_shake(rng, between, camera)
        if not self.config.parts or uniform(rng, 0, 1) >= self.config.parts:
            return Blur(shake)
        part = self.draw_shake(rng, between, camera)
        return Blur(shake, Part(part, torch.randn(1, 1, 4, 4, generator=rng)))

    def draw_camera(self, rng: torch.Generator) -> Camera:
        """What sums up the light while something moves: a sensor, or an average of frames."""
        config = self.config
        if config.averaged and uniform(rng, 0, 1) < config.averaged:
            return Camera(0.0, 1.0)
        highlights = uniform(rng, 0, config.highlights)
        return Camera(highlights, log_uniform(rng, *config.curve) if config.curve else None)

    def draw_shake(
        self, rng: torch.Generator, between: tuple[float, float], camera: Camera
    ) -> Shake:
        """A movement; short ones are more frequent, unless it is straight."""
        low, high = between
        share = uniform(rng, 0, 1)
        extent = low + (high - low) * (share if self.config.directions else share**1.5)
        sweeps, how = self.config.sweeps, camera._asdict()
        if self.config.directions:
            return straight_shake(rng, self.config.directions, extent=extent, **how)
        if not sweeps or uniform(rng, 0, 1) >= sweeps:
            return draw_shake(rng, extent=extent, **how)
        return draw_shake(rng, extent=extent, roll=uniform(rng, 0, extent), sweep=True, **how)

    def yes(self, rng: torch.Generator, share: Literal["made_blur", "frames_share"]) -> bool:
        """True for this share of the samples."""
        wanted = {"made_blur": self.config.made_blur, "frames_share": self.config.frames_share}
        return uniform(rng, 0, 1) < wanted[share]

    def crop_of(
        self, paths: list[Path], rng: torch.Generator, faults: list[str], size: int
    ) -> tuple[Tensor, str]:
        """A crop of one of the pictures; an unreadable one is noted, and its neighbour taken."""
        first = int(torch.randint(len(paths), (), generator=rng))
        for step in range(TRIES):
            path = paths[(first + step) % len(paths)]
            try:
                pixels = self.cache.read(path)
            except UnreadablePicture as error:
                faults.append(str(error))
                continue
            return self.crop(pixels, self.draw_place(rng), size), str(path)
        raise UnreadablePicture(
            f"{TRIES} pictures in a row cannot be read (last: {faults[-1]}). "
            "devudp-train check-data lists all that is wrong with them"
        )

    def average_frames(self, rng: torch.Generator, faults: list[str]) -> tuple[Tensor, str]:
        """The average in linear light of some frames in a row: 3,crop,crop in [0, 1]."""
        clip = self.sides.clips[int(torch.randint(len(self.sides.clips), (), generator=rng))]
        low, high = self.config.frames_window
        count = min(int(uniform(rng, low, high + 1)), len(clip))
        start = int(uniform(rng, 0, len(clip) - count + 1))
        place, crops = self.draw_place(rng), []
        for path in clip[start : start + count]:
            try:
                crops.append(self.crop(self.cache.read(path), place, self.A_size).float() / 255)
            except UnreadablePicture as error:
                faults.append(str(error))
        if not crops:
            raise UnreadablePicture(f"none of {count} frames can be read (last: {faults[-1]})")
        light = torch.stack([to_linear(crop) for crop in crops]).mean(0)
        return to_srgb(light), str(clip[start + count // 2])

    def draw_place(self, rng: torch.Generator) -> tuple[float, float, float]:
        """Where to crop: the short side in pixels, and top and left in [0, 1)."""
        return uniform(rng, *self.config.short_side), uniform(rng, 0, 1), uniform(rng, 0, 1)

    def crop(self, pixels: np.ndarray, place: tuple[float, float, float], size: int) -> Tensor:
        """A crop of the downsized picture: H,W,3 uint8 to 3,size,size uint8."""
        short = min(pixels.shape[:2])
        wanted = max(int(place[0]) if self.config.downsize else short, size)
        if wanted < short or short < size:
            scale = wanted / short
            new = [max(round(s * scale), size) for s in pixels.shape[1::-1]]
            pixels = np.asarray(Image.fromarray(pixels).resize(new, Image.Resampling.LANCZOS))
        top, left = (int(u * (s - size + 1)) for u, s in zip(place[1:], pixels.shape, strict=False))
        crop = torch.from_numpy(pixels[top : top + size, left : left + size].copy())
        return crop.permute(2, 0, 1).contiguous()

    def draw_tone(self, rng: torch.Generator) -> float:
        """The exponent of the input's tone curve."""
        low, high = self.config.tone
        if low == high == 1:
            return 1.0
        return log_uniform(rng, low, high)

    def draw_floor(self, rng: torch.Generator) -> float | None:
        """The black level of the input; low ones are more frequent."""
        return self.config.clip * uniform(rng, 0, 1) ** 2 if self.config.clip else None

    def draw_noise(self, rng: torch.Generator) -> Noise | None:
        """Sensor noise of random strength and grain; a quarter of it with a coarse converter."""
        config = self.config
        if uniform(rng, 0, 1) >= config.noise_share or not config.noise:
            return None
        sigma = config.noise * uniform(rng, 0, 1) ** 1.5
        levels = int(uniform(rng, 8, 32)) if uniform(rng, 0, 1) < 0.25 else None
        grain = uniform(rng, 0, 1)
        normal = torch.randn(1, 3, config.crop, config.crop, generator=rng)
        return Noise(normal, sigma, grain, levels)


def develop(samples: Sequence[Sample], config: DataConfig, device: torch.device) -> Batch:
    """The second half of the samples' making, on `device`: blur, flip, exposure, noise."""
    pictures, less, blurs = [], [], []
    for sample in samples:
        A, B = (develop_shot(shot, config, device) for shot in (sample.A, sample.B))
        pictures.append((A.image, B.image, A.given, B.given))
        less += [] if A.less is None else [A.less]
        blur = sample.A.again or sample.A.blur
        if blur is not None:
            blurs.append(KnownBlur(blur, sample.A.flip, A.exposure))
    again = [how for sample in samples for how in sample.again]
    A, B, A_input, B_input = (torch.stack(column) for column in zip(*pictures, strict=True))
    before = torch.stack(less) if less else None
    return Batch(A, B, A_input, B_input, tuple(blurs), tuple(again), before)


class Developed(NamedTuple):
    """A shot as the losses and G see it; each picture 3,crop,crop in [-1, 1].

    Attributes:
        image: what the losses compare with.
        given: what G is given.
        less: what it was before it was blurred again, if it was.
        exposure: the one it had before it was mapped to the common one, if it was.
    """

    image: Tensor
    given: Tensor
    less: Tensor | None
    exposure: Exposure | None


def develop_shot(shot: Shot, config: DataConfig, device: torch.device) -> Developed:
    """One of the two pictures of a sample."""
    image = shot.pixels.to(device, non_blocking=True)
    image = image.float() / 255 if image.dtype == torch.uint8 else image
    if shot.blur is not None:
        image = within(shot.blur(image))
    if config.blurs_A_again:
        size = config.crop + (2 * MARGIN if shot.again is not None else 0)
        image = F.interpolate(image[None], (size, size), mode="bicubic", antialias=True)[0]
        image = image.clamp(0, 1)
    states = [image] if shot.again is None else [within(shot.again(image)), within(image)]
    stacked = torch.stack(states) * 2 - 1  # the last state first
    stacked = stacked.flip(-1) if shot.flip else stacked
    exposure = None
    if config.exposure == "common":
        exposure = exposure_of(stacked[0])
        stacked = exposure.map(stacked).clamp(-1, 1)
    image, less = stacked[0], None if shot.again is None else stacked[1]
    return Developed(image, develop_input(image, shot, device), less, exposure)


def develop_input(image: Tensor, shot: Shot, device: torch.device) -> Tensor:
    """What G is given of `image`: another tone curve, noise, clipped; 3,crop,crop."""
    toned = ((image + 1) / 2).clamp(min=0) ** shot.tone
    exposure = exposure_of(toned)
    given = exposure.map(toned) if shot.tone != 1 else image
    if shot.noise is not None:
        given = shot.noise(given)
    if shot.floor is not None:
        black, white = exposure.map(torch.tensor([shot.floor, 1.0], device=device))
        given = given.clamp(black, white)
    return given
