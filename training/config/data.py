"""The settings of the images; `settings.py` has the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from .ranges import D_SIDE, NOT_NEGATIVE, SHARE, Range


@dataclass(frozen=True)
class DataConfig:
    """The images, and what is done to them before G sees them.

    Noise, JPEG, tone, white_balance and black_level apply to G's inputs, not to the images in the
    losses.
    """

    sharp: tuple[str, ...] = ()
    """Folders of sharp normal-light photographs, or WebDataset shards of them (.tar)."""
    blurry: tuple[str, ...] = ()
    """Folders or shards of photographs with real blur. May be empty if blur is synthesised."""
    layout: Literal["folders", "gopro", "realblur-j", "lol", "lol-blur"] = "folders"
    """Order of the files: "folders" (the two above), or the official tree of a data set."""
    root: str = ""
    """Root folder of that tree, whose training split then provides both domains."""
    blur: str = ""
    """Which blurry images of the tree ("blur" or "blur_gamma" of GoPro). Empty: the default."""
    exclude: str = ""
    """A table whose column `file` names images that are never used, wherever they lie. Empty: none.
    A shipped one: "untuned.tsv", the photographs of the untuned set."""
    held_out: Annotated[int, NOT_NEGATIVE] = 0
    """Number of sharp photographs kept for validation and never trained on."""
    synthetic_blur_share: Annotated[float, SHARE] = 0.0
    """Share of A that is made by blurring sharp photographs.
    Above 0, every second sharp photograph is set aside for it and is not used in B."""
    frames: tuple[str, ...] = ()
    """Folders of video frames, one per clip, averaged in linear light (as for GoPro)."""
    frames_share: Annotated[float, SHARE] = 0.0
    """Share of A that is made by averaging frames."""
    frames_window: Annotated[tuple[int, int], Range(1, 1000)] = (7, 13)
    """Fewest and most consecutive frames to average."""
    crop: Annotated[int, Range(D_SIDE, 4096)] = 256
    """Side of the square crops, pixels."""
    downsize: bool = True
    """Downsize images before cropping (section 3.4, step 2)."""
    short_side: Annotated[tuple[int, int], Range(1, 100_000)] = (256, 360)
    """Range of the short side after downsizing, pixels; at least what the crop needs."""
    blur_length: Annotated[tuple[float, float], Range(0, 500)] = (3.0, 20.0)
    """Shortest and longest streak of the synthetic blur, pixels after downsizing."""
    straight_share: Annotated[float, SHARE] = 0.0
    """Share of synthetic blur that is a straight, uniform motion."""
    sweep_share: Annotated[float, SHARE] = 0.0
    """Share of it that is a smooth sweep, as in videos. The rest is camera shake."""
    directions: Annotated[int, Range(0, 10_000)] = 0
    """Number of directions of straight motion; 0: any direction."""
    highlights: Annotated[float, Range(0, 1000)] = 4.0
    """Clipped highlights are up to this many times brighter than white when blurred."""
    curve: Annotated[tuple[float, float] | None, Range(0.1, 20)] = None
    """Range of the exponent in light = value ** exponent when blurring. None: sRGB."""
    reblur_length: Annotated[tuple[float, float] | None, Range(0, 500)] = None
    """Shortest and longest streak of A's second blur (loss.reblur). None: no blur."""
    reblur_scale: Annotated[float, Range(0.05, 1)] = 0.75
    """A and B are first downsized by this factor, which makes them sharper."""
    coarse_inputs: bool = False
    """Also train G on the results of coarser scales, as `deblur` feeds them to it.
    Needs the global shortcut."""
    exposure: Literal["as is", "common"] = "as is"
    """Keep it "as is" (paper), or map every crop to a "common" one:
    the mean and standard deviation of an average photograph, by one gain and one offset."""
    noise: Annotated[float, Range(0, 10)] = 0.0
    """Largest standard deviation of the noise on inputs in [-1, 1]. 0: none (paper)."""
    noise_share: Annotated[float, SHARE] = 0.5
    """Share of samples with noise."""
    shot_noise: Annotated[float, SHARE] = 0.0
    """Largest share of Poisson noise in the noise's variance; the rest is Gaussian."""
    jpeg_share: Annotated[float, SHARE] = 0.0
    """Share of samples whose input is compressed as JPEG."""
    jpeg_quality: Annotated[tuple[int, int], Range(1, 100)] = (30, 95)
    """Lowest and highest JPEG quality."""
    tone: Annotated[tuple[float, float], Range(0.05, 20)] = (1.0, 1.0)
    """Range of a tone curve's exponent. Needs exposure "common". (1, 1): none (paper)."""
    black_level: Annotated[float, Range(0, 1, open_high=True)] = 0.0
    """Clip at white and a random black up to this, as a sensor does. 0: not (paper)."""
    keep_dark: Annotated[float, SHARE] = 0.0
    """Photographs with black places that are darker than this on average (0 black, 1 white)
    keep their own exposure in the losses. Needs exposure "common". 0: none."""
    coloured_light: Annotated[float, SHARE] = 0.0
    """Share of samples in light of one colour, in inputs and losses alike."""
    white_balance: Annotated[float, Range(0, 4)] = 0.0
    """Largest gain or loss of a single channel of the inputs, in stops of light.
    Needs exposure "common". 0: none."""
    border_share: Annotated[float, SHARE] = 0.0
    """Share of samples with a uniform border, in inputs and losses alike."""
    cache_gb: Annotated[float, Range(0, 100_000)] = 2.0
    """Memory for decoded images, GB per process."""
