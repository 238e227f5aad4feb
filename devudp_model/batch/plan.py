"""Which image files to restore, and under which name each result is written."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from ..images.raster import FORMATS, SUFFIXES
from ..system.untrusted import printable

log = logging.getLogger("devudp")

RAW = ("arw", "cr2", "cr3", "dng", "nef", "orf", "raf", "rw2")

OTHER_IMAGES = {
    **dict.fromkeys(
        (".heic", ".heif", ".avif", ".jxl", ".jp2"),
        "this kind is not supported. Convert them to PNG or JPEG.",
    ),
    ".gif": "may be animations. Name the file itself, or convert it to PNG.",
    **{f".{name}": "raw files. Develop them, for instance to 16-bit TIFF." for name in RAW},
}
"""Suffixes of images that are not taken from a folder, and what to do."""

SAME = "same"
"""The format of the input."""


class PlanError(ValueError):
    """The command as given would lose an image; the message says which and what to do."""


@dataclass(frozen=True)
class Job:
    """One image to restore.

    Attributes:
        source: the file to read.
        target: the file to write.
        format: one of `FORMATS`.
        sheet: where before and after go side by side, or None.
    """

    source: Path
    target: Path
    format: str
    sheet: Path | None = None


class AnyJob(Protocol):
    """A job: what is restored, and where the result goes."""

    @property
    def source(self) -> Path: ...

    @property
    def target(self) -> Path: ...


class Found(NamedTuple):
    """An image as its path was given, and its place under the folder for the results."""

    path: Path
    place: Path


def plan(
    paths: Sequence[Path],
    out: Path,
    *,
    format: str = "png",
    recursive: bool = False,
    sheets: bool = False,
    protected: Iterable[Path] = (),
) -> tuple[list[Job], dict[Path, str]]:
    """One job for each image, none twice, and why some of `paths` give none.

    An image keeps its name, and its place in the folder that was given. Where two would get the
    same name, all keep their path from the folder they have in common.

    Args:
        paths: files and folders.
        out: the folder for the results.
        format: one of `FORMATS` or `SAME`.
        recursive: take the folders in the folders too.
        sheets: give each job a before|after sheet.
        protected: further files that are read and so must not be written.

    Raises:
        PlanError: a result would replace an input or another result.
    """
    problems: dict[Path, str] = {}
    found: dict[Path, Found] = {}  # by its full path, so that none comes twice
    for path in expand_wildcards(paths):
        if not os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where it may not look)
            found.setdefault(real(path), Found(path, Path(path.name)))
            continue
        closed: dict[Path, str] = {}
        images = images_in(path, recursive=recursive, without=out, closed=closed)
        problems.update(closed)
        if not images and not closed:
            deeper = "" if recursive else ", or add --recursive for those in its folders"
            problems[path] = f"No images in it ({' '.join(SUFFIXES)}). Name another{deeper}."
        for image in images:
            found.setdefault(real(image), Found(image, image.relative_to(path)))
    if collide(each.place.with_suffix("") for each in found.values()):
        found = from_common_folder(found)
    jobs = [make_job(each, out, format, sheets) for each in found.values()]
    jobs = keep_suffixes(jobs)
    check(jobs, [*found, *protected])
    return sorted(jobs, key=lambda job: job.source), problems


def expand_wildcards(paths: Iterable[Path]) -> list[Path]:
    """Windows' shells leave `*.jpg` to the program."""
    expanded = []
    for path in paths:
        wild = any(sign in path.name for sign in "*?") and not path.exists()
        expanded += sorted(path.parent.glob(path.name)) or [path] if wild else [path]
    return expanded


def images_in(
    folder: Path, *, recursive: bool, without: Path, closed: dict[Path, str]
) -> list[Path]:
    """By suffix. Neither hidden files nor results of an earlier run in the folder `without`.

    Folders that cannot be looked into, and why, are added to `closed`.
    """
    out = real(without)
    images: list[Path] = []
    others: Counter[str] = Counter()

    def note(error: OSError) -> None:
        reason = f"Cannot be opened: {error.strerror}. Check its permissions."
        closed[Path(error.filename)] = reason

    for parent, folders, names in os.walk(folder, onerror=note):
        here = Path(parent)
        if not recursive:
            folders.clear()
        folders[:] = [name for name in sorted(folders) if real(here / name) != out]
        for name in sorted(names):
            if name.startswith("."):
                continue
            if name.lower().endswith(SUFFIXES):
                images.append(here / name)
            else:
                others[Path(name).suffix.lower()] += 1
    report_others(folder, others)
    return images


def report_others(folder: Path, others: Counter[str]) -> None:
    """Says what else is in a folder: images of other kinds by their suffix, the rest as a number.

    A photograph that is passed over is news; a text file is not.
    """
    images = {suffix: count for suffix, count in others.items() if suffix in OTHER_IMAGES}
    for suffix, count in sorted(images.items()):
        log.warning(
            "%s: %d %s %s skipped: %s",
            printable(folder),
            count,
            suffix,
            "file" if count == 1 else "files",
            OTHER_IMAGES[suffix],
        )
    rest = sum(others.values()) - sum(images.values())
    if rest:
        log.info("%s: %d other files skipped", printable(folder), rest)


def real(path: Path) -> Path:
    """The full path with links followed, as far as they lead; `Path.resolve` fails where they go
    round in circles."""
    return Path(os.path.realpath(path))


def key(path: Path) -> str:
    """Equal for paths that some file systems take for the same."""
    return str(path).casefold()


def collide(paths: Iterable[Path]) -> bool:
    return any(count > 1 for count in Counter(map(key, paths)).values())


def from_common_folder(found: dict[Path, Found]) -> dict[Path, Found]:
    """The same images, each place being the path from the nearest folder that holds them all."""
    try:
        common = Path(os.path.commonpath([full.parent for full in found]))
        places = [full.relative_to(common) for full in found]
    except ValueError:  # Windows: on several drives
        places = [Path(full.drive.strip("\\/:?."), *full.parts[1:]) for full in found]
    pairs = zip(found.items(), places, strict=True)
    return {full: Found(each.path, place) for (full, each), place in pairs}


def make_job(found: Found, out: Path, format: str, sheets: bool) -> Job:
    suffix = found.path.suffix.lower()
    if format == SAME:
        format = next((name for name, known in FORMATS.items() if suffix in known), "png")
    target = out / found.place
    if suffix not in FORMATS[format]:
        target = target.with_suffix(FORMATS[format][0])
    return Job(found.path, target, format, sheet_beside(target) if sheets else None)


def sheet_beside(target: Path) -> Path:
    return target.with_name(f"{target.stem}.compare.jpg")


def keep_suffixes(jobs: list[Job]) -> list[Job]:
    """Tells `photo.jpg` and `photo.bmp` apart: `photo_jpg.png` and `photo_bmp.png`."""
    times = Counter(key(job.target) for job in jobs)
    return [
        job
        if times[key(job.target)] == 1
        else rename(job, f"{job.source.stem}_{job.source.suffix[1:]}{job.target.suffix}")
        for job in jobs
    ]


def rename(job: Job, name: str) -> Job:
    target = job.target.with_name(name)
    return Job(job.source, target, job.format, sheet_beside(target) if job.sheet else None)


def check(jobs: list[Job], inputs: Iterable[Path]) -> None:
    """Raises PlanError if anything would be written over an input or another result."""
    taken = {key(real(path)): f"is an input ({path})" for path in inputs}
    for job in jobs:
        for path in (job.target, job.sheet):
            if path is None:
                continue
            place = key(real(path))
            if place in taken:
                raise PlanError(
                    f"{job.source} would be written to {path}, which {taken[place]}. Choose "
                    "another folder with --out, or restore them in two runs."
                )
            taken[place] = f"is the result for {job.source}"


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
