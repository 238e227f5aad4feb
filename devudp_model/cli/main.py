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
from ..system.terminal import Printable, drop_output, open_closed_streams
from ..system.untrusted import MEMORY_VARIABLE, printable
from .arguments import make_parser
from .cluster import problem_with, run_on_cluster
from .restoring import by_folder, choose_device, make_restorer, plan_files, prepare_folder

# torch and Pillow take seconds to import: only where they are needed, so that --help is quick.
if TYPE_CHECKING:
    from ..batch.outcome import Outcome
    from ..checkpoint import Checkpoint

log = logging.getLogger("devudp")

FAILED, INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0, 1 (something failed), 2 (usage), 130."""
    open_closed_streams()
    parser = make_parser(run_restore, run_info, run_web)
    args = parser.parse_args(argv)
    if args.run is run_restore and (problem := problem_with(args)):
        parser.error(problem)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal has no letters for
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(Printable("%(levelname)s: %(message)s"))
    logging.getLogger("PIL").setLevel(logging.INFO)
    logging.getLogger("pyvips").setLevel(logging.ERROR)  # its warnings name no file
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


def set_environment(args: argparse.Namespace) -> None:
    """Tells the libraries, before they are imported, of memory."""
    os.environ.setdefault("PILLOW_BLOCK_SIZE", "64m")  # smaller blocks of memory leave holes
    if args.file_memory:
        os.environ[MEMORY_VARIABLE] = str(args.file_memory)


def run_restore(args: argparse.Namespace) -> int:
    set_environment(args)
    if args.cluster:
        return run_on_cluster(args)
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


def report_json(outcome: Outcome, results: dict[Path, Path]) -> None:
    """One JSON object a line for each file that was given, to standard output."""
    for source in {**results, **outcome.failed}:
        choice, failure = outcome.choices.get(source), outcome.failed.get(source)
        result = str(results[source]) if failure is None and results[source].exists() else None
        auto = {"auto": choice.as_dict()} if choice else {}
        print(json.dumps({"file": str(source), "result": result, "error": failure, **auto}))


def report(outcome: Outcome, out: Path) -> None:
    """Prints what was done to standard output, what was not and why to standard error."""
    for path, choice in outcome.choices.items():
        print(f"{printable(path)}: {choice.reason}")
    # "into .." would name another folder than `--out .` does, with the full stop behind it.
    place = out if out.name.strip(".") else os.path.realpath(out)
    skipped = f", {outcome.skipped} were there already" if outcome.skipped else ""
    unchanged = f", {outcome.unchanged} left as they are" if outcome.unchanged else ""
    print(f"{outcome.done} restored into {printable(place)}{unchanged}{skipped}.")
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
    set_environment(args)
    from ..web.serve import serve

    prepare_folder(args.out)
    args.device = choose_device(args.device)
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
