"""Runs a task on the model's whole images, in bands of rows."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from .apply_task import Match, apply_task, reach
from .depth import from_colour, from_unit, to_colour, to_unit
from .engine.image_rows import AnyImage, bands_of, read_rows
from .engine.watch import Finished
from .engine.workers import Order, in_parallel, worker_count
from .tasks import Task

LEAST_ROWS = 32
"""Of a band where there are several workers: some rows around it have to be worked on, too."""


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
        """A band with the rows around it, as they were before any band was replaced.

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


def finish(
    image: Tensor,
    output: AnyImage,
    matched: Match,
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
    bands = list(bands_of(image, parts=worker_count(), least=LEAST_ROWS))
    model = RowsToReplace(output, bands, around)
    to_show, done = deque(range(len(bands))), set[int]()

    def work(index: int) -> float:
        frame, start, stop = bands[index]
        top, bottom = max(start - around, 0), min(stop + around, image.shape[2])
        share = None
        if mask is not None:
            share = to_unit(mask[min(frame, len(mask) - 1), None, :, top:bottom]).to(device)
        given, made = to_colour(read_rows(image, frame, top, bottom), device), model.read(index)
        restored = apply_task(given, made, task, matched, strength=strength, mask=share)
        place = read_rows(result, frame, start, stop)[:, :3]
        restored = from_colour(restored[:, :, start - top : stop - top], place.shape[1])
        place.copy_(from_unit(restored, place.dtype))
        done.add(index)
        return 0.0

    def show(_: float) -> None:  # in the calling thread, which this may interrupt
        while finished is not None and to_show and to_show[0] in done:
            frame, start, stop = bands[to_show.popleft()]
            finished(read_rows(result, frame, start, stop)[:, :3], start, image.shape[2])

    in_parallel(work, len(bands), show, model.turns.stop)
