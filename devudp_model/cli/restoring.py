"""From arguments to what restores: the plan, the folder, the device, the restorer."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# torch and Pillow take seconds to import: only where they are needed.
if TYPE_CHECKING:
    import torch

    from ..batch.plan import Job
    from ..batch.restore_videos import VideoJob
    from ..restorer import Restorer

log = logging.getLogger("devudp")


def plan_files(args: argparse.Namespace) -> tuple[list[Job], list[VideoJob], dict[Path, str]]:
    """Jobs for images and for videos, and why some paths give none."""
    from ..batch.plan import find_images, jobs_for
    from ..batch.restore_videos import split_videos
    from ..cluster.items import find_in_store
    from ..cluster.stores import is_stand_in

    protected = [path for path in (args.mask, args.checkpoint) if path]
    here = [path for path in args.paths if not is_stand_in(path)]
    paths, videos, unnamed = split_videos(
        here, args.out, in_folders=args.videos, recursive=args.recursive, protected=protected
    )
    if args.compare and videos:
        log.warning("--compare makes sheets of images: of videos (%d) it makes none.", len(videos))
    elsewhere = {job.source for job in videos}
    found, problems = find_images(paths, args.out, recursive=args.recursive, elsewhere=elsewhere)
    for folder in filter(is_stand_in, args.paths):
        more, wrong = find_in_store(folder, args.out, args.recursive)
        found, problems = {**found, **more}, {**problems, **wrong}
    jobs, nameless = jobs_for(
        found, args.out, format=args.format, sheets=args.compare, protected=protected
    )
    return jobs, videos, {**problems, **unnamed, **nameless}


def prepare_folder(out: Path) -> None:
    """Makes the folder and checks that it is writable, before any work is done."""
    from ..system.atomic import PREFIX, SUFFIX, discard_leftovers, replacing

    try:
        out.mkdir(parents=True, exist_ok=True)
        discard_leftovers(out)
        probe = out / f"{PREFIX}probe{SUFFIX}"
        with replacing(probe):
            pass
        probe.unlink(missing_ok=True)
    except OSError as error:
        reason = "it is a file, not a folder" if out.is_file() else error.strerror or error
        raise OSError(f"cannot write to {out}: {reason}. Choose another --out.") from error


def make_restorer(args: argparse.Namespace) -> Restorer:
    """Returns what restores as the arguments say."""
    from PIL import Image

    from ..restorer import Restorer
    from ..restoring.options import Options

    Image.MAX_IMAGE_PIXELS = None  # the user's own files: the memory is the limit
    device = choose_device(args.device)
    options = Options(
        strength=args.strength,
        exposure=args.exposure,
        denoise=args.denoise,
        precision=args.precision,
        statistics="shared" if args.statistics == "shared" else "each image",
        memory=memory_left(args.memory, device),
        working_size=args.working_size,
    )
    restorer = Restorer(args.checkpoint, args.task, options, device=device)
    if not restorer.auto or args.checkpoint:
        restorer.weights(restorer.options.task)  # what is wrong with a file shows at once
    return restorer


def by_folder(jobs: Sequence[Job]) -> dict[Path, list[Path]]:
    """Returns the images of each folder."""
    folders: dict[Path, list[Path]] = {}
    for job in jobs:
        folders.setdefault(job.source.parent, []).append(job.source)
    return folders


def memory_left(limit: int | None, device: torch.device) -> int | None:
    """Returns the rest of a memory limit for the process: on a CPU the program takes some."""
    from ..system.memory import PROGRAM_BYTES

    return limit if limit is None or device.type != "cpu" else max(limit - PROGRAM_BYTES, 1)


def choose_device(name: str | None) -> torch.device:
    """Returns the one named, or the fastest of this machine.

    Raises:
        ValueError: there is no such device.
    """
    import torch

    from ..task_weights import fastest_device

    if name is None:
        return fastest_device()
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        # For an unknown name torch lists every backend that it could be built with.
        unknown = "Expected one of" in str(error)
        reason = "there is none of that name" if unknown else str(error).splitlines()[0]
        raise ValueError(
            f"no device {name!r}: {reason}. Leave --device out, or write --device cpu."
        ) from error
    return device
