"""One job after the other, of images or videos: what was done, and what was not and why."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from ..images.raster import ImageError
from ..restoring.auto import Choice
from ..system import interrupts
from ..system.memory import is_out_of_memory
from ..videos.pyav import VideoError

log = logging.getLogger("devudp")

HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""A disk that is full or read-only now is so for the next image too."""


@dataclass
class Outcome:
    """What became of the jobs of one process.

    Attributes:
        done, skipped: how many were written; how many had been before.
        left: how many were not reached.
        failed: the other images, and why.
        interrupted: by the user, or by the launcher.
        choices: of the task `auto`, for the images done; of a video, that of its first scene.
    """

    done: int = 0
    skipped: int = 0
    left: int = 0
    failed: dict[Path, str] = field(default_factory=dict)
    interrupted: bool = False
    choices: dict[Path, Choice] = field(default_factory=dict)

    @classmethod
    def sum(cls, outcomes: Sequence[Outcome]) -> Outcome:
        """Of all processes together."""
        total = cls()
        for outcome in outcomes:
            total.done += outcome.done
            total.skipped += outcome.skipped
            total.left += outcome.left
            total.failed.update(outcome.failed)
            total.choices.update(outcome.choices)
            total.interrupted |= outcome.interrupted
        return total


AnyJob = TypeVar("AnyJob", bound="HasFiles")


class HasFiles(Protocol):
    """A job: what is restored, and where the result goes."""

    @property
    def source(self) -> Path: ...

    @property
    def target(self) -> Path: ...


def work_through(
    jobs: Sequence[AnyJob],
    work: Callable[[int, AnyJob], Choice | None],
    *,
    overwrite: bool,
    skip_existing: bool,
) -> Outcome:
    """One job after the other; one that fails is noted and the next one done.

    Args:
        jobs: this process's.
        work: does one, given its index, and returns what `auto` found.
        overwrite, skip_existing: what happens to results that are there already.
    """
    outcome = Outcome()
    for index, job in enumerate(jobs):
        try:
            if job.target.exists() and skip_existing:
                outcome.skipped += 1
                continue
            if not overwrite:
                refuse_existing(job.target)
            choice = work(index, job)
            outcome.done += 1
            if choice is not None:
                outcome.choices[job.source] = choice
        except KeyboardInterrupt:
            outcome.interrupted, outcome.left = True, len(jobs) - index
            break
        except Exception as error:
            if interrupts.seen():  # and a library made an error of it
                outcome.interrupted, outcome.left = True, len(jobs) - index
                break
            log.debug("%s", job.source, exc_info=True)
            outcome.failed[job.source] = explain(error)
            if is_hopeless(error):
                outcome.left = len(jobs) - index - 1
                break
    return outcome


def refuse_existing(path: Path) -> None:
    """Raises ImageError if the name is taken, be it by a link that leads nowhere."""
    if os.path.lexists(path):
        raise ImageError(f"{path} exists already. Add --skip-existing to keep it, or --overwrite.")


def is_hopeless(error: Exception | None) -> bool:
    """Whether the next image would fail for the same reason."""
    return isinstance(error, OSError) and error.errno in HOPELESS


def explain(error: Exception) -> str:
    """One line for the user: what happened and what to do."""
    if isinstance(error, (ImageError, VideoError)):
        return str(error)
    if is_out_of_memory(error):
        return f"Not enough memory. {error}" if str(error) else "Not enough memory."
    if isinstance(error, FileExistsError) and error.filename2:
        name = error.filename2  # it came while this image was restored
        return f"{name} exists already. Add --skip-existing to keep it, or --overwrite."
    if isinstance(error, OSError):
        next_step = {
            errno.ENOSPC: "Free some space, then run again with --skip-existing.",
            errno.EDQUOT: "Free some space, then run again with --skip-existing.",
            errno.EFBIG: "No larger file is allowed there: choose another --out or --format.",
        }.get(error.errno or 0, "Check the folder and its permissions, or choose another --out.")
        # Of the folder: the file's name is that of the temporary one.
        where = f" (in {Path(error.filename).parent})" if error.filename else ""
        return f"Not written: {error.strerror or error}{where}. {next_step}"
    return f"{type(error).__name__}: {error}. Run again with --verbose for the details."
