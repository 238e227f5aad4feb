"""Counts what was done of many jobs, and explains why others failed."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..images.raster import ImageError
from ..restoring.auto import Choice
from ..system.memory import is_out_of_memory
from ..videos.pyav import VideoError
from .pipeline import InFlight

HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""A disk that is full or read-only now is so for the next image too."""

NEXT_STEPS = {
    errno.ENOSPC: "Free some space, then run again with --skip-existing.",
    errno.EDQUOT: "Free some space, then run again with --skip-existing.",
    errno.EFBIG: "No larger file is allowed there: choose another --out or --format.",
}
"""What to do about a file that cannot be written, by the system's number of the error."""


@dataclass
class Outcome:
    """Holds what became of the jobs.

    Attributes:
        done, skipped: how many were restored; how many had been before.
        unchanged: how many needed nothing and are left as they are.
        left: how many were not reached.
        failed: the other images, and why.
        interrupted: by the user.
        choices: of the task `auto`, for the images done; of a video, that of its first
            scene that needs anything.
        hopeless: the next job would fail for the same reason as the last one.
    """

    done: int = 0
    unchanged: int = 0
    skipped: int = 0
    left: int = 0
    failed: dict[Path, str] = field(default_factory=dict)
    interrupted: bool = False
    choices: dict[Path, Choice] = field(default_factory=dict)
    hopeless: bool = False

    def note(self, done: InFlight[Any]) -> None:
        """Counts a job, or notes why it failed."""
        source = done.job.source
        if done.error is not None:
            self.failed[source] = explain(done.error)
            self.hopeless = isinstance(done.error, OSError) and done.error.errno in HOPELESS
        elif done.image_was_there:
            self.skipped += 1
        else:
            if done.found is not None and done.found.task is None:
                self.unchanged += 1
            else:
                self.done += 1
            if done.found is not None:
                self.choices[source] = done.found

    @property
    def settled(self) -> int:
        """Counts the jobs of which something is known."""
        return self.done + self.unchanged + self.skipped + len(self.failed)


def refuse_existing(path: Path) -> None:
    """Raises ImageError if the name is taken, be it by a link that leads nowhere."""
    if os.path.lexists(path):
        raise ImageError(existing_message(path))


def existing_message(path: object) -> str:
    """Says that a result's name is taken, and what to do."""
    return f"{path} exists already. Add --skip-existing to keep it, or --overwrite."


def explain(error: Exception) -> str:
    """One line for the user: what happened and what to do."""
    if isinstance(error, (ImageError, VideoError)):
        return str(error)
    if is_out_of_memory(error):
        return f"Not enough memory. {error}" if str(error) else "Not enough memory."
    if isinstance(error, FileExistsError) and error.filename2:
        return existing_message(error.filename2)  # it came while this image was restored
    # PyAV's errors are OSErrors too, mostly of what FFmpeg does not know.
    other = type(error).__module__ == "av.error" and getattr(error, "errno", 0) not in NEXT_STEPS
    if isinstance(error, OSError) and not other:
        usual = "Check the folder and its permissions, or choose another --out."
        next_step = NEXT_STEPS.get(error.errno or 0, usual)
        # Of the folder: the file's name is that of the temporary one.
        where = f" (in {Path(error.filename).parent})" if error.filename else ""
        return f"Not written: {error.strerror or error}{where}. {next_step}"
    return f"{type(error).__name__}: {error}. Run again with --verbose for the details."
