"""Which pictures a training uses, and on which side.

A, the blurry side: real blurry pictures, sharp ones to be blurred, clips to be averaged.
B, the sharp side: sharp pictures that A never shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..method.reblur import MARGIN
from .layouts import LayoutName, list_clips, list_pictures, official_pairs


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
        sweeps: share of the made blur that is a smooth sweep, as in films (GoPro, REDS), and not a
            hand's shake, which dwells.
        directions: all made blur is straight and even, along one of so many directions, the first
            of which is level; all lengths are as frequent. With few, G soon learns to take
            long blur back, and goes on from there: see docs/training.md. 0: any movement.
        parts: share of the made blur in which a part of the picture moves in a way of its own.
        highlights: clipped highlights of the made blur are up to this much brighter than white.
        curve: exponents of the made blur's tone curve, smallest and largest: light = value **
            exponent, each as likely as its double; the larger, the further bright things spread
            over dark ones. Of blurry pictures with a known sharp frame, GoPro's go with 1 to 2.2,
            REDS's with 4 to 6. None: sRGB's, about 2.2.
        averaged: share of the made blur that is a plain average of frames as they were stored, as
            some of GoPro's is: with exponent 1, and nothing brighter than white.
        again_extent: shortest and longest streak with which pictures are blurred again, for
            loss.again; None: they are not (the paper's).
        again_of: what is blurred again: "L", the restored pictures, or "A", the blurry ones, which
            then stay so: A is what was blurred again, and all the losses see that.
        again_scale: beforehand it is shrunk to this share of its size, which makes it sharper. With
            "A", so are the pictures of B.
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
    sweeps: float = 0.0
    directions: int = 0
    parts: float = 0.0
    highlights: float = 4.0
    curve: tuple[float, float] | None = None
    averaged: float = 0.0
    again_extent: tuple[float, float] | None = None
    again_of: Literal["L", "A"] = "L"
    again_scale: float = 0.75
    exposure: Literal["as is", "common"] = "as is"
    noise: float = 0.0
    noise_share: float = 0.5
    tone: tuple[float, float] = (1.0, 1.0)
    clip: float = 0.0
    cache_gb: float = 2.0

    @property
    def blurs_A_again(self) -> bool:
        """Whether A is shrunk and blurred again."""
        return self.again_of == "A" and self.again_extent is not None

    @property
    def again_side(self) -> int:
        """Pixels of a side of what loss.again compares; below 1, nothing is left to compare."""
        return self.crop if self.again_of == "A" else int(self.again_scale * self.crop) - 2 * MARGIN

    @property
    def last_blur_is_made(self) -> bool:
        """Whether all of A is blurred on the fly, be it for the first time or once more."""
        return self.blurs_A_again or (self.made_blur == 1 and not self.blurry and not self.frames)


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
