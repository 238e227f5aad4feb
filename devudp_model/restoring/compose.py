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

import torch
from torch import Tensor

from ..bands.rows import AnyImage, bands_of, read_rows
from ..bands.workers import Order, in_parallel, worker_count
from ..engine.hooks import Finished
from ..ops.arithmetic import mix, ramp
from ..ops.detail import DETAIL_REACH, detail_transfer
from ..ops.dtypes import from_colour, from_unit, to_colour, to_unit, without_alpha
from ..ops.filters import CLIPPING, FILTERS, Filter
from .image_stats import ImageStats
from .tasks import TASK_SPECS, Task

MIN_ROWS = 64
"""Of a band where there are several workers: some rows around it have to be worked on, too."""

CLIPPED = (0.94, 0.995)
"""From the first value on, a channel of the model's image is about to be clipped; from the second
on, the input tells how bright it was."""


def is_bounded(task: Task, shortcut: bool) -> bool:
    """True if the input bounds the image: where the generator keeps its exposure."""
    return shortcut and bool(TASK_SPECS[task].bounds)


def reach(task: Task) -> int:
    """Returns how many pixels around a pixel `apply_task` looks at."""
    spec = TASK_SPECS[task]
    detail = DETAIL_REACH if spec.detail or spec.detail_with_shortcut else 0
    filters = (*spec.before, *spec.bounds, *spec.exposed, *spec.after)
    return detail + sum(FILTERS[name].reach for name in filters)


def steps_of(task: Task, matched: ImageStats) -> list[Filter]:
    """Returns what a task does with the model's images, one step after the other."""
    spec, clamp = TASK_SPECS[task], of_output(partial(torch.clamp, min=0, max=1))
    before, bounds, exposed, after = (
        [FILTERS[name] for name in names]
        for names in (spec.before, spec.bounds, spec.exposed, spec.after)
    )
    steps = [clamp, *before] if before else []
    if matched.bounded:
        steps += bounds
    if matched.detail:
        steps.append(Filter(partial(own_detail, matched=matched), DETAIL_REACH))
    if matched.exposure is None:
        if matched.curve is not None:
            steps.append(of_output(matched.curve))
        elif exposed:
            steps.append(clamp)
        steps += exposed
    else:
        far = sum(step.reach for step in exposed)
        steps.append(Filter(partial(both_exposures, matched=matched, filters=exposed), far))
    if matched.exposure is not None or not CLIPPING.intersection(spec.exposed[-1:]):
        steps.append(clamp)
    return [*steps, *after]


def of_output(function: Callable[[Tensor], Tensor]) -> Filter:
    """Returns the step that does this with each value of the model's image."""
    return Filter(lambda image, output: function(output), 0)


def own_detail(image: Tensor, output: Tensor, matched: ImageStats) -> Tensor:
    """Returns the model's image with a share of the input's own detail."""
    own = detail_transfer(image, output, matched.floor)
    return own if matched.detail == 1 else output.lerp(own, matched.detail)


def both_exposures(
    image: Tensor, output: Tensor, matched: ImageStats, filters: Sequence[Filter]
) -> Tensor:
    """Returns an exposure between the input's and the scene's; filters are of the latter."""
    assert matched.exposure is not None
    toned = output.clamp(0, 1) if matched.curve is None else matched.curve(output)
    # Of what is clipped, the input's exposure would make one grey of a lamp and the glow around it.
    own = matched.exposure(output)
    own = mix(own, torch.maximum(own, image), ramp(output, *CLIPPED))
    for each in filters:
        toned = each.function(image, toned)
    return (1 - matched.share) * own + matched.share * toned


def apply_task(
    image: Tensor,
    output: Tensor,
    task: Task,
    matched: ImageStats,
    *,
    strength: float = 1.0,
    mask: Tensor | None = None,
    above: int = 0,
    below: int = 0,
) -> Tensor:
    """Returns the image that the user asked for.

    Args:
        image: the input, B,C,H,W in [0, 1].
        output: the model's image of it, same shape and range.
        task: which one.
        matched: from `match` of the whole images.
        strength: 0 for the input as it was, 1 for the task's full effect.
        mask: B or 1,1,H,W in [0, 1], multiplied with the strength.
        above, below: so many rows of these are only looked at, and not returned.

    Returns:
        B,C,H - above - below,W in [0, 1].
    """
    steps = [step for step in steps_of(task, matched) if not step.idle(image)]
    around = sum(step.reach for step in steps)
    mask = None if mask is None else inner_rows(mask, above, below)
    for step in (None, *steps):
        if step is not None:
            output, around = step.function(image, output), around - step.reach
        # What no later step looks at is left out: it would be most of the rows of a wide image.
        surplus = max(above - around, 0), max(below - around, 0)
        image, output = inner_rows(image, *surplus), inner_rows(output, *surplus)
        above, below = min(above, around), min(below, around)
    share = strength if mask is None else strength * mask
    if isinstance(share, float) and share == 1.0:
        return output
    return mix(image, output, share)


def inner_rows(x: Tensor, above: int, below: int) -> Tensor:
    """Returns B,C,H,W without so many rows."""
    return x[:, :, above : x.shape[2] - below] if above or below else x


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
    clipped: bool = False,
) -> None:
    """Runs the task on the model's images, band by band, into `result`.

    Args:
        image: B,C,H,W.
        output: B,3,H,W; may lie in the memory of `result`.
        matched: from the whole images.
        mask: 1 or B,1,H,W, from `fit_mask`.
        result: of the shape of `image`; its first three channels are written.
        finished: is shown each band, from top to bottom.
        clipped: whether `image` is in [0, 1] already.
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
        source = to_colour(read_rows(image, frame, top, bottom), device, clipped)
        output_rows = model.read(index)
        extra = {"above": start - top, "below": bottom - stop, "strength": strength, "mask": share}
        restored = apply_task(source, output_rows, task, matched, **extra)
        out = without_alpha(read_rows(result, frame, start, stop))
        out.copy_(from_unit(from_colour(restored, out.shape[1]), out.dtype))
        done.add(index)
        return 0.0

    def show(_: float) -> None:  # in the calling thread, which this may interrupt
        while finished is not None and to_show and to_show[0] in done:
            frame, start, stop = bands[to_show.popleft()]
            finished(read_rows(result, frame, start, stop)[:, :3], start, image.shape[2])

    in_parallel(work, len(bands), show, model.turns.stop)
