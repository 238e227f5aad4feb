"""Restores image files: reads, works on them, and writes them with all that the file says."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from PIL import ImageOps
from torch import Tensor

from ..images.formats import BY_NAME
from ..images.raster import ImageError, RasterImage
from ..images.reading import read_stored
from ..images.writing import SAVE_OPTIONS, check_format, copy_file, to_pillow, write_image
from ..ops.dtypes import to_unit
from ..restorer import FrameRestorer, Restorer
from ..restoring.alpha import with_alpha, without_alpha
from ..restoring.auto import Choice
from ..restoring.frozen import sampled
from ..restoring.progress import ImageProgress
from ..system.atomic import replacing
from .outcome import refuse_existing
from .plan import Job

GAP = 4
"""White pixels between before and after, on a sheet."""


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """Holds what is written of a job.

    Attributes:
        restored: the image.
        before: the one that it was made from, if there is to be a sheet.
        unchanged: nothing was done to it.
    """

    restored: RasterImage
    before: RasterImage | None = None
    unchanged: bool = False


@dataclasses.dataclass(eq=False)
class ImageFiles:
    """The kind of job that is an image file; see `run.Kind`.

    Args:
        restorer: with `shared` statistics, they are those of a sample of the image's folder.
        folders: the images of each folder, for the sample.
        mask: 1,1,H,W, any type of image, or None.
        overwrite: whether files that are there already may be replaced.
        skip_existing: whether a result that is there is kept. So is a sheet, such as that of an
            interrupted run.
    """

    restorer: Restorer
    folders: Mapping[Path, Sequence[Path]] = dataclasses.field(default_factory=dict)
    mask: Tensor | None = None
    overwrite: bool = False
    skip_existing: bool = False
    folder: tuple[Path, FrameRestorer] | None = dataclasses.field(default=None, init=False)
    """The last one, and what restores its images."""

    def read(self, job: Job, on_size_known: Callable[[int], None]) -> RasterImage | None:
        """Returns the image; None if its result is there already."""
        if self.skip_existing and job.target.exists():
            return None
        if not self.overwrite:
            refuse_existing(job.target)
            if job.sheet and not self.skip_existing:
                refuse_existing(job.sheet)
        image = read_stored(job.source, on_size_known)
        check_format(image, job.format)
        return image

    def work(
        self, job: Job, read: RasterImage, progress: ImageProgress
    ) -> tuple[Result, Choice | None]:
        """Returns the images to write, and what `auto` found."""
        given = with_alpha(read.pixels, read.alpha)
        if self.restorer.options.shared:
            restored = self.restorer_of(job, given, progress)(given, self.mask)
        else:
            restored = self.restorer(given, self.mask, progress)
        pixels = without_alpha(restored, read.pixels)
        found = self.restorer.choices[-1] if self.restorer.choices else None
        before, unchanged = read if job.sheet else None, found is not None and found.task is None
        return Result(dataclasses.replace(read, pixels=pixels), before, unchanged), found

    def for_other_thread(self) -> ImageFiles:
        """Returns one that works beside this one, on images without shared statistics."""
        other = copy.copy(self)
        other.restorer = self.restorer.for_other_thread()
        return other

    def restorer_of(self, job: Job, pixels: Tensor, progress: ImageProgress) -> FrameRestorer:
        """Returns what restores all images of a job's folder; `pixels` are the job's own."""
        folder = job.source.parent
        if self.folder is None or self.folder[0] != folder:
            self.folder = None  # before the next one is made
            paths = self.folders.get(folder, ())
            sample = sample_of(paths, first_of(paths, job.source, pixels))
            self.folder = folder, self.restorer.scenes(None, progress)(sample)
        return self.folder[1]

    def write(self, job: Job, result: Result) -> None:
        """The sheet first, so that a result means that all is there.

        What nothing was done to is copied, byte for byte, if the file has the format already.
        """
        before, restored = result.before, result.restored
        job.target.parent.mkdir(parents=True, exist_ok=True)
        keep = self.skip_existing and job.sheet is not None and os.path.lexists(job.sheet)
        if job.sheet and before is not None and not keep:
            write_sheet(job.sheet, before, restored, overwrite=self.overwrite)
        if result.unchanged and restored.format == job.format:
            copy_file(job.source, job.target, overwrite=self.overwrite)
        else:
            write_image(job.target, restored, job.format, overwrite=self.overwrite)


def first_of(paths: Sequence[Path], own: Path, pixels: Tensor) -> Tensor:
    """Returns the first image of a folder that can be read, whichever comes first in this run.

    So a part of the folder, or what an interrupted run has left of it, gets the whole folder's
    statistics.

    Args:
        paths: the folder's images.
        own, pixels: one that has been read already.
    """
    for path in paths:
        if path == own:
            break
        with contextlib.suppress(ImageError):  # reported when its turn comes
            return given_of(path)
    return pixels


def given_of(path: Path) -> Tensor:
    """Reads an image of a folder, with its alpha."""
    image = read_stored(path)
    return with_alpha(image.pixels, image.alpha)


def sample_of(paths: Sequence[Path], like: Tensor) -> Tensor:
    """Images evenly spaced over a folder, as large as `like`: B,3 or 4,H,W, or one, 1,C,H,W."""
    sample = []
    for path in (paths[i] for i in sampled(len(paths), like[0, 0].numel())):
        with contextlib.suppress(ImageError):  # reported when its turn comes
            pixels = given_of(path)
            if pixels.shape[-2:] == like.shape[-2:]:
                sample.append(pixels)
    if len(sample) < 2:  # large images: as they are stored
        return sample[0] if sample else like
    colours = torch.cat([to_unit(pixels[:, :3]).expand(-1, 3, -1, -1) for pixels in sample])
    if all(pixels.shape[1] < 4 for pixels in sample):
        return colours
    opaque = torch.ones(1, 1, *like.shape[-2:])
    alphas = [to_unit(pixels[:, 3:]) if pixels.shape[1] == 4 else opaque for pixels in sample]
    return torch.cat([colours, torch.cat(alphas)], 1)


def write_sheet(
    path: Path, before: RasterImage, after: RasterImage, *, overwrite: bool = True
) -> None:
    """Before and after side by side (one above the other if that is squarer), as JPEG."""
    height, width = before.pixels.shape[-2:]
    offset = (0, height + GAP) if width > 2 * height else (width + GAP, 0)
    left = to_pillow(dataclasses.replace(before, alpha=None))
    sheet = ImageOps.expand(left, (0, 0, *offset), fill="white")
    sheet.paste(to_pillow(dataclasses.replace(after, alpha=None)), offset)
    longest = BY_NAME["jpeg"].longest
    sheet.thumbnail((longest, longest))
    own = before.origin is None and before.metadata.icc  # else the pixels are sRGB
    options = {"icc_profile": before.metadata.icc} if own else {}
    with replacing(path, overwrite=overwrite) as file:
        sheet.save(file, "jpeg", **SAVE_OPTIONS["jpeg"], **options)
