"""Restores video files: frame by frame, each scene with statistics of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..restorer import Restorer
from ..restoring.auto import Choice
from ..restoring.progress import ImageProgress
from ..system.untrusted import printable
from ..videos.video import SUFFIXES, restore_video
from ..videos.video_writer import FORMAT
from .names import Job, distinct, key, without_long_names
from .names import VideoJob as VideoJob
from .outcome import refuse_existing
from .paths import expand_wildcards, files_in, real
from .plan import InputFile, check, collide, from_common_folder, report_kinds

log = logging.getLogger("devudp")


class Split(NamedTuple):
    """Parts what was given: other paths, a job for each video, why some give none."""

    others: list[Path]
    jobs: list[VideoJob]
    problems: dict[Path, str]


def split_videos(
    paths: Sequence[Path],
    out: Path,
    *,
    in_folders: bool = False,
    recursive: bool = False,
    protected: Iterable[Path] = (),
) -> Split:
    """Parts what is a video file from what is not, and plans a job for each video.

    Args:
        paths: files and folders.
        out: the folder for the results.
        in_folders: take the videos in folders too. The folders stay among the others.
        recursive: and those in the folders in them.
        protected: further files that are read and so must not be written.

    Raises:
        ValueError: a result would replace an input.
    """
    others, inputs = [], dict[Path, InputFile]()
    for path in expand_wildcards(paths):
        if path.is_dir():
            others.append(path)
            for file in files_in(path, out, recursive=recursive) if in_folders else ():
                if file.suffix.lower() in SUFFIXES:
                    inputs.setdefault(real(file), InputFile(file, file.relative_to(path)))
        elif path.suffix.lower() in SUFFIXES:
            inputs.setdefault(real(path), InputFile(path, Path(path.name)))
        else:
            others.append(path)
    if collide(each.relative for each in inputs.values()):
        inputs = from_common_folder(inputs)
    jobs = [
        Job(each.path, (out / each.relative).with_suffix(f".{FORMAT}"), FORMAT)
        for each in inputs.values()
    ]
    jobs = distinct(jobs)
    check(jobs, [*inputs, *protected])
    jobs, problems = without_long_names(jobs)
    becomes = "what is restored becomes MP4; what needs nothing is copied as it is"
    report_kinds(jobs, lambda suffix: None if suffix == f".{FORMAT}" else becomes)
    taken = {key(real(path)) for path in (*inputs, *protected)}
    return Split(others, [with_copy(job, taken) for job in jobs], problems)


def with_copy(job: Job, taken: Collection[str]) -> VideoJob:
    """A job with the name that its file has if it is left as it is, unless that is taken."""
    name = job.target.with_suffix(job.source.suffix)
    free = key(real(name)) not in taken and key(name) != key(job.target)
    return VideoJob(job.source, job.target, name if free else None)


@dataclass(eq=False)
class VideoFiles:
    """The kind of job that is a video file; see `run.Kind`.

    It is read and written while it is worked on, frame by frame.

    Args:
        restorer: each scene has statistics of its own.
        mask: 1,1,H,W, any type of image, or None.
        overwrite, skip_existing: what happens to results that are there already.
    """

    restorer: Restorer
    mask: Tensor | None = None
    overwrite: bool = False
    skip_existing: bool = False

    def read(self, job: VideoJob, on_size_known: Callable[[int], None]) -> Path | None:
        """Returns the file; None if its result is there already."""
        if self.skip_existing and job.result is not None:
            return None
        for path in (job.target, job.copy):
            if path is not None and not self.overwrite:
                refuse_existing(path)
        return job.source

    @torch.inference_mode()
    def work(
        self, job: VideoJob, read: Path, progress: ImageProgress
    ) -> tuple[Path, Choice | None]:
        """The file that was written, and what `auto` found of the first scene that needs anything.

        What is converted, left out or damaged is logged, a sentence for each.
        """
        scenes, before = self.restorer.scenes(self.mask), progress.images
        job.target.parent.mkdir(parents=True, exist_ok=True)
        frames = 0, 0

        def show(done: int, total: int) -> None:
            nonlocal frames
            frames = done, total
            progress.report(before + done / max(total, done, 1))

        def unchanged() -> bool:
            return bool(scenes.choices) and scenes.choices[-1].task is None

        try:
            outcome = restore_video(
                read,
                job.target,
                scenes,
                show,
                unchanged=unchanged,
                overwrite=self.overwrite,
                copy_as=job.copy,
            )
        except KeyboardInterrupt:
            log.warning(
                "%s: stopped at frame %d of %d; the next run starts it anew.",
                printable(job.source),
                *frames,
            )
            raise
        for sentence in outcome.said:
            log.warning("%s: %s", printable(job.source), sentence)
        needed = (choice for choice in scenes.choices if choice.task is not None)
        found = next(needed, scenes.choices[0] if scenes.choices else None)
        return outcome.path or job.target, found

    def write(self, job: VideoJob, result: Path) -> None:
        """Nothing is left to do."""
