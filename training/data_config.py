"""The settings of the images; a part of `config.py`, which says how they are documented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataConfig:
    """The images, and what is done to them before G sees them.

    Noise, JPEG, tone, white_balance and black_level apply to G's inputs, not to the images in the
    losses.

    Attributes:
        sharp: folders of sharp normal-light photographs.
        blurry: folders of photographs with real blur. May be empty if blur is synthesised.
        layout: "folders" (the two above), or the official tree of a data set.
        root: root folder of that tree, whose training split then provides both domains.
        blur: which blurry images of the tree ("blur" or "blur_gamma" of GoPro). Empty: the default.
        exclude: a table whose column `file` names images that are never used, wherever they lie;
            or a shipped one: "untuned.tsv", the photographs of the untuned set. Empty: none.
        held_out: number of sharp photographs kept for validation and never trained on.
        synthetic_blur_share: share of A that is made by blurring sharp photographs. Above 0,
            every second sharp photograph is set aside for it and is not used in B.
        frames: folders of video frames, one per clip, averaged in linear light (as for GoPro).
        frames_share: share of A that is made by averaging frames.
        frames_window: fewest and most consecutive frames to average.
        crop: side of the square crops, pixels.
        downsize: downsize images before cropping (section 3.4, step 2).
        short_side: range of the short side after downsizing, pixels; at least what the crop needs.
        blur_length: shortest and longest streak of the synthetic blur, pixels after downsizing.
        straight_share: share of synthetic blur that is a straight, uniform motion.
        sweep_share: share of it that is a smooth sweep, as in videos. The rest is camera shake.
        directions: number of directions of straight motion; 0: any direction.
        highlights: clipped highlights are up to this many times brighter than white when blurred.
        curve: range of the exponent in light = value ** exponent when blurring. None: sRGB.
        reblur_length: shortest and longest streak of A's second blur (loss.reblur). None: no blur.
        reblur_scale: A and B are first downsized by this factor, which makes them sharper.
        coarse_inputs: also train G on the results of coarser scales, as `deblur` feeds them to it.
            Needs the global shortcut.
        exposure: "as is" (paper), or "common": every crop is mapped to the mean and standard
            deviation of an average photograph, with one gain and one offset.
        noise: largest standard deviation of the noise on inputs in [-1, 1]. 0: none (paper).
        noise_share: share of samples with noise.
        shot_noise: largest share of Poisson noise in the noise's variance; the rest is Gaussian.
        jpeg_share: share of samples whose input is compressed as JPEG.
        jpeg_quality: lowest and highest JPEG quality.
        tone: range of a tone curve's exponent. Needs exposure "common". (1, 1): none (paper).
        black_level: clip at white and a random black up to this, as a sensor does. 0: not (paper).
        keep_dark: photographs that are darker than this on average (0 black, 1 white) and have
            black places keep their own exposure in the losses. Needs exposure "common". 0: none.
        coloured_light: share of samples in light of one colour, in inputs and losses alike.
        white_balance: largest gain or loss of a single channel of the inputs, in stops of light.
            Needs exposure "common". 0: none.
        border_share: share of samples with a uniform border, in inputs and losses alike.
        cache_gb: memory for decoded images, GB per process.
    """

    sharp: tuple[str, ...] = ()
    blurry: tuple[str, ...] = ()
    layout: Literal["folders", "gopro", "realblur-j", "lol", "lol-blur"] = "folders"
    root: str = ""
    blur: str = ""
    exclude: str = ""
    held_out: int = 0
    synthetic_blur_share: float = 0.0
    frames: tuple[str, ...] = ()
    frames_share: float = 0.0
    frames_window: tuple[int, int] = (7, 13)
    crop: int = 256
    downsize: bool = True
    short_side: tuple[int, int] = (256, 360)
    blur_length: tuple[float, float] = (3.0, 20.0)
    straight_share: float = 0.0
    sweep_share: float = 0.0
    directions: int = 0
    highlights: float = 4.0
    curve: tuple[float, float] | None = None
    reblur_length: tuple[float, float] | None = None
    reblur_scale: float = 0.75
    coarse_inputs: bool = False
    exposure: Literal["as is", "common"] = "as is"
    noise: float = 0.0
    noise_share: float = 0.5
    shot_noise: float = 0.0
    jpeg_share: float = 0.0
    jpeg_quality: tuple[int, int] = (30, 95)
    tone: tuple[float, float] = (1.0, 1.0)
    black_level: float = 0.0
    keep_dark: float = 0.0
    coloured_light: float = 0.0
    white_balance: float = 0.0
    border_share: float = 0.0
    cache_gb: float = 2.0
