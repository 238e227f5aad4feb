"""Plans which image files to restore, and under which name each result is written."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..images.formats import NOT_IN_FOLDERS, SUFFIXES, WRITABLE, advice, is_installed, of_suffix
from ..system.untrusted import printable
from ..videos.video import SUFFIXES as VIDEO_SUFFIXES
from .names import AnyJob as AnyJob
from .names import Job as Job
from .names import distinct, key, sheet_beside, without_long_names
from .paths import expand_wildcards, files_in, real

log = logging.getLogger("devudp")

OTHERS = {
    **NOT_IN_FOLDERS,
    **dict.fromkeys(VIDEO_SUFFIXES, "videos. Add --videos, or name the file itself."),
}
"""Suffixes of what is not taken from a folder though it is an image or a video, and what to do."""

SAME = "same"
"""The format of the input."""


class PlanError(ValueError):
    """The command as given would lose an image; the message says which and what to do."""


class InputFile(NamedTuple):
    """A file by the path that was given, and by that below the folder for the results."""

    path: Path
    relative: Path


def find_images(
    paths: Sequence[Path], out: Path, *, recursive: bool = False, elsewhere: Collection[Path] = ()
) -> tuple[dict[Path, InputFile], dict[Path, str]]:
    """Images by their full path, so that none comes twice, and why some of `paths` give none.

    Args:
        paths: files and folders.
        out: the folder for the results.
        recursive: take subfolders too.
        elsewhere: files in the folders that are restored by another kind of job.
    """
    problems: dict[Path, str] = {}
    inputs: dict[Path, InputFile] = {}
    for path in expand_wildcards(paths):
        if not os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where it may not look)
            inputs.setdefault(real(path), InputFile(path, Path(path.name)))
            continue
        closed: dict[Path, str] = {}
        images = images_in(path, elsewhere, recursive=recursive, without=out, closed=closed)
        problems.update(closed)
        if not images and not closed and not any(path in each.parents for each in elsewhere):
            problems[path] = no_images(recursive)
        for image in images:
            inputs.setdefault(real(image), InputFile(image, image.relative_to(path)))
    return inputs, problems


def no_images(recursive: bool) -> str:
    """Says that a folder has none, and what to do."""
    deeper = "" if recursive else ", or add --recursive for those in its folders"
    kinds = " ".join(suffix for suffixes in WRITABLE.values() for suffix in suffixes)
    return f"No images in it ({kinds}, ...). Name another{deeper}."


def jobs_for(
    inputs: dict[Path, InputFile],
    out: Path,
    *,
    format: str = SAME,
    sheets: bool = False,
    protected: Iterable[Path] = (),
) -> tuple[list[Job], dict[Path, str]]:
    """Names the results of images; returns a job for each, and why some can have no name.

    An image keeps its name, and its place in the folder that was given. Where two would get the
    same name, all keep their path from the folder they have in common.

    Args:
        inputs: by their full path, see `find_images`.
        out: the folder for the results.
        format: one of `WRITABLE` or `SAME`.
        sheets: give each job a before|after sheet.
        protected: further files that are read and so must not be written.

    Raises:
        PlanError: a result would replace an input or another result.
    """
    if collide(each.relative.with_suffix("") for each in inputs.values()):
        inputs = from_common_folder(inputs)
    jobs = [make_job(each, out, format, sheets) for each in inputs.values()]
    if format == SAME:
        report_kinds(jobs, conversion_of)
    check(jobs := distinct(jobs), [*inputs, *protected])
    jobs, too_long = without_long_names(jobs)
    return sorted(jobs, key=lambda job: job.source), too_long


def images_in(
    folder: Path,
    elsewhere: Collection[Path],
    *,
    recursive: bool,
    without: Path,
    closed: dict[Path, str],
) -> list[Path]:
    """By suffix. Neither hidden files nor results of an earlier run in the folder `without`.

    Folders that cannot be looked into, and why, are added to `closed`.
    """
    images: list[Path] = []
    others: Counter[str] = Counter()

    def note(error: OSError) -> None:
        closed[Path(error.filename)] = f"Cannot be opened: {error.strerror}. Check its permissions."

    for path in files_in(folder, without, recursive=recursive, onerror=note):
        suffix = path.suffix.lower()
        if path in elsewhere:
            continue
        if suffix in SUFFIXES and reason_to_skip(suffix) is None:
            images.append(path)
        else:
            others[suffix] += 1
    report_others(folder, others)
    return images


def reason_to_skip(suffix: str) -> str | None:
    """Returns why files of a kind are not taken from a folder; None if they are, or are no images.

    For many files of a kind that a package is missing for, one sentence is enough.
    """
    format = of_suffix(suffix)
    if suffix not in OTHERS and format is not None and not is_installed(format):
        return f"{format.label.split(':')[0]} files. {advice(format)}"
    return OTHERS.get(suffix)


def report_others(folder: Path | str, others: Counter[str]) -> None:
    """Says what else is in a folder: images and videos by their suffix, the rest as a number.

    A photograph that is passed over is news; a text file is not.
    """
    rest = sum(others.values())
    for suffix, count in sorted(others.items()):
        reason = reason_to_skip(suffix)
        if reason is None:
            continue
        rest -= count
        files = "file" if count == 1 else "files"
        log.warning("%s: %d %s %s skipped: %s", printable(folder), count, suffix, files, reason)
    if rest:
        log.info("%s: %d other files skipped", printable(folder), rest)


def conversion_of(suffix: str) -> str | None:
    """Says what becomes of a kind of image file whose results have another format than its own."""
    format = of_suffix(suffix)
    if format is None or format.writes:
        return None
    lost = ", and what only a raw file holds is not in them" if format.name == "raw" else ""
    return f"results are PNG{lost}; --format chooses another"


def report_kinds(jobs: Iterable[Job], what_of: Callable[[str], str | None]) -> None:
    """Says what becomes of the kinds of files, by their suffix, of which `what_of` knows that."""
    for suffix, count in sorted(Counter(job.source.suffix.lower() for job in jobs).items()):
        if what := what_of(suffix):
            log.info("%d %s %s: %s", count, suffix, "file" if count == 1 else "files", what)


def collide(paths: Iterable[Path]) -> bool:
    return any(count > 1 for count in Counter(map(key, paths)).values())


def from_common_folder(inputs: dict[Path, InputFile]) -> dict[Path, InputFile]:
    """Returns the same files, `relative` to the nearest folder that holds them all."""
    try:
        common = Path(os.path.commonpath([full.parent for full in inputs]))
        paths = [full.relative_to(common) for full in inputs]
    except ValueError:  # Windows: on several drives
        paths = [Path(full.drive.strip("\\/:?."), *full.parts[1:]) for full in inputs]
    pairs = zip(inputs.items(), paths, strict=True)
    return {full: InputFile(each.path, relative) for (full, each), relative in pairs}


def make_job(file: InputFile, out: Path, format: str, sheets: bool) -> Job:
    suffix = file.path.suffix.lower()
    if format == SAME:
        format = next((name for name, known in WRITABLE.items() if suffix in known), "png")
    target = out / file.relative
    if suffix not in WRITABLE[format]:
        target = target.with_suffix(WRITABLE[format][0])
    return Job(file.path, target, format, sheet_beside(target) if sheets else None)


def check(jobs: list[Job], inputs: Iterable[Path]) -> None:
    """Raises PlanError if anything would be written over an input or another result."""
    taken = {key(real(path)): f"is an input ({path})" for path in inputs}
    for job in jobs:
        for path in (job.target, job.sheet):
            if path is None:
                continue
            name = key(real(path))
            if name in taken:
                raise PlanError(
                    f"{job.source} would be written to {path}, which {taken[name]}. Choose "
                    "another folder with --out, or restore them in two runs."
                )
            taken[name] = f"is the result for {job.source}"


def check_shared(jobs: Iterable[AnyJob], paths: Iterable[Path]) -> None:
    """Checks that all processes which share the jobs will plan the same.

    Args:
        jobs: all of them.
        paths: as they were given.

    Raises:
        PlanError: a path is not there, for instance because a disk is not mounted on this machine;
            or a result would lie in a folder of the images, where a process that plans later would
            take it for an image.
    """
    jobs = list(jobs)
    absent = {path for path in paths if not path.exists()} & {job.source for job in jobs}
    if absent:
        raise PlanError(
            f"{min(absent)} is not there. With --shard every process has to see all files: check "
            "the path, and that its disk is mounted on this machine."
        )
    sources = {real(folder) for folder in {job.source.parent for job in jobs}}
    for folder in {job.target.parent for job in jobs}:
        if real(folder) in sources:
            raise PlanError(
                f"with --shard, results cannot be written beside the images, into {folder}: a part "
                "that starts later would take them for images. Choose another folder with --out."
            )
