"""Restores video files one after the other, as `restore_files` does with images."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..auto import Choice, choose
from ..frozen import VideoRestorer
from ..memory import with_less_memory
from ..restoration import restore
from .images import ImageError
from .launcher import Process
from .restore_files import HOPELESS, FileRestorer, Outcome, explain
from .video import FORMAT, SUFFIXES, FrameRestorer, restore_video

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


class SceneRestorer:
    """Makes what restores a scene's frames, out of a sample of them; for `restore_video`.

    Args:
        restorer: its generators, options and mask; statistics are shared within a scene unless its
            options say `each image`.
        each: statistics of each frame.

    Attributes:
        choices: what each scene needed, with `auto`.
    """

    def __init__(self, restorer: FileRestorer, *, each: bool = False):
        self.restorer, self.each = restorer, each
        self.choices: list[Choice] = []

    def __call__(self, sample: Tensor) -> FrameRestorer:
        options = self.restorer.options
        if self.restorer.auto:
            choice = choose(sample)
            self.choices.append(choice)
            if choice.task is None:
                return lambda frame: frame
            options = choice.options(options)
        generator, mask = self.restorer.generator(options.task), self.restorer.mask
        device = next(generator.parameters()).device

        def make(limit: int | None) -> VideoRestorer:
            return VideoRestorer(generator, sample, dataclasses.replace(options, memory=limit))

        video = None
        if not self.each:
            video, self.restorer.limit = with_less_memory(make, device, self.restorer.limit)

        def run(frame: Tensor, limit: int | None) -> Tensor:
            if video is None:
                bounded = dataclasses.replace(options, memory=limit, statistics="each image")
                return restore(frame, generator, bounded, mask=mask)
            video.set_memory(limit)
            return video(frame, mask)

        def restore_frame(frame: Tensor) -> Tensor:
            restored, self.restorer.limit = with_less_memory(
                partial(run, frame), device, self.restorer.limit
            )
            return restored

        return restore_frame


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
            scenes = SceneRestorer(restorer)
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
