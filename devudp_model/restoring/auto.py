"""What does this image need? Nothing, `deblur`, `low light` or `joint`, and how strongly.

Three numbers are measured on the image itself, shrunk to at most `MOST_PIXELS` a side:

- light: the mean of its linear values. Mean, not median: a bright subject before a black background
  is well exposed.
- sharpness: how much neighbours differ, compared with pixels four apart. Natural images look alike
  at all scales (Field 1987), so the ratio is about the same for all sharp ones; blur lowers it.
- noise: see `noise_variance`. It is taken off the differences, which it would make look sharp.

A pure function of tensors, used above `restore` by the nodes and the command line.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..bands.rows import in_bands, sampled, write_rows
from ..bands.workers import working
from ..ops.degrade import to_linear
from ..ops.dtypes import to_unit
from ..ops.filters import noise_variance
from .coarse_to_fine import shrink
from .exposure import every
from .restoration import Options
from .tasks import Task
from .validate import is_flat

AUTO = "auto"
"""What nodes and command line offer beside the tasks' names."""

MOST_PIXELS = 1280
"""Of the long side. Blur that cannot be seen at this size need not be removed, and the finest
pixels of large photographs are soft by themselves (demosaicing, JPEG)."""

LEAST_PIXELS = 32
"""Of the short side: below, there are too few edges to tell blur."""

DARK = (0.03, 0.09)
"""Mean linear light: below the first an image is certainly dark, above the second certainly not.
Well exposed photographs have about 0.2, one and a half stops around it are usual."""

BLURRED = (0.35, 0.41)
"""Sharpness: below the first certainly blurred, above the second certainly not. Between them a task
takes part of its strength, so that a sharp photograph that is taken for a blurred one hardly
changes."""

LEAST_SHARE = 0.25
"""Of darkness or blur: weaker ones are left alone, as an image that is fine must stay as it is."""

SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""The directions in which neighbours are compared."""

FAR = 4
"""How many pixels apart the coarser differences are."""


@dataclass(frozen=True)
class Choice:
    """What an image needs, and why.

    Attributes:
        task: None if it is to stay as it is.
        strength: of the task.
        exposure: how much of the model's exposure to take.
        light: mean of the linear values, 0 to 1.
        darkness: how certainly it is dark, 0 to 1.
        sharpness: of its edges; about 0.4 to 0.7 in sharp photographs.
        blur: how certainly it is blurred, 0 to 1.
        noise: its standard deviation, from 0 (none) to 1 (white).
        reason: all that in a sentence.
    """

    task: Task | None
    strength: float
    exposure: float
    light: float
    darkness: float
    sharpness: float
    blur: float
    noise: float
    reason: str

    def options(self, options: Options) -> Options:
        """The options with this task; strength and exposure asked for go on top.

        Raises:
            ValueError: nothing is to be done.
        """
        if self.task is None:
            raise ValueError("nothing is to be done: the image stays as it is")
        asked = 1.0 if options.exposure is None else options.exposure
        exposure = asked * self.exposure
        return replace(
            options,
            task=self.task,
            strength=options.strength * self.strength,
            exposure=None if self.task == "deblur" or exposure >= 1 else exposure,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; numbers rounded."""
        values = asdict(self).items()
        return {name: round(v, 4) if isinstance(v, float) else v for name, v in values}


@torch.inference_mode()
def choose(image: Tensor) -> Choice:
    """What the images of a batch need together.

    Args:
        image: B,C,H,W in [0, 1], C = 1, 3 or 4 (alpha does not count), any type of image (see
            dtypes.py), finite. Of several images (a video's frames) the means count.
    """
    with working(image.device):
        if is_flat(image):
            light = float(to_unit(sampled(image[:, :3], every(*image.shape[2:]))).mean())
            return Choice(None, 0.0, 0.0, light, 0, 0, 0, 0, "no contrast")
        measured = torch.tensor([measure(frame) for frame in image.split(1) if not is_flat(frame)])
    light, sharpness, noise = measured.mean(0).tolist()
    dark = share_below(light, *DARK, logarithmic=True)
    blur = share_below(sharpness, *BLURRED) if min(image.shape[-2:]) >= LEAST_PIXELS else 0.0
    return decide(light, dark, sharpness, blur, noise)


def measure(image: Tensor) -> tuple[float, float, float]:
    """Light, sharpness and noise of 1,C,H,W; see `Choice`."""
    scale = -(-max(image.shape[-2:]) // MOST_PIXELS)
    height, width = (-(-size // scale) for size in image.shape[-2:])
    colour = torch.empty(1, min(image.shape[1], 3), height, width, device=image.device)

    def make_smaller(frame: int, start: int, stop: int) -> None:
        band = to_unit(image[:, :3, start:stop]).nan_to_num().clamp(0, 1)
        write_rows(colour, frame, start // scale, shrink(band, scale))

    in_bands(make_smaller, image, scale)
    light = float(to_linear(colour).mean())
    grey = colour.mean(1, keepdim=True)
    if min(grey.shape[-2:]) <= FAR:
        return light, 1.0, 0.0
    noise = noise_variance(grey).sqrt().item()
    # Lamps in a dark image would outweigh all its other edges.
    white = torch.quantile(grey.flatten()[:: max(1, grey.numel() // 2**18)], 0.99)
    return light, sharpness_of(grey.clamp(max=white), noise), noise


def sharpness_of(grey: Tensor, noise: float) -> float:
    """RMS difference of neighbours over that of pixels `FAR` apart, mean over the directions."""
    ratios = []
    for down, right in SHIFTS:
        near, far = (difference(grey, n * down, n * right) - 2 * noise**2 for n in (1, FAR))
        ratios.append((max(near, 0.0) / far) ** 0.5 if far > 0 else 1.0)
    return sum(ratios) / len(ratios)


def difference(grey: Tensor, down: int, right: int) -> float:
    """Mean squared difference of pixels that far apart."""
    height, width = grey.shape[2:]
    first = grey[..., : height - down, max(-right, 0) : width - max(right, 0)]
    second = grey[..., down:, max(right, 0) : width - max(-right, 0)]
    return float((first - second).square_().mean())


def share_below(value: float, full: float, none: float, logarithmic: bool = False) -> float:
    """1 below `full`, 0 above `none`, between on a line."""
    if logarithmic:
        value, full, none = (float(torch.tensor(max(x, 1e-6)).log()) for x in (value, full, none))
    return min(max((none - value) / (none - full), 0.0), 1.0)


def decide(light: float, darkness: float, sharpness: float, blur: float, noise: float) -> Choice:
    """The task for what was measured; see `Choice`."""
    dark, blurred = darkness >= LEAST_SHARE, blur >= LEAST_SHARE
    task: Task | None = None
    strength, exposure = 0.0, 0.0
    if dark and blurred:
        task, strength, exposure = "joint", max(darkness, blur), darkness
    elif dark:
        task, strength, exposure = "low light", darkness, 1.0
    elif blurred:
        task, strength = "deblur", blur
    found = f"{'dark' if dark else 'bright enough'} ({light:.1%} light), "
    found += f"{'blurred' if blurred else 'sharp'} ({sharpness:.2f}), noise {noise:.1%}"
    done = "left as it is" if task is None else f"{task}, strength {strength:.2f}"
    if task == "joint" and exposure < 1:
        done += f", exposure {exposure:.2f}"
    numbers = (light, darkness, sharpness, blur, noise)
    return Choice(task, strength, exposure, *numbers, f"{found}: {done}")
