"""Restores video files one after the other, as `restore_files` does with images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .images import ImageError
from .launcher import Process
from .restore_files import HOPELESS, FileRestorer, Outcome, explain
from .scenes import SceneRestorer
from .video import FORMAT, SUFFIXES, restore_video

log = logging.getLogger("devudp")


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
    """Does this process's share of the jobs; one that fails is noted and the next one done."""
    process = process or Process()
    own, outcome = process.share(jobs), Outcome()
    for index, job in enumerate(own):
        try:
            if job.target.exists() and skip_existing:
                outcome.skipped += 1
                continue
            if job.target.exists() and not overwrite:
                raise ImageError(
                    f"{job.target} exists already. Add --skip-existing to keep it, or --overwrite."
                )
            scenes = SceneRestorer(
                restorer.generator, restorer.options, restorer.mask, auto=restorer.auto
            )
            job.target.parent.mkdir(parents=True, exist_ok=True)
            bar = tqdm(unit=" frames", desc=job.source.name, disable=bool(process.rank) or None)

            def show(done: int, total: int, bar: tqdm = bar) -> None:
                bar.total = total or None
                bar.update(done - bar.n)

            with logging_redirect_tqdm(), bar:
                restore_video(job.source, job.target, scenes, show)
            outcome.done += 1
            if scenes.choices:
                outcome.choices[job.source] = scenes.choices[0]
        except KeyboardInterrupt:
            outcome.interrupted, outcome.left = True, len(own) - index
            break
        except Exception as error:
            log.debug("%s", job.source, exc_info=True)
            outcome.failed[job.source] = explain(error)
            if isinstance(error, OSError) and error.errno in HOPELESS:
                outcome.left = len(own) - index - 1
                break
    return outcome
