"""Restores image files; one that fails does not stop the others.

Few images are in memory at a time, so a folder may hold any number, such as a video's frames.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import ImageOps
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..engine.hooks import watching
from ..images.formats import BY_NAME
from ..images.raster import ImageError, RasterImage
from ..images.reading import read_stored
from ..images.writing import SAVE_OPTIONS, check_format, to_pillow, write_image
from ..network.generator import Generator
from ..ops.dtypes import to_unit
from ..restoring.auto import Choice, choose
from ..restoring.frozen import VideoRestorer, sampled
from ..restoring.progress import ImageProgress, pixels_to_do
from ..restoring.restoration import Options, restore
from ..restoring.tasks import Task
from ..system import interrupts
from ..system.atomic import discard_leftovers, replacing
from ..system.memory import first_limit, free_bytes, is_out_of_memory, with_less_memory
from .launcher import Process
from .outcome import Outcome, explain, is_hopeless, refuse_existing
from .pipeline import Passage, Pipeline
from .plan import Job

log = logging.getLogger("devudp")

GAP = 4
"""White pixels between before and after, on a sheet."""

BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left"
"""A number of images tells nothing within a large one."""


class FileRestorer:
    """Applies the same options to images of any kind.

    Args:
        generator: gives a task's generator, on the device that is to do the work.
        options: with `shared` statistics, they are those of a sample of the image's folder.
        folders: the images of each folder, for the sample.
        mask: 1,1,H,W, any type of image, or None.
        auto: find out for each image (or folder, if shared) what it needs.

    Attributes:
        choice: what the last image needed, with `auto`.
        advance: gets the network's progress; see `watching`.
        pixels_to_do: gets the work of an image before it begins.
        make_room: is called where memory runs out.
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
        self.make_room: Callable[[], None] = lambda: None
        self.video: tuple[Path, VideoRestorer] | None = None  # of the last folder
        self.folder: tuple[Path, Choice] | None = None  # the last one, and what it needs

    def __call__(self, pixels: Tensor, folder: Path) -> Tensor:
        """1,C,H,W, any type of image, to the same; again with less where memory runs out.

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
            try:
                with watching(self.advance):
                    return self.restore_within(generator, bounded, pixels, folder)
            except Exception as error:
                if is_out_of_memory(error):
                    self.make_room()
                raise

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
    """Images evenly spaced over a folder, as large as `like`: B,3,H,W, or one, 1,C,H,W."""
    sample = []
    for path in (paths[i] for i in sampled(len(paths), like[0, 0].numel())):
        with contextlib.suppress(ImageError):  # reported when its turn comes
            pixels = read_stored(path).pixels
            if pixels.shape[-2:] == like.shape[-2:]:
                sample.append(pixels)
    if len(sample) < 2:  # large images: as they are stored
        return sample[0] if sample else like
    return torch.cat([to_unit(pixels).expand(-1, 3, -1, -1) for pixels in sample])


def run(
    jobs: Sequence[Job],
    restorer: FileRestorer,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    process: Process | None = None,
) -> Outcome:
    """Does this process's share of the jobs.

    The next images are read and the last ones written meanwhile. After Ctrl-C, those that are
    ready are still written.
    """
    process = process or Process()
    for folder in {job.target.parent for job in jobs}:
        discard_leftovers(folder)
    own = process.share(jobs)
    stages = Stages(restorer, overwrite=overwrite, skip_existing=skip_existing)
    bar = tqdm(total=len(own), bar_format=BAR, disable=True if process.rank else None)

    def show(images: float) -> None:
        bar.update(images - bar.n)

    def work(index: int, job: Job, image: RasterImage | None) -> tuple[Any, Choice | None]:
        bar.set_description_str(f"{index + 1} of {len(own)}")
        progress = ImageProgress(show, index)
        restorer.advance, restorer.pixels_to_do = progress.advance, progress.begin
        done = stages.work(job, image)
        progress.done(index + 1)
        return done

    with logging_redirect_tqdm(), bar:
        line = Pipeline(own, stages.read, work, stages.write, log)
        restorer.make_room = line.make_room
        with interrupts.held():
            outcome = collect(line)
        outcome.left = len(own) - outcome.done - outcome.skipped - len(outcome.failed)
        show(len(own) - outcome.left)
    return outcome


def collect(line: Pipeline[Job]) -> Outcome:
    """Lets the pipeline run, and notes what becomes of each job."""
    outcome, hopeless = Outcome(), False
    try:
        for passage in line:
            note(outcome, passage)
            hopeless = is_hopeless(passage.error)
            if hopeless:
                break
    except KeyboardInterrupt:
        outcome.interrupted = True
    try:
        for passage in line.finish():
            if passage.error is None or not hopeless:
                note(outcome, passage)
    except KeyboardInterrupt:
        outcome.interrupted = True
    finally:
        line.close()
    return outcome


def note(outcome: Outcome, passage: Passage[Job]) -> None:
    """Counts a job, or says why it failed."""
    if passage.error is not None:
        log.debug("%s", passage.job.source, exc_info=passage.error)
        outcome.failed[passage.job.source] = explain(passage.error)
    elif passage.image_was_there:
        outcome.skipped += 1
    else:
        outcome.done += 1
        if passage.found is not None:
            outcome.choices[passage.job.source] = passage.found


class Stages:
    """What is done with a job: by one thread after the other.

    Args:
        restorer: makes the result of the pixels and the folder.
        overwrite: whether files that are there already may be replaced.
        skip_existing: whether a result that is there is kept. So is a sheet, such as that of an
            interrupted run.
    """

    def __init__(
        self,
        restorer: Callable[[Tensor, Path], Tensor],
        *,
        overwrite: bool,
        skip_existing: bool,
    ):
        self.restorer, self.overwrite, self.skip_existing = restorer, overwrite, skip_existing

    def read(self, job: Job, reserve: Callable[[int], None]) -> RasterImage | None:
        """The image; None if its result is there already."""
        if self.skip_existing and job.target.exists():
            return None
        if not self.overwrite:
            refuse_existing(job.target)
            if job.sheet and not self.skip_existing:
                refuse_existing(job.sheet)
        image = read_stored(job.source, reserve)
        check_format(image, job.format)
        return image

    def work(self, job: Job, image: RasterImage | None) -> tuple[Any, Choice | None]:
        """The image for the sheet, if there is to be one, and the result; and what `auto` found."""
        if image is None:
            return None, None
        pixels = self.restorer(image.pixels, job.source.parent)
        restored = dataclasses.replace(image, pixels=pixels)
        before = image if job.sheet else None
        return (before, restored), getattr(self.restorer, "choice", None)

    def write(self, job: Job, images: tuple[RasterImage | None, RasterImage]) -> None:
        """The sheet first, so that a result means that all is there."""
        before, restored = images
        job.target.parent.mkdir(parents=True, exist_ok=True)
        keep = self.skip_existing and job.sheet is not None and os.path.lexists(job.sheet)
        if job.sheet and before is not None and not keep:
            write_sheet(job.sheet, before, restored, overwrite=self.overwrite)
        write_image(job.target, restored, job.format, overwrite=self.overwrite)


def write_sheet(
    path: Path, before: RasterImage, after: RasterImage, *, overwrite: bool = True
) -> None:
    """Before and after side by side (one above the other if that is squarer), as JPEG."""
    height, width = before.pixels.shape[-2:]
    place = (0, height + GAP) if width > 2 * height else (width + GAP, 0)
    left = to_pillow(dataclasses.replace(before, alpha=None))
    sheet = ImageOps.expand(left, (0, 0, *place), fill="white")
    sheet.paste(to_pillow(dataclasses.replace(after, alpha=None)), place)
    longest = BY_NAME["jpeg"].longest
    sheet.thumbnail((longest, longest))
    own = before.origin is None and before.metadata.icc  # else the pixels are sRGB
    options = {"icc_profile": before.metadata.icc} if own else {}
    with replacing(path, overwrite=overwrite) as file:
        sheet.save(file, "jpeg", **SAVE_OPTIONS["jpeg"], **options)
