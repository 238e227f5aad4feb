"""Unpaired pictures: sharp ones (B) and blurry ones (A), real or blurred on the fly.

Every sample is a pure function of (seed, its number), so a run can be resumed anywhere, with any
number of workers or processes, and sees the same pictures. It is made in two halves: `draw` takes
all decisions and reads the crops (in the loader's workers); `develop` does the arithmetic (blur,
exposure, noise) on whatever device the training runs on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from devudp_model.degrade import (
    Shake,
    apply_noise,
    apply_shake,
    draw_shake,
    to_linear,
    to_srgb,
    uniform,
)

from .cache import PictureCache, UnreadablePicture
from .sources import LayoutName, list_clips, list_pictures, official_pairs
from .step import Batch

COMMON_MEAN, COMMON_SPREAD = -0.10, 0.46
"""The exposure of an average normal-light photograph, in [-1, 1] (mean, standard deviation)."""

FLAT = 0.2
"""Spread below which a crop counts as flat (sky, a wall) and is not stretched any further."""

MARGIN = 8
"""Pixels around a crop that the made blur may draw in from outside."""

TRIES = 10
"""So many unreadable pictures in a row are no accident."""


@dataclass(frozen=True)
class DataConfig:
    """Which pictures, and what is done to them before G sees them.

    Attributes:
        sharp: folders of sharp normal-light photographs.
        blurry: folders of really blurred photographs; may be empty if blur is made.
        layout: "folders" (the two above), or the official tree of a data set in `root`, whose
            training part then gives both sides.
        root: that tree's folder.
        blur: which blurry pictures of the tree ("blur" or "blur_gamma" of GoPro); empty: its usual.
        made_blur: share of A that is a sharp photograph blurred on the fly. Where it is above 0,
            every second sharp photograph is set aside for it, and B never shows those.
        frames: folders of video frames, one clip each; A is then also made by averaging some in a
            row in linear light, as GoPro was made.
        frames_share: share of A that is made so.
        frames_window: fewest and most frames averaged.
        crop: side of the square crops, pixels.
        downsize: whether pictures are downsized before all else (section 3.4, step 2).
        short_side: the picture's short side is downsized to between these, pixels; never below the
            crop, never enlarged (unless smaller than the crop).
        blur_extent: shortest and longest streak of the made blur, pixels after downsizing.
        highlights: clipped highlights of the made blur are up to this much brighter than white.
        exposure: "as is" (the paper's), or "common": each crop gets one gain and one offset so that
            all have the mean and spread of an average photograph.
        noise: the largest spread of sensor noise on G's inputs, in [-1, 1]; the losses compare with
            the pictures without it. 0: none (the paper's).
        noise_share: share of the samples that get noise.
        tone: G's inputs are raised to a random power between these (in [0, 1]), each as likely as
            its double; the losses compare with the pictures as they were. Needs the common
            exposure, so that no picture is dark or bright, only its contrast lies elsewhere.
            (1, 1): none (the paper's).
        clip: G's inputs, noise and all, are cut off at white and at a random black level up to
            this (in [0, 1]), as a sensor does. 0: not (the paper's).
        cache_gb: decoded pictures kept in memory, GB for each process.
    """

    sharp: tuple[str, ...] = ()
    blurry: tuple[str, ...] = ()
    layout: Literal["folders", "gopro", "realblur-j", "lol", "lol-blur"] = "folders"
    root: str = ""
    blur: str = ""
    made_blur: float = 0.0
    frames: tuple[str, ...] = ()
    frames_share: float = 0.0
    frames_window: tuple[int, int] = (7, 13)
    crop: int = 256
    downsize: bool = True
    short_side: tuple[int, int] = (256, 360)
    blur_extent: tuple[float, float] = (3.0, 20.0)
    highlights: float = 4.0
    exposure: Literal["as is", "common"] = "as is"
    noise: float = 0.0
    noise_share: float = 0.5
    tone: tuple[float, float] = (1.0, 1.0)
    clip: float = 0.0
    cache_gb: float = 2.0


@dataclass(frozen=True)
class Sides:
    """The pictures by their role: real blurry ones, sharp ones to blur, clips, and B."""

    real_blurry: list[Path]
    to_blur: list[Path]
    clips: list[list[Path]]
    sharp: list[Path]

    @property
    def A_size(self) -> int:
        """How many pictures A is made from: an epoch shows each once, on average."""
        return len(self.real_blurry) + len(self.to_blur) + sum(map(len, self.clips))

    def listing(self) -> list[str]:
        """One line a picture: its role, size in bytes and path; for the run's records."""
        roles = {
            "A": self.real_blurry,
            "A made": self.to_blur,
            "A frame": [frame for clip in self.clips for frame in clip],
            "B": self.sharp,
        }
        return [
            f"{role}\t{path.stat().st_size}\t{path.as_posix()}"
            for role, paths in roles.items()
            for path in paths
        ]


def listing_hash(listing: Sequence[str]) -> str:
    """SHA-256 of a data list: roles, sizes and file names, wherever the folders lie."""
    rows = (line.split("\t") for line in listing)
    text = "\n".join(f"{role}\t{size}\t{Path(path).name}" for role, size, path in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def find_sides(config: DataConfig) -> Sides:
    """Lists the pictures that `config` asks for.

    Raises:
        FileNotFoundError: a folder that is missing or empty.
        ValueError: one of the two sides is empty.
    """
    if config.layout != "folders":
        if not config.root:
            raise ValueError(f"the recipe uses the tree of {config.layout}: give its data.root")
        layout: LayoutName = config.layout
        pairs = official_pairs(layout, config.root, "train", config.blur)
        blurry, sharp = [p.degraded for p in pairs], [p.reference for p in pairs]
    else:
        blurry = list_pictures(config.blurry) if config.blurry else []
        sharp = list_pictures(config.sharp) if config.sharp else []
    to_blur: list[Path] = []
    if config.made_blur > 0:
        to_blur, sharp = sharp[0::2], sharp[1::2]
    clips = list_clips(config.frames) if config.frames and config.frames_share > 0 else []
    if not sharp:
        raise ValueError("no sharp pictures: give folders of them as data.sharp")
    if not blurry and not to_blur and not clips:
        raise ValueError(
            "no blurry pictures: give folders of them as data.blurry, or have them made "
            "(data.made_blur above 0, or data.frames)"
        )
    return Sides(blurry, to_blur, clips, sharp)


def expose(x: Tensor, values: Tensor | None = None) -> Tensor:
    """Maps x (3,H,W) to the common mean and spread over its channels together; not clipped.

    With `values`: what that mapping makes of them, instead of x itself.
    """
    std, mean = torch.std_mean(x, correction=0)
    values = x if values is None else values
    return (values - mean) / std.clamp(min=FLAT) * COMMON_SPREAD + COMMON_MEAN


def common_exposure(x: Tensor) -> Tensor:
    """3,H,W in [-1, 1] to the common exposure, clipped to [-1, 1]."""
    return expose(x).clamp(-1, 1)


class Noise(NamedTuple):
    """Sensor noise to be added; see `devudp_model.degrade.sensor_noise`."""

    normal: Tensor  # 1,3,H,W
    sigma: float
    grain: float
    levels: int | None


class Shot(NamedTuple):
    """One picture of a sample: the crop as read, and what is to be done to it.

    `pixels` is 3,H,W: uint8, or float32 in [0, 1] where frames were averaged.
    """

    pixels: Tensor
    shake: Shake | None
    flip: bool
    tone: float  # exponent of the input's tone curve; 1: as it is
    noise: Noise | None
    floor: float | None  # what the input's sensor shows as black, in [0, 1]; None: not clipped


class Sample(NamedTuple):
    """One of each domain, the files they come from, and which files could not be read."""

    A: Shot
    B: Shot
    files: tuple[str, str]
    faults: tuple[str, ...]


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

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Sample:
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        sides, faults = self.sides, []
        shake = None
        # A question with one possible answer draws no random number.
        if sides.clips and (self.config.frames_share >= 1 or self.yes(rng, "frames_share")):
            A, A_file = self.average_frames(rng, faults)
        elif sides.to_blur and (not sides.real_blurry or self.yes(rng, "made_blur")):
            A, A_file = self.crop_of(sides.to_blur, rng, faults, margin=MARGIN)
            low, high = self.config.blur_extent
            extent = low + (high - low) * uniform(rng, 0, 1) ** 1.5  # short ones more often
            highlights = uniform(rng, 0, self.config.highlights)
            shake = draw_shake(rng, extent=extent, highlights=highlights)
        else:
            A, A_file = self.crop_of(sides.real_blurry, rng, faults)
        B, B_file = self.crop_of(sides.sharp, rng, faults)
        flip_A, flip_B = (uniform(rng, 0, 1) < 0.5 for _ in "AB")
        input_A, input_B = (
            (self.draw_tone(rng), self.draw_noise(rng), self.draw_floor(rng)) for _ in "AB"
        )
        return Sample(
            Shot(A, shake, flip_A, *input_A),
            Shot(B, None, flip_B, *input_B),
            (A_file, B_file),
            tuple(faults),
        )

    def yes(self, rng: torch.Generator, share: Literal["made_blur", "frames_share"]) -> bool:
        """True for this share of the samples."""
        wanted = {"made_blur": self.config.made_blur, "frames_share": self.config.frames_share}
        return uniform(rng, 0, 1) < wanted[share]

    def crop_of(
        self, paths: list[Path], rng: torch.Generator, faults: list[str], margin: int = 0
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
            return self.crop(pixels, self.draw_place(rng), margin), str(path)
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
                crops.append(self.crop(self.cache.read(path), place).float() / 255)
            except UnreadablePicture as error:
                faults.append(str(error))
        if not crops:
            raise UnreadablePicture(f"none of {count} frames can be read (last: {faults[-1]})")
        light = torch.stack([to_linear(crop) for crop in crops]).mean(0)
        return to_srgb(light), str(clip[start + count // 2])

    def draw_place(self, rng: torch.Generator) -> tuple[float, float, float]:
        """Where to crop: the short side in pixels, and top and left in [0, 1)."""
        return uniform(rng, *self.config.short_side), uniform(rng, 0, 1), uniform(rng, 0, 1)

    def crop(
        self, pixels: np.ndarray, place: tuple[float, float, float], margin: int = 0
    ) -> Tensor:
        """A crop of the downsized picture: H,W,3 uint8 to 3,crop+2*margin,... uint8."""
        size = self.config.crop + 2 * margin
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
        return math.exp(uniform(rng, math.log(low), math.log(high)))

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
    pictures = [
        (*develop_shot(sample.A, config, device), *develop_shot(sample.B, config, device))
        for sample in samples
    ]
    A, A_input, B, B_input = (torch.stack(column) for column in zip(*pictures, strict=True))
    return Batch(A, B, A_input, B_input)


def develop_shot(shot: Shot, config: DataConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """The picture that the losses compare with, and G's input; each 3,crop,crop in [-1, 1]."""
    image = shot.pixels.to(device, non_blocking=True)
    image = image.float() / 255 if image.dtype == torch.uint8 else image
    if shot.shake is not None:
        image = apply_shake(image[None], shot.shake)[0, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
    image = (image.flip(-1) if shot.flip else image) * 2 - 1
    if config.exposure == "common":
        image = common_exposure(image)
    return image, develop_input(image, shot, device)


def develop_input(image: Tensor, shot: Shot, device: torch.device) -> Tensor:
    """What G is given of `image`: another tone curve, noise, clipped; 3,crop,crop."""
    toned = ((image + 1) / 2).clamp(min=0) ** shot.tone
    given = expose(toned) if shot.tone != 1 else image
    if shot.noise is not None:
        given = apply_noise(
            given[None],
            shot.noise.normal.to(device, non_blocking=True),
            sigma=shot.noise.sigma,
            grain=shot.noise.grain,
            levels=shot.noise.levels,
        )[0]
    if shot.floor is not None:
        black, white = expose(toned, torch.tensor([shot.floor, 1.0], device=device))
        given = given.clamp(black, white)
    return given


class StepSampler(Sampler[list[int]]):
    """The numbers of one process's samples, a list for each step from `start` to `stop`.

    Step s takes the samples from batch * s on; the processes share them out, so that together they
    see what one process alone would.

    Args:
        batch: samples a step, of all processes together; divisible by `processes`.
    """

    def __init__(self, start: int, stop: int, batch: int, rank: int = 0, processes: int = 1):
        self.start, self.stop, self.batch = start, stop, batch
        self.rank, self.share = rank, batch // processes

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.stop):
            first = self.batch * step + self.rank * self.share
            yield list(range(first, first + self.share))

    def __len__(self) -> int:
        return self.stop - self.start
