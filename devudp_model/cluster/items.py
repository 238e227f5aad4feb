"""The work as it is sent to the workers: texts, for they may have other disks."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..batch.outcome import existing_message
from ..batch.plan import (
    AnyJob,
    InputFile,
    Job,
    no_images,
    reason_to_skip,
    report_others,
)
from ..images.formats import SUFFIXES
from ..system.untrusted import printable
from ..videos.video import SUFFIXES as VIDEO_SUFFIXES
from .stores import is_safe, is_stand_in, list_files, names_in, opened, text_of

log = logging.getLogger("devudp")

NO_VIDEOS = "Of a store, only images are restored: copy videos to a disk."

Problems = dict[str, str]
"""Why files or folders are not restored, by their path or address."""


@dataclass(frozen=True)
class Item:
    """A file to restore, wherever it lies.

    Attributes:
        source, target: absolute paths, or addresses in a store.
        format: see `Job`; empty for a video.
        sheet: where before and after go side by side; empty for none.
    """

    source: str
    target: str
    format: str = ""
    sheet: str = ""


def items_of(jobs: Iterable[AnyJob]) -> list[Item]:
    """Returns what is sent of the jobs of a plan."""
    return [
        Item(
            text_of(job.source),
            text_of(job.target),
            job.format if isinstance(job, Job) else "",
            text_of(job.sheet) if isinstance(job, Job) and job.sheet else "",
        )
        for job in jobs
    ]


def find_in_store(
    folder: Path, out: Path, recursive: bool
) -> tuple[dict[Path, InputFile], dict[Path, str]]:
    """Finds the images in a folder of a store, as `find_images` does on a disk.

    Args:
        folder: stands for the address of a folder, or of a file.
        out: the folder of the results, whose images are earlier results.
        recursive: take subfolders too.

    Raises:
        StoreError: the store cannot be used, or nothing is there.
    """
    names = list_files(text_of(folder), recursive)
    if names is None and folder.suffix.lower() in VIDEO_SUFFIXES:
        return {}, {folder: NO_VIDEOS}
    if names is None:
        return {folder: InputFile(folder, Path(folder.name))}, {}
    inputs: dict[Path, InputFile] = {}
    problems: dict[Path, str] = {}
    others: Counter[str] = Counter()
    for name in names:
        path, suffix = folder / name, Path(name).suffix.lower()
        if path.name.startswith(".") or out in path.parents:
            continue
        if suffix not in SUFFIXES or reason_to_skip(suffix) is not None:
            others[suffix] += 1
        elif is_safe(name):
            inputs[path] = InputFile(path, Path(name))
        else:
            problems[folder / printable(name)] = "No file can have this name: rename it there."
    videos = sum(others.pop(suffix, 0) for suffix in VIDEO_SUFFIXES)
    if videos:
        log.warning("%s: %d videos skipped. %s", printable(text_of(folder)), videos, NO_VIDEOS)
    report_others(text_of(folder), others)
    if not inputs and not problems:
        problems[folder] = no_images(recursive)
    return inputs, problems


def without_existing(
    items: Sequence[Item], out: Path, *, overwrite: bool, skip_existing: bool
) -> tuple[list[Item], list[Item], Problems]:
    """Looks up once which results are there already, before any worker begins.

    A worker replaces what it finds: that is what a worker that died has left.

    Returns:
        What is to be done, what is done already, and what must not be replaced and why.
    """
    if overwrite:
        return list(items), [], {}
    in_store = names_in(text_of(out)) if is_stand_in(out) else None

    def exists(target: str) -> bool:
        return os.path.lexists(target) if in_store is None else opened(target)[1] in in_store

    todo: list[Item] = []
    there: list[Item] = []
    refused: Problems = {}
    for item in items:
        if exists(item.target):
            if skip_existing:
                there.append(item)
            else:
                refused[item.source] = existing_message(item.target)
        elif item.sheet and exists(item.sheet):
            if skip_existing:
                todo.append(replace(item, sheet=""))
            else:
                refused[item.source] = existing_message(item.sheet)
        else:
            todo.append(item)
    return todo, there, refused
