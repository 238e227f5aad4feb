"""Restores image files one after the other; one that fails does not stop the others.

One image is in memory at a time, so a folder may hold any number, such as a video's frames.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..atomic import discard_leftovers, replacing
from ..auto import Choice, choose
from ..engine.watch import watching
from ..frozen import VideoRestorer, sampled
from ..generator import Generator
from ..memory import first_limit, free_bytes, with_less_memory
from ..progress import ImageProgress, pixels_to_do
from ..restoration import Options, restore
from ..tasks import Task
from .images import (
    SAVE_OPTIONS,
    ImageError,
    RasterImage,
    check_format,
    read_image,
    to_array,
    write_image,
)
from .launcher import Process
from .outcome import Outcome, refuse_existing, work_through
from .plan import Job

log = logging.getLogger("devudp")

LONGEST_JPEG = 65_500

BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left"
"""A number of images tells nothing within a large one."""


class FileRestorer:
    """Applies the same options to images of any kind.

    Args:
        generator: gives a task's generator, on the device that is to do the work.
        options: with `shared` statistics, they are those of a sample of the image's folder.
        folders: the images of each folder, for the sample.
        mask: 1,1,H,W in [0, 1], or None.
        auto: find out for each image (or folder, if shared) what it needs.

    Attributes:
        choice: what the last image needed, with `auto`.
        advance: gets the network's progress; see `watching`.
        pixels_to_do: gets the work of an image before it begins.
    """

    def __init__(
        self,
        generator: Callable[[Task], Generator],
        options: Options,
        folders: dict[Path, list[Path]],
        mask: Tensor | None = None,
        *,
        auto: bool = False,
    ):
        self.generator, self.options, self.folders, self.mask = generator, options, folders, mask
        self.auto = auto
        self.limit = options.memory
        self.choice: Choice | None = None
        self.advance: Callable[[float], None] | None = None
        self.pixels_to_do: Callable[[float], None] = lambda pixels: None
        self.video: tuple[Path, VideoRestorer] | None = None  # of the last folder
        self.folder: tuple[Path, Choice] | None = None  # the last one, and what it needs

    def __call__(self, pixels: Tensor, folder: Path) -> Tensor:
        """1,C,H,W in [0, 1] to the same; again with less where memory runs out.

        Raises:
            MemoryError: it ran out with the smallest limit, too.
            ValueError, FloatingPointError: as `restore`.
        """
        options = self.options
        if self.auto:
            self.choice = self.choose(pixels, folder)
            if self.choice.task is None:
                return pixels
            options = self.choice.options(options)
        generator = self.generator(options.task)
        device = next(generator.parameters()).device
        self.limit = self.limit or first_limit(free_bytes(device))
        height, width = pixels.shape[2:]
        self.pixels_to_do(pixels_to_do(height, width, generator, options))

        def run(limit: int | None) -> Tensor:
            bounded = dataclasses.replace(options, memory=limit)
            with watching(self.advance):
                return self.restore_within(generator, bounded, pixels, folder)

        # What this image needed, the next ones will: hence the limit is carried on.
        restored, self.limit = with_less_memory(run, device, self.limit)
        return restored

    def choose(self, pixels: Tensor, folder: Path) -> Choice:
        """What an image needs; where statistics are shared, what its folder needs."""
        if not self.options.shared:
            return choose(pixels)
        if self.folder is None or self.folder[0] != folder:
            self.folder = folder, choose(sample_of(self.folders[folder], like=pixels))
        return self.folder[1]

    def restore_within(
        self, generator: Generator, options: Options, pixels: Tensor, folder: Path
    ) -> Tensor:
        """`__call__` within a memory limit."""
        if not options.shared:
            return restore(pixels, generator, options, mask=self.mask)
        if self.video is None or self.video[0] != folder:
            self.video = None  # before the next one is made
            sample = sample_of(self.folders[folder], like=pixels)
            self.video = folder, VideoRestorer(generator, sample, options)
        self.video[1].set_memory(options.memory)
        return self.video[1](pixels, self.mask)


def sample_of(paths: Sequence[Path], like: Tensor) -> Tensor:
    """Images evenly spaced over a folder, as large as `like`: B,3,H,W."""
    sample = []
    for path in (paths[i] for i in sampled(len(paths), like[0, 0].numel())):
        with contextlib.suppress(ImageError):  # reported when its turn comes
            pixels = read_image(path).pixels
            if pixels.shape[-2:] == like.shape[-2:]:
                sample.append(pixels.expand(-1, 3, -1, -1))
    return torch.cat(sample) if sample else like.expand(-1, 3, -1, -1)


def run(
    jobs: Sequence[Job],
    restorer: FileRestorer,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    process: Process | None = None,
) -> Outcome:
    """Does this process's share of the jobs."""
    process = process or Process()
    for folder in {job.target.parent for job in jobs}:
        discard_leftovers(folder)
    own = process.share(jobs)
    bar = tqdm(total=len(own), bar_format=BAR, disable=True if process.rank else None)

    def show(images: float) -> None:
        bar.update(images - bar.n)

    def work(index: int, job: Job) -> Choice | None:
        bar.set_description_str(f"{index + 1} of {len(own)}")
        progress = ImageProgress(show, index)
        restorer.advance, restorer.pixels_to_do = progress.advance, progress.begin
        do(job, restorer, overwrite=overwrite, keep_sheet=skip_existing)
        progress.done(index + 1)
        return restorer.choice

    with logging_redirect_tqdm(), bar:
        existing = {"overwrite": overwrite, "skip_existing": skip_existing}
        outcome = work_through(own, work, **existing)
        show(len(own) - outcome.left)
    return outcome


def do(
    job: Job,
    restorer: Callable[[Tensor, Path], Tensor],
    *,
    overwrite: bool,
    keep_sheet: bool = False,
) -> None:
    """Restores one image; the sheet first, so that a result means that all is there.

    Args:
        job: which image.
        restorer: makes the result of the pixels and the folder.
        overwrite: whether files that are there already may be replaced.
        keep_sheet: keep a sheet that is there already, such as that of an interrupted run.
    """
    has_sheet = job.sheet is not None and os.path.lexists(job.sheet)
    if has_sheet and job.sheet and not overwrite and not keep_sheet:
        refuse_existing(job.sheet)
    image = read_image(job.source)
    check_format(image, job.format)
    pixels = restorer(image.pixels, job.source.parent)
    restored = dataclasses.replace(image, pixels=pixels)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    if job.sheet and not (has_sheet and keep_sheet):
        write_sheet(job.sheet, image, restored, overwrite=overwrite)
    write_image(job.target, restored, job.format, overwrite=overwrite)


def write_sheet(
    path: Path, before: RasterImage, after: RasterImage, *, overwrite: bool = True
) -> None:
    """Before and after side by side (one above the other if that is squarer), as JPEG."""
    axis = 0 if before.pixels.shape[-1] > 2 * before.pixels.shape[-2] else 1
    parts = [dataclasses.replace(each, alpha=None) for each in (before, after)]
    arrays = [to_array(part, np.uint8) for part in parts]
    gap_shape = list(arrays[0].shape)
    gap_shape[axis] = 4
    joined = np.concatenate([arrays[0], np.full(gap_shape, 255, np.uint8), arrays[1]], axis)
    sheet = Image.fromarray(joined[:, :, 0] if joined.shape[2] == 1 else joined)
    sheet.thumbnail((LONGEST_JPEG, LONGEST_JPEG))
    options = {"icc_profile": before.metadata.icc} if before.metadata.icc else {}
    with replacing(path, overwrite=overwrite) as file:
        sheet.save(file, "jpeg", **SAVE_OPTIONS["jpeg"], **options)
