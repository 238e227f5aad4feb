"""How video files are restored: frame by frame, each scene with statistics of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..restorer import Restorer
from ..restoring.auto import Choice
from ..restoring.progress import ImageProgress
from ..videos.video import SUFFIXES, restore_video
from ..videos.video_writer import FORMAT
from .outcome import refuse_existing


@dataclass(frozen=True)
class VideoJob:
    """A video to restore, and the file to write."""

    source: Path
    target: Path


def split_videos(paths: Sequence[Path], out: Path) -> tuple[list[Path], list[VideoJob]]:
    """What is not a video file, and a job for each that is.

    Raises:
        ValueError: two results would have the same name, or one would replace a video.
    """
    videos = [path for path in paths if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    jobs = [VideoJob(path, out / f"{path.stem}.{FORMAT}") for path in dict.fromkeys(videos)]
    taken = {path.resolve(): f"is an input ({path})" for path in videos}
    for job in jobs:
        place = job.target.resolve()
        if place in taken:
            raise ValueError(
                f"{job.source} would be written to {job.target}, which {taken[place]}. Choose "
                "another folder with --out, or restore them in two runs."
            )
        taken[place] = f"is the result for {job.source}"
    return [path for path in paths if path not in videos], jobs


class VideoFiles:
    """The kind of job that is a video file; see `run.Kind`.

    It is read and written while it is worked on, frame by frame.

    Args:
        restorer: each scene has statistics of its own.
        mask: 1,1,H,W, any type of image, or None.
        overwrite, skip_existing: what happens to results that are there already.
    """

    def __init__(
        self,
        restorer: Restorer,
        mask: Tensor | None = None,
        *,
        overwrite: bool = False,
        skip_existing: bool = False,
    ):
        self.restorer, self.mask = restorer, mask
        self.overwrite, self.skip_existing = overwrite, skip_existing

    def read(self, job: VideoJob, reserve: Callable[[int], None]) -> Path | None:
        """The file; None if its result is there already."""
        if self.skip_existing and job.target.exists():
            return None
        if not self.overwrite:
            refuse_existing(job.target)
        return job.source

    @torch.inference_mode()
    def work(
        self, job: VideoJob, read: Path, progress: ImageProgress
    ) -> tuple[Path, Choice | None]:
        """The file that was written, and what `auto` found of the first scene."""
        scenes, before = self.restorer.scenes(self.mask), progress.images
        job.target.parent.mkdir(parents=True, exist_ok=True)

        def show(done: int, total: int) -> None:
            progress.report(before + done / max(total, done, 1))

        restore_video(read, job.target, scenes, show)
        return job.target, scenes.choices[0] if scenes.choices else None

    def write(self, job: VideoJob, result: Path) -> None:
        """Nothing is left to do."""
