"""Runs a task on the model's image: detail, exposure and filters as its row in tasks.py says.

The generator standardizes its input and so forgets its exposure (see `standardize` in
generator.py). That is why one generator can serve several tasks:

- ``joint``: the model's image, sharper and well exposed, with about half of the input's own
  detail.
- ``deblur``: the model's image, with the exposure of the input.
- ``low light``: most of the input's own detail, with the model's exposure and colours.

`apply_task` and what it calls are pure functions of tensors: B,C,H,W, float32, in [0, 1].
`compose_in_bands` runs them on whole images, in bands of rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..bands.rows import AnyImage, bands_of, read_rows
from ..bands.workers import Order, in_parallel, worker_count
from ..engine.hooks import Finished
from ..engine.statistics import Moments, moments_of
from ..ops.dtypes import from_colour, from_unit, to_colour, to_unit
from ..ops.filters import DETAIL_REACH, FILTERS, GREY_LEVEL, FilterName, detail_transfer
from .curve import Curve
from .tasks import TASK_SPECS, Task

MIN_ROWS = 64
"""Of a band where there are several workers: some rows around it have to be worked on, too."""

MAX_GAIN = 8.0
"""No exposure match amplifies the model's image by more, however flat it is."""

DETAIL_FLOOR = 0.05
"""Own detail: a window's variance counts as detail above this share of the image's variance, ..."""

NOISE_FLOOR = 4.0
"""... and this many times the variance of its noise: what is noise is amplified least."""


class Affine(NamedTuple):
    """x -> gain x + offset, one of each for every channel (1,C,1,1)."""

    gain: Tensor
    offset: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.gain + self.offset


class ImageStats(NamedTuple):
    """Holds what a task takes from whole images; with it, everything else is local.

    Attributes:
        exposure: from the model's exposure to the one asked for; None where it is the model's.
        floor: variance of the input below which there is no detail in it (1,C,1,1).
        detail: how much of the detail is to be the input's own (0..1).
        bounded: whether the input bounds the model's image, which then has the input's exposure.
        curve: gives the result the scene's brightness (see exposure.py); None for the model's.
        share: how much of the new exposure is taken: 0 for the input's, 1 for the scene's.
    """

    exposure: Affine | None
    floor: Tensor
    detail: float = 0.0
    bounded: bool = False
    curve: Curve | None = None
    share: float = 1.0


def match(
    image: Moments,
    output: Moments,
    exposure: float,
    detail: float = 0.0,
    *,
    noise: Tensor | float = 0.0,
    curve: Curve | None = None,
) -> ImageStats:
    """Measures what the tasks take from whole images.

    Args:
        image, output: mean and variance of the input and of the model's image (1,C,1,1), over
            the pixels of one image, or of all images of a batch that share their statistics.
        exposure: 0 for the input's exposure, 1 for the model's, or between.
        detail, curve: see `ImageStats`.
        noise: variance of the input's noise (1,C,1,1).
    """
    floor = (DETAIL_FLOOR * image.var + NOISE_FLOOR * noise).clamp(min=GREY_LEVEL**2)
    exposed = None if exposure == 1 else exposure_match(image, output)
    return ImageStats(exposed, floor, detail, curve=curve, share=exposure)


def both_moments(
    image: Tensor, output: AnyImage, weights: Tensor | None = None
) -> tuple[Moments, Moments]:
    """Measures the input, B,C,H,W, and the model's image of it, B,3,H,W, with these weights."""
    bands, device = list(bands_of(image)), output.device

    def before(number: int) -> Tensor:
        return to_colour(read_rows(image, *bands[number]), device)

    def after(number: int) -> Tensor:
        return read_rows(output, *bands[number])

    def weigh(number: int) -> Tensor:
        assert weights is not None
        return to_unit(read_rows(weights, *bands[number]).to(device))

    count = None if weights is None else weigh
    return moments_of(before, len(bands), count), moments_of(after, len(bands), count)


def exposure_match(image: Moments, output: Moments) -> Affine:
    """Returns the gain and offset, for each channel, that give `output` the exposure of `image`.

    They make mean and standard deviation over the pixels the same. A flat `image` gives a gain near
    0 and a flat `output` one of at most `MAX_GAIN`. Arguments: see `match`.
    """
    gain = (image.var.sqrt() / output.var.sqrt().clamp(min=GREY_LEVEL)).clamp(max=MAX_GAIN)
    return Affine(gain, image.mean - gain * output.mean)


def expose(
    output: Tensor, matched: ImageStats, repair: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """`output` (B,C,H,W) with the exposure asked for: the input's, the scene's, or between.

    Args:
        repair: of the image in [0, 1] with the scene's exposure alone, so that the input's is kept
            where that is asked for.
    """
    toned = output if matched.curve is None else matched.curve(output)
    if repair is not None:
        toned = repair(toned.clamp(0, 1) if matched.curve is None else toned)
    if matched.exposure is None:
        return toned
    return (1 - matched.share) * matched.exposure(output) + matched.share * toned


def is_bounded(task: Task, shortcut: bool) -> bool:
    """True if the input bounds the image: where the generator keeps its exposure."""
    return shortcut and bool(TASK_SPECS[task].bounds)


def reach(task: Task) -> int:
    """Returns how many pixels around a pixel `apply_task` looks at."""
    spec = TASK_SPECS[task]
    detail = DETAIL_REACH if spec.detail or spec.detail_with_shortcut else 0
    filters = (*spec.before, *spec.bounds, *spec.exposed, *spec.after)
    return detail + sum(FILTERS[name].reach for name in filters)


def run_filters(names: Sequence[FilterName], image: Tensor, output: Tensor) -> Tensor:
    """One filter after the other, in the order of the task's row."""
    for name in names:
        output = FILTERS[name].function(image, output)
    return output


def apply_task(
    image: Tensor,
    output: Tensor,
    task: Task,
    matched: ImageStats,
    *,
    strength: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Returns the image that the user asked for.

    Args:
        image: the input, B,C,H,W in [0, 1].
        output: the model's image of it, same shape and range.
        task: which one.
        matched: from `match` of the whole images.
        strength: 0 for the input as it was, 1 for the task's full effect.
        mask: B or 1,1,H,W in [0, 1], multiplied with the strength.

    Returns:
        B,C,H,W in [0, 1].
    """
    spec = TASK_SPECS[task]
    if spec.before:
        output = run_filters(spec.before, image, output.clamp(0, 1))
    if matched.bounded:
        output = run_filters(spec.bounds, image, output)
    if matched.detail:
        own = detail_transfer(image, output, matched.floor)
        output = own if matched.detail == 1 else output.lerp(own, matched.detail)
    repair = partial(run_filters, spec.exposed, image) if spec.exposed else None
    output = run_filters(spec.after, image, expose(output, matched, repair).clamp(0, 1))
    share = strength if mask is None else strength * mask
    if isinstance(share, float) and share == 1.0:
        return output
    return image + share * (output - image)


class RowsToReplace:
    """The model's images, where bands of the result may replace them.

    Args:
        images: B,3,H,W.
        bands: frame, first and last row (exclusive), from top to bottom, frame after frame.
        around: how many rows above and below a band are needed.
    """

    def __init__(self, images: AnyImage, bands: list[tuple[int, int, int]], around: int):
        self.images, self.bands, self.around = images, bands, around
        self.turns, self.above = Order[None](), torch.empty(0)

    def read(self, index: int) -> Tensor:
        """Returns a band with the rows around it, as they were before any band was replaced.

        A band is replaced after it has been read, and all of them are read in their order: so only
        the rows above may have been replaced already.
        """
        frame, start, stop = self.bands[index]
        top, bottom = max(start - self.around, 0), stop + self.around
        with self.turns.turn(index):
            rows = read_rows(self.images, frame, start, min(bottom, self.images.shape[2]))
            if len(self.bands) == 1:
                return rows
            above = self.above[:, :, self.above.shape[2] - (start - top) :] if start > top else None
            rows = rows.clone() if above is None else torch.cat([above, rows], 2)
            if self.around:
                self.above = rows[:, :, : stop - top][:, :, -self.around :].clone()
            return rows


def compose_in_bands(
    image: Tensor,
    output: AnyImage,
    matched: ImageStats,
    task: Task,
    strength: float,
    mask: Tensor | None,
    result: Tensor,
    finished: Finished | None = None,
) -> None:
    """Runs the task on the model's images, band by band, into `result`.

    Args:
        image: B,C,H,W.
        output: B,3,H,W; may lie in the memory of `result`.
        matched: from the whole images.
        mask: 1 or B,1,H,W, from `fit_mask`.
        result: of the shape of `image`; its first three channels are written.
        finished: is shown each band, from top to bottom.
    """
    around, device = reach(task), output.device
    bands = list(bands_of(image, parts=worker_count(), least=MIN_ROWS))
    model = RowsToReplace(output, bands, around)
    to_show, done = deque(range(len(bands))), set[int]()

    def work(index: int) -> float:
        frame, start, stop = bands[index]
        top, bottom = max(start - around, 0), min(stop + around, image.shape[2])
        share = None
        if mask is not None:
            share = to_unit(mask[min(frame, len(mask) - 1), None, :, top:bottom]).to(device)
        source = to_colour(read_rows(image, frame, top, bottom), device)
        output_rows = model.read(index)
        restored = apply_task(source, output_rows, task, matched, strength=strength, mask=share)
        out = read_rows(result, frame, start, stop)[:, :3]
        restored = from_colour(restored[:, :, start - top : stop - top], out.shape[1])
        out.copy_(from_unit(restored, out.dtype))
        done.add(index)
        return 0.0

    def show(_: float) -> None:  # in the calling thread, which this may interrupt
        while finished is not None and to_show and to_show[0] in done:
            frame, start, stop = bands[to_show.popleft()]
            finished(read_rows(result, frame, start, stop)[:, :3], start, image.shape[2])

    in_parallel(work, len(bands), show, model.turns.stop)
