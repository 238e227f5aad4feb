"""Does jobs one after the other, of images and videos; one that fails does not stop the others.

While one is worked on, the next are read and the last are written, in bounded memory. Few images
are in memory at a time, so a folder may hold any number, such as a video's frames.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..images.raster import RasterImage
from ..restorer import Restorer
from ..restoring.auto import Choice
from ..restoring.progress import ImageProgress
from ..system import interrupts
from ..system.atomic import discard_leftovers
from .outcome import Outcome
from .pipeline import InFlight, Pipeline
from .plan import AnyJob
from .restore_files import ImageFiles
from .side_by_side import SideBySide

log = logging.getLogger("devudp")

BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left"
"""A number of images tells nothing within a large one."""


LONG_SECONDS, LARGE_PIXELS = 60, 4e6
"""If an image takes longer and is larger, a working size is recommended."""


class Kind(Protocol):
    """Does jobs of one kind: reads and writes in threads, works in the one that calls."""

    def read(self, job: Any, on_size_known: Callable[[int], None]) -> Any:
        """Returns what the work needs; None if the result is there already. See `Pipeline`."""

    def work(self, job: Any, read: Any, progress: ImageProgress) -> tuple[Any, Choice | None]:
        """Returns the result, and what `auto` found."""
        ...

    def write(self, job: Any, result: Any) -> None:
        """Writes a result."""


def run(
    jobs: Sequence[AnyJob],
    kinds: Mapping[type, Kind],
    restorer: Restorer,
) -> Outcome:
    """Does jobs.

    After Ctrl-C, results that are ready are still written.

    Args:
        jobs: of any kind.
        kinds: by the class of a job.
        restorer: the one that all kinds use; where memory runs out, it waits for what is being
            written.
    """
    outcome = Outcome()
    for folder in {job.target.parent for job in jobs}:
        discard_leftovers(folder)
    bar = tqdm(total=len(jobs), bar_format=BAR, disable=None)

    def show(images: float) -> None:
        bar.update(images - bar.n)

    # With the restorer as it is now: making room is for the thread that has the pipeline.
    parallel = {
        job: kind.for_other_thread() for job, kind in kinds.items() if isinstance(kind, ImageFiles)
    }
    full_size = restorer.options.working_size is None
    progress = ImageProgress(show, forecast=say_if_long if full_size else None)
    line = Pipeline(
        jobs,
        lambda job, on_size_known: kinds[type(job)].read(job, on_size_known),
        lambda job, result: kinds[type(job)].write(job, result),
        log,
    )
    with (
        logging_redirect_tqdm(),
        bar,
        interrupts.held(),
        line,
        SideBySide(restorer, line) as beside,
        making_room(restorer, line),
    ):
        try:
            for each in worked_on(line, beside, parallel, kinds, progress, bar):
                progress.done(each.index + 1)
                if note(outcome, line.pass_on(each)):
                    break
        except KeyboardInterrupt:
            outcome.interrupted = True
        try:
            for each in beside.stop():
                note(outcome, line.pass_on(each))
            note(outcome, line.finish())
        except KeyboardInterrupt:
            outcome.interrupted = True
        outcome.left = len(jobs) - outcome.settled
        show(len(jobs) - outcome.left)
    return outcome


def worked_on(
    line: Pipeline[Any],
    beside: SideBySide,
    parallel: Mapping[type, ImageFiles],
    kinds: Mapping[type, Kind],
    progress: ImageProgress,
    bar: tqdm,
) -> Iterator[InFlight[Any]]:
    """Gives every job in its turn, once it is worked on: small images beside each other.

    Args:
        parallel: kinds that have such images.
    """

    def work_in_parallel(each: InFlight[Any]) -> None:
        kind = parallel[type(each.job)].for_other_thread()
        each.result, each.found = kind.work(each.job, each.read, ImageProgress(lambda images: None))

    for each in line:
        bar.set_description_str(f"{each.index + 1} of {bar.total}")
        small = (
            type(each.job) in parallel and each.error is None and beside.takes(pixels_of(each.read))
        )
        if small:
            yield from beside.begin(each, work_in_parallel)
            continue
        yield from beside.finish()
        with line.working(each):
            if each.read is not None:
                kind = kinds[type(each.job)]
                each.result, each.found = kind.work(each.job, each.read, progress)
        yield each
    yield from beside.finish()


def pixels_of(read: object) -> int:
    """Returns the pixels of an image that was read; 0 of anything else."""
    return read.pixels[0, 0].numel() if isinstance(read, RasterImage) else 0


def say_if_long(seconds: float, pixels: float) -> bool:
    """Says what helps if an image takes long; for `ImageProgress`. Returns True if it was said."""
    long = seconds > LONG_SECONDS and pixels > LARGE_PIXELS
    if long:
        log.info(
            "This image will take about %d minutes (%.0f megapixels to work through). With "
            "--working-size 2MP a smaller copy is restored and the change applied at the full "
            "size: many times faster, but the finest detail is not restored.",
            round(seconds / 60),
            pixels / 1e6,
        )
    return long


def note(outcome: Outcome, line: Iterator[Any]) -> bool:
    """Notes what becomes of jobs; True once the others would fail for the same reason."""
    for done in line:
        if done.error is not None:
            log.debug("%s", done.job.source, exc_info=done.error)
        if done.error is None or not outcome.hopeless:
            outcome.note(done)
    return outcome.hopeless


@contextmanager
def making_room(restorer: Restorer, line: Pipeline[Any]) -> Iterator[None]:
    """Within the block, what is ready is written before an image is tried again with less."""
    usual = restorer.memory

    def empty_cache() -> None:
        line.make_room()
        usual.empty_cache()

    restorer.memory = dataclasses.replace(usual, empty_cache=empty_cache)
    try:
        yield
    finally:
        restorer.memory = usual
