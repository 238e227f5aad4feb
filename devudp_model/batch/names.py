"""Jobs, and names of results: none twice, none too long."""

from __future__ import annotations

import logging
import os
import sys
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..system.untrusted import printable

log = logging.getLogger("devudp")

LONGEST_NAME = 255
"""Of a file: bytes on most systems, units of UTF-16 on Windows."""


@dataclass(frozen=True)
class Job:
    """One image to restore.

    Attributes:
        source: the file to read.
        target: the file to write.
        format: one of `WRITABLE`.
        sheet: where before and after go side by side, or None.
    """

    source: Path
    target: Path
    format: str
    sheet: Path | None = None


@dataclass(frozen=True)
class VideoJob:
    """A video to restore, and the file to write.

    Attributes:
        source, target: the one to read, and the one to write.
        copy: the one to write if nothing is to be done, and the source is not of the kind that
            results are; None where that name is an input's.
    """

    source: Path
    target: Path
    copy: Path | None = None

    @property
    def result(self) -> Path | None:
        """Returns the one that is there; of two, the newer one."""
        names = [path for path in (self.target, self.copy) if path is not None and path.exists()]
        return max(names, key=lambda path: path.stat().st_mtime_ns, default=None)


AnyJob = Job | VideoJob


def key(path: Path) -> str:
    """Equal for paths that some file systems take for the same: in case, or in how accents are
    written."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def sheet_beside(target: Path) -> Path:
    return target.with_name(f"{target.stem}.compare.jpg")


def distinct(jobs: list[Job]) -> list[Job]:
    """Tells apart what would get the same name, or the same sheet.

    `photo.jpg` and `photo.bmp` become `photo_jpg.png` and `photo_bmp.png`; those that differ in
    case only, such as `A.jpg` and `a.jpg`, get numbers: `A_jpg.jpg` and `a_jpg_2.jpg`.
    """
    times = Counter(name for job in jobs for name in names_of(job))
    taken: set[str] = {name for job in jobs for name in names_of(job) if times[name] == 1}
    result = []
    for job in sorted(jobs, key=lambda job: job.source):
        if all(times[name] == 1 for name in names_of(job)):
            result.append(job)
            continue
        stem = f"{job.source.stem}_{job.source.suffix[1:]}"
        number, other = 1, rename(job, f"{stem}{job.target.suffix}")
        while number < len(jobs) and not taken.isdisjoint(names_of(other)):
            number += 1
            other = rename(job, f"{stem}_{number}{job.target.suffix}")
        taken.update(names_of(other))
        result.append(other)
    return result


def names_of(job: Job) -> list[str]:
    """Returns the files that it writes, by `key`."""
    return [key(path) for path in (job.target, job.sheet) if path is not None]


def without_long_names(jobs: list[Job]) -> tuple[list[Job], dict[Path, str]]:
    """Returns the jobs whose results can have their names, and why others cannot; said at once."""
    kept, problems = [], {}
    for job in jobs:
        names = [path.name for path in (job.target, job.sheet) if path is not None]
        longest = max(names, key=length)
        if length(longest) <= LONGEST_NAME:
            kept.append(job)
            continue
        problems[job.source] = (
            f"The result's name would be too long ({length(longest)} of at most {LONGEST_NAME}): "
            f"{longest[:20]}...{longest[-20:]}. Rename the file."
        )
        log.warning("%s: %s", printable(job.source), problems[job.source])
    return kept, problems


def length(name: str) -> int:
    """As the file system counts it."""
    if sys.platform == "win32":
        return len(name.encode("utf-16-le", "surrogatepass")) // 2
    return len(os.fsencode(name))


def rename(job: Job, name: str) -> Job:
    target = job.target.with_name(name)
    return Job(job.source, target, job.format, sheet_beside(target) if job.sheet else None)
