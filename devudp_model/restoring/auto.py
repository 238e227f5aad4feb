"""Finds what an image needs: nothing, `deblur`, `low light` or `joint`, and how strongly.

It is looked at, shrunk to at most 1280 pixels a side (first_look.py, blur.py), and judged so:

- Where there is hardly any information (a lens cap, a black pause, noise), and in what is drawn or
  written and no photograph, nothing is done.
- Blurred or shaken: by `blur_score`, by an echo, or by lamps that are drawn as paths (lamps.py).
- Dark: by the mean of the linear values. Mean, not median: a bright subject before a black
  background is well exposed. A sharp image with bright lights is a night as it should be, and
  stays one, unless all else is black; a shaken one was taken in too little light. So does a starry
  sky (stars.py).

A pure function of tensors, used above `restore` by the nodes and the command line.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..bands.rows import sampled
from ..bands.workers import working
from ..ops.degrade import to_linear
from ..ops.dtypes import to_unit
from .blur import blur_score, is_moved
from .content import content_of
from .exposure import sampling_stride
from .first_look import MIN_PIXELS, Look, look_at, plain_look, telling_frames
from .options import Options
from .shadows import between
from .tasks import Task
from .validate import is_flat, is_one_colour

AUTO = "auto"
"""What nodes and command line offer beside the tasks' names."""

DARK = (0.03, 0.09)
"""Mean linear light: below the first an image is certainly dark, above the second certainly not.
Well exposed photographs have about 0.2, one and a half stops around it are usual."""

BLACK = (0.004, 0.0075)
"""As `DARK`, for a sharp image with bright lights: nights as they should be have 0.008 and more."""

LIGHTS = (0.13, 0.18)
"""Level of the brightest places: below the first they are certainly no bright lights, above the
second certainly. In photographs with three stops too little light, white is 0.125."""

BLURRED = (-0.7, 3.3)
"""`blur_score`: above the second certainly blurred, below the first certainly not. Between them a
task takes part of its strength, so that a sharp photograph that is taken for a blurred one hardly
changes."""

ECHO = (0.19, 0.27)
"""As `BLURRED`, for the echo: up to 0.18 in sharp photographs, 0.25 to 0.34 in ghosts."""

HALF = 0.55
"""Steepness up to which an echo counts: a ghost takes about half of each step."""

PATHS = (0.04, 0.1)
"""As `BLURRED`, for the share of lamps that are drawn as one path."""

MIN_SHARE = 0.25
"""Of darkness or blur: weaker ones are left alone, as an image that is fine must stay as it is."""

VERY = 0.01
"""Mean linear light of very dark images."""

AS_IT_IS = "left as it is"


@dataclass(frozen=True)
class Choice:
    """Says what an image needs, and why.

    Attributes:
        task: None if it is to stay as it is.
        strength: of the task.
        exposure: how much of the model's exposure to take.
        light: mean of the linear values, 0 to 1.
        darkness: how certainly it is dark, 0 to 1.
        sharpness: of its finest detail; about 0.4 to 0.7 in sharp photographs.
        blur: how certainly it is blurred, 0 to 1.
        noise: its standard deviation, from 0 (none) to 1 (white).
        reason: what was found and what is done, in words.
        steepness: of its edges; about 0.5 to 0.9 in sharp photographs.
        direction: how much detail is missing in one direction; see blur.py.
        lights: linear level of its brightest places, 0 to 1.
        echo: how much all of it is there twice; see blur.py.
        paths: the share of lamps that are drawn as one and the same path; see lamps.py.
        stars: how surely it is a starry sky, 0 to 1; see stars.py.
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
    steepness: float = 1.0
    direction: float = 0.0
    lights: float = 0.0
    echo: float = 0.0
    paths: float = 0.0
    stars: float = 0.0

    def options(self, options: Options) -> Options:
        """Returns the options with this task; strength and exposure asked for go on top.

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
    """Chooses what the images of a batch need together.

    Args:
        image: B,C,H,W in [0, 1], C = 1, 3 or 4 (hidden pixels do not count), any type of image (see
            dtypes.py), finite. Of several images (a video's frames) the medians count, of those
            that are not faded out.
    """
    with working(image.device):
        content = content_of(image)
        if content is None:
            return unchanged("nothing is to be seen", plain_look(0.0))
        image, weights = content.image, content.weights
        shown = [i for i, frame in enumerate(image.split(1)) if not is_flat(frame)]
        if not shown or is_flat(image):  # also frames of one colour each, such as of a fade
            light = float(
                to_linear(to_unit(sampled(image, sampling_stride(*image.shape[2:])))).mean()
            )
            look = plain_look(light)
            plain = is_one_colour(image)
            return unchanged("a single colour" if plain else without_information(look), look)
        every_weight = [None] * len(image) if weights is None else weights.split(1)
        looks = [look_at(image[i : i + 1], every_weight[i]) for i in shown]
    telling = telling_frames(looks)
    small = min(image.shape[-2:]) < MIN_PIXELS
    return decide(median_of([looks[i] for i in telling] or looks), bool(telling), small)


def median_of(looks: list[Look]) -> Look:
    """Returns the medians of what was seen of some images, rounded.

    A sum of many numbers differs in its last digits with the number of threads; what is done with
    the image must not.
    """
    numbers = torch.tensor([look[:-2] for look in looks], dtype=torch.float64).median(0).values
    rounded = (round(number, 5) for number in numbers.tolist())
    return Look._make([*rounded, looks[0].telling, looks[0].drawn])


def share_below(value: float, full: float, none: float, logarithmic: bool = False) -> float:
    """1 below `full`, 0 above `none`, between on a line."""
    if logarithmic:
        value, full, none = (math.log(max(x, 1e-6)) for x in (value, full, none))
    return min(max((none - value) / (none - full), 0.0), 1.0)


def darkness_of(look: Look, blurred: bool) -> float:
    """Returns how certainly an image is dark, 0 to 1."""
    dark = share_below(look.light, *DARK, logarithmic=True)
    if not blurred:
        without_lights = share_below(look.lights, *LIGHTS, logarithmic=True)
        dark = max(dark * without_lights, share_below(look.light, *BLACK, logarithmic=True))
    return dark * (1 - look.stars)


def is_dim(look: Look) -> bool:
    """True if the mean is that of a dark image, with bright lights or without."""
    return share_below(look.light, *DARK, logarithmic=True) >= MIN_SHARE


def blur_of(look: Look) -> float:
    """Returns how certainly an image is blurred, 0 to 1."""
    among_lamps = is_dim(look) and look.lights >= LIGHTS[0]
    steepness = look.usual if among_lamps else look.steepness
    score = between(blur_score(steepness, look.direction), *BLURRED, 0.0, 1.0)
    ghosts = between(look.echo, *ECHO, 0.0, 1.0) if look.steepness <= HALF else 0.0
    return max(score, ghosts, between(look.paths, *PATHS, 0.0, 1.0))


def decide(look: Look, telling: bool = True, small: bool = False) -> Choice:
    """Returns the task for what was seen; see `Choice`.

    Args:
        telling: there is something in the image.
        small: it is too small to tell blur.
    """
    if look.drawn:
        return unchanged("a page of text, a drawing or a screenshot", look)
    if not telling:
        return unchanged(without_information(look), look)
    blur = 0.0 if small else blur_of(look)
    blurred = blur >= MIN_SHARE
    darkness = darkness_of(look, blurred)
    dark = darkness >= MIN_SHARE
    task: Task | None = None
    strength, exposure = 0.0, 0.0
    if dark and blurred:
        task, strength, exposure = "joint", max(darkness, blur), darkness
    elif dark:
        task, strength, exposure = "low light", darkness, 1.0
    elif blurred:
        task, strength = "deblur", blur
    found = f"{in_words(look, dark, darkness)}, {blur_in_words(look, blurred, blur)}"
    done = AS_IT_IS if task is None else task
    if task is not None and strength < 0.995:
        done += f", strength {strength:.2f}"
    numbers = (look.light, darkness, look.sharpness, blur, look.noise)
    return chosen(task, strength, exposure, numbers, f"{found}: {done}", look)


def chosen(
    task: Task | None,
    strength: float,
    exposure: float,
    numbers: tuple[float, float, float, float, float],
    reason: str,
    look: Look,
) -> Choice:
    """Returns a choice with what was seen beside it."""
    seen = (look.steepness, look.direction, look.lights, look.echo, look.paths, look.stars)
    return Choice(task, strength, exposure, *numbers, reason, *seen)


def unchanged(found: str, look: Look) -> Choice:
    """Returns the choice to do nothing, for a reason that is no matter of light or blur."""
    numbers = (look.light, 0.0, look.sharpness, 0.0, look.noise)
    return chosen(None, 0.0, 0.0, numbers, f"{found}: {AS_IT_IS}", look)


def without_information(look: Look) -> str:
    """Returns what to say of an image with nothing in it."""
    if look.light >= VERY:
        return "hardly any information"
    if look.lights >= LIGHTS[1]:
        return "points of light on black"
    return "very dark, hardly any information"


def in_words(look: Look, dark: bool, darkness: float) -> str:
    """Returns what to say of an image's light."""
    if dark:
        return "very dark" if look.light < VERY else "dark" if darkness > 0.5 else "rather dark"
    if is_dim(look):
        return "a starry sky" if look.stars > 0.5 else "dark with bright lights"
    return "bright enough"


def blur_in_words(look: Look, blurred: bool, blur: float) -> str:
    """Returns what to say of an image's blur."""
    if not blurred:
        return "sharp"
    moved = is_moved(look.direction, look.sharpness) or look.paths > PATHS[0]
    word = "shaken" if moved else "blurred"
    return word if blur > 0.5 else f"slightly {word}"
