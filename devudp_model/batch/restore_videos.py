"""Restores video files one after the other, as `restore_files` does with images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..restoring.auto import Choice
from ..videos.scenes import SceneRestorer
from ..videos.video import SUFFIXES, restore_video
from ..videos.video_writer import FORMAT
from .launcher import Process
from .outcome import Outcome, work_through
from .restore_files import FileRestorer


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


@torch.inference_mode()
def run_videos(
    jobs: Sequence[VideoJob],
    restorer: FileRestorer,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    process: Process | None = None,
) -> Outcome:
    """Does this process's share of the jobs."""
    process = process or Process()
    own = process.share(jobs)

    def work(index: int, job: VideoJob) -> Choice | None:
        scenes = SceneRestorer(
            restorer.generator, restorer.options, restorer.mask, auto=restorer.auto
        )
        job.target.parent.mkdir(parents=True, exist_ok=True)
        bar = tqdm(unit=" frames", desc=job.source.name, disable=bool(process.rank) or None)

        def show(done: int, total: int) -> None:
            bar.total = total or None
            bar.update(done - bar.n)

        with logging_redirect_tqdm(), bar:
            restore_video(job.source, job.target, scenes, show)
        return scenes.choices[0] if scenes.choices else None

    return work_through(own, work, overwrite=overwrite, skip_existing=skip_existing)
