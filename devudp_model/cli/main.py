"""The command line.

devudp restore holiday/ --out restored/          # or: python -m devudp_model.cli restore ...
devudp info                                      # the weights that come with it
devudp --help
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..system import interrupts
from ..system.terminal import Printable, drop_output
from ..system.untrusted import MEMORY_VARIABLE, printable
from .arguments import make_parser

# torch and Pillow take seconds to import: only where they are needed, so that --help is quick.
if TYPE_CHECKING:
    import torch

    from ..batch.outcome import Outcome
    from ..batch.plan import Job
    from ..batch.restore_videos import VideoJob
    from ..checkpoint import Checkpoint
    from ..restorer import Restorer

log = logging.getLogger("devudp")

FAILED, INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0, 1 (something failed), 2 (usage), 130."""
    args = make_parser(run_restore, run_info, run_web).parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal has no letters for
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(Printable("%(levelname)s: %(message)s"))
    logging.getLogger("PIL").setLevel(logging.INFO)
    logging.getLogger("pyvips").setLevel(logging.WARNING)  # it tells about its threads
    try:
        with interrupts.noted():
            return args.run(args)
    except (KeyboardInterrupt, Exception) as error:
        status = report_error(error)
        if status is None:
            raise
        return status


def report_error(error: BaseException) -> int | None:
    """Says why a command ended, and gives its exit status; None if nobody has thought of it.

    An error that a library made of an interruption is an interruption.
    """
    if isinstance(error, KeyboardInterrupt) or interrupts.seen():
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):  # `devudp info | head`: the reader is gone
        drop_output()
        return FAILED
    if isinstance(error, (ValueError, OSError)):
        log.debug("", exc_info=error)
        print(f"devudp: {printable(error)}", file=sys.stderr)
        return FAILED
    return None


def run_restore(args: argparse.Namespace) -> int:
    os.environ.setdefault("PILLOW_BLOCK_SIZE", "64m")  # smaller blocks of memory leave holes
    if args.file_memory:
        os.environ[MEMORY_VARIABLE] = str(args.file_memory)
    from ..batch.outcome import Outcome
    from ..batch.plan import Job, check_shared
    from ..batch.restore_files import ImageFiles
    from ..batch.restore_videos import VideoFiles, VideoJob
    from ..batch.run import run
    from ..images.mask import read_mask

    jobs, videos, problems = plan_files(args)
    everything = [*jobs, *videos]
    own, outcome = args.shard.of(everything), Outcome()
    if args.shard.count > 1:
        check_shared(everything, args.paths)
        log.info("Part %s: %d of %d files.", args.shard, len(own), len(everything))
    if own:
        prepare_folder(args.out)
        restorer = make_restorer(args)
        mask = read_mask(args.mask) if args.mask else None
        existing = {"overwrite": args.overwrite, "skip_existing": args.skip_existing}
        kinds = {
            Job: ImageFiles(restorer, by_folder(jobs), mask, **existing),
            VideoJob: VideoFiles(restorer, mask, **existing),
        }
        outcome = run(own, kinds, restorer)
    outcome.failed.update(problems)
    if args.json:
        paths = ((isinstance(job, VideoJob) and job.result) or job.target for job in own)
        report_json(outcome, {job.source: path for job, path in zip(own, paths, strict=True)})
    else:
        report(outcome, args.out)
    return INTERRUPTED if outcome.interrupted else FAILED if outcome.failed else 0


def plan_files(args: argparse.Namespace) -> tuple[list[Job], list[VideoJob], dict[Path, str]]:
    """Jobs for images and for videos, and why some paths give none."""
    from ..batch.plan import plan
    from ..batch.restore_videos import split_videos

    protected = [path for path in (args.mask, args.checkpoint) if path]
    given = {"recursive": args.recursive, "protected": protected}
    paths, videos, unnamed = split_videos(args.paths, args.out, in_folders=args.videos, **given)
    if args.compare and videos:
        log.warning("--compare makes sheets of images: of videos (%d) it makes none.", len(videos))
    jobs, problems = plan(
        paths,
        args.out,
        format=args.format,
        sheets=args.compare,
        elsewhere={job.source for job in videos},
        **given,
    )
    return jobs, videos, {**problems, **unnamed}


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
    """The images of each folder."""
    folders: dict[Path, list[Path]] = {}
    for job in jobs:
        folders.setdefault(job.source.parent, []).append(job.source)
    return folders


def memory_left(limit: int | None, device: torch.device) -> int | None:
    """Returns the rest of a memory limit for the process: on a CPU the program takes some."""
    from ..system.memory import PROGRAM_BYTES

    return limit if limit is None or device.type != "cpu" else max(limit - PROGRAM_BYTES, 1)


def choose_device(name: str | None) -> torch.device:
    """The one named, or the fastest of this machine.

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


def report_json(outcome: Outcome, results: dict[Path, Path]) -> None:
    """One JSON object a line for each file that was given, to standard output."""
    for source, target in results.items():
        choice = outcome.choices.get(source)
        failure = outcome.failed.get(source)
        print(
            json.dumps(
                {
                    "file": str(source),
                    "result": str(target) if failure is None and target.exists() else None,
                    "error": failure,
                    **({"auto": choice.as_dict()} if choice else {}),
                }
            )
        )
    for path in outcome.failed.keys() - results.keys():
        print(json.dumps({"file": str(path), "result": None, "error": outcome.failed[path]}))


def report(outcome: Outcome, out: Path) -> None:
    """Prints what was done to standard output, what was not and why to standard error."""
    for path, choice in outcome.choices.items():
        print(f"{printable(path)}: {choice.reason}")
    skipped = f", {outcome.skipped} were there already" if outcome.skipped else ""
    unchanged = f", {outcome.unchanged} left as they are" if outcome.unchanged else ""
    print(f"{outcome.done} restored into {printable(out)}{unchanged}{skipped}.")
    if outcome.failed:
        print(f"{len(outcome.failed)} failed:", file=sys.stderr)
        for path, reason in outcome.failed.items():
            name = "" if str(path) in reason else f"{path}: "
            print(f"  {printable(name + reason)}", file=sys.stderr)
    if outcome.left:
        what = "Interrupted" if outcome.interrupted else "Stopped"
        print(
            f"{what} with {outcome.left} still to do. The same command with --skip-existing does "
            "them.",
            file=sys.stderr,
        )


def run_web(args: argparse.Namespace) -> int:
    from ..web.serve import serve

    return serve(args)


def run_info(args: argparse.Namespace) -> int:
    from ..checkpoint import CheckpointError, bundled, load_checkpoint
    from ..network.generator import VARIANTS

    status = 0
    for path in args.checkpoints or [bundled(variant) for variant in VARIANTS]:
        try:
            print("\n".join(describe(load_checkpoint(path, fold=False))))
        except CheckpointError as error:
            print(f"devudp: {printable(error)}", file=sys.stderr)
            status = FAILED
    return status


def describe(checkpoint: Checkpoint) -> list[str]:
    """Lines for `devudp info`."""
    content = checkpoint.path.read_bytes()
    facts = {
        "parameters": f"{sum(p.numel() for p in checkpoint.generator.parameters()):,}",
        **checkpoint.metadata,
        "size": f"{len(content):,} bytes",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    first = ("variant", "parameters", "width", "depth", "norm", "shortcut")
    names = [*first, *sorted(set(facts) - {*first, "size", "sha256"}), "size", "sha256"]
    lines = [f"{name:<15}{facts[name]}" for name in names]
    return [printable(checkpoint.path), *(f"  {printable(line)}" for line in lines)]
