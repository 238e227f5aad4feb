"""The command line.

devudp restore holiday/ --out restored/          # or: python -m devudp_model.cli restore ...
devudp info                                      # the weights that come with it
devudp --help
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# torch and Pillow take seconds to import: only where they are needed, so that --help is quick.
if TYPE_CHECKING:
    import torch

    from .batch import Outcome, Restorer
    from .checkpoint import Checkpoint
    from .jobs import Job
    from .processes import Process

log = logging.getLogger("devudp")

TASKS = ("joint", "deblur", "low-light")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FORMATS = ("png", "jpeg", "webp", "tiff", "bmp", "same")

FAILED, INTERRUPTED = 1, 130

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}

EXAMPLES = """examples:
  devudp restore photo.jpg --out restored
  devudp restore holiday --out restored --recursive --compare
  devudp restore blurry.png --out restored --task deblur --strength 0.8
  devudp restore night.jpg --out restored --task low-light --exposure 0.7 --format jpeg
  devudp restore large.tif --out restored --memory 2GB --format tiff

films (no flicker; the sound is copied back by ffmpeg):
  mkdir frames
  ffmpeg -i film.mp4 frames/%06d.png
  devudp restore frames --out restored --statistics shared
  ffmpeg -framerate 25 -i restored/%06d.png -i film.mp4 -map 0:v -map 1:a? restored.mp4

several GPUs, or several processes for one GPU, which else waits for the files; if it stops
half-way, the same command with --skip-existing does the rest:
  accelerate launch --multi_gpu --num_processes 4 -m devudp_model.cli restore frames --out restored
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0, 1 (something failed), 2 (usage), 130."""
    args = make_parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO, format="%(levelname)s: %(message)s"
    )
    logging.getLogger("PIL").setLevel(logging.INFO)
    logging.getLogger("pyvips").setLevel(logging.WARNING)  # it tells about its threads
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # of `devudp info | head`: nobody is listening any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python's last flush, too
        return FAILED
    except (ValueError, OSError) as error:
        log.debug("", exc_info=True)
        print(f"devudp: {error}", file=sys.stderr)
        return FAILED


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="devudp",
        description="Deblurs photographs and corrects their exposure in one go.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    restore = commands.add_parser(
        "restore",
        help="restore picture files and folders",
        description="Restores picture files (PNG, JPEG, WebP, TIFF, BMP) and folders of them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_restore_arguments(restore)
    restore.set_defaults(run=run_restore)
    info = commands.add_parser(
        "info",
        help="what a checkpoint is",
        description="Prints variant, parameters, metadata and SHA-256 of checkpoints.",
    )
    info.add_argument(
        "checkpoints", nargs="*", type=Path, metavar="CHECKPOINT", help="default: the bundled ones"
    )
    info.set_defaults(run=run_info)
    for command in (restore, info):
        command.add_argument("--verbose", action="store_true", help="say more, also where it fails")
    return parser


def add_restore_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="picture file or folder")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    add(
        "--task",
        choices=TASKS,
        default="joint",
        help=(
            "joint: blur and exposure (default); deblur: the exposure is kept; low-light: the "
            "exposure with the picture's own detail"
        ),
    )
    add("--checkpoint", type=Path, metavar="FILE", help="weights; default: the task's bundled ones")
    add("--strength", type=share, default=1.0, metavar="0..1", help="of the effect; default 1")
    add(
        "--exposure",
        type=share,
        metavar="0..1",
        help=("0 keeps the picture's, 1 takes the model's; default: the task's own"),
    )
    add("--mask", type=Path, metavar="FILE", help="picture, white where to restore; any size")
    add("--format", choices=FORMATS, default="png", help="of the results; default png")
    add("--recursive", action="store_true", help="with the folders inside the folders")
    add("--compare", action="store_true", help="also write NAME.compare.jpg, before | after")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace existing results")
    existing.add_argument(
        "--skip-existing",
        action="store_true",
        help=("do only what is missing, as after an interruption"),
    )
    add(
        "--statistics",
        choices=("each", "shared"),
        default="each",
        help=("shared: all pictures of a folder alike, for the frames of a film; default each"),
    )
    add("--memory", type=memory_size, metavar="SIZE", help="bound for the restoring, as 4GB")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps; default: the fastest there is")
    add("--precision", choices=PRECISIONS, default="auto", help="of the arithmetic; default auto")


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def memory_size(text: str) -> int:
    """Bytes in `4GB`, `512M`, `1.5GiB`, `100000`."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMG]I?)?B?", text.strip().upper())
    size = int(float(match[1]) * UNITS[match[2] or ""]) if match else 0
    if size <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write it as 4GB or 512MB")
    return size


def run_restore(args: argparse.Namespace) -> int:
    from .batch import Outcome, run
    from .jobs import plan
    from .processes import Process

    jobs, problems = plan(
        args.paths,
        args.out,
        format=args.format,
        recursive=args.recursive,
        sheets=args.compare,
        protected=[path for path in (args.mask, args.checkpoint) if path],
    )
    process, outcome = Process.this(), Outcome()
    process.connect()
    # A launcher or a service that ends this process gets the same orderly end as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if jobs:
        prepare_folder(args.out)
        outcome = run(
            jobs,
            make_restorer(args, jobs, process),
            overwrite=args.overwrite,
            skip_existing=args.skip_existing,
            process=process,
        )
    if not outcome.interrupted:
        outcome = Outcome.sum(process.gather(outcome))
    outcome.failed.update(problems)
    if process.rank == 0:
        report(outcome, args.out)
    return INTERRUPTED if outcome.interrupted else FAILED if outcome.failed else 0


def prepare_folder(out: Path) -> None:
    """Makes it, and finds out now whether it can be written to, not after the first picture."""
    from .atomic import replacing

    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".devudp-probe"
        with replacing(probe):
            pass
        probe.unlink(missing_ok=True)
    except OSError as error:
        reason = "it is a file, not a folder" if out.is_file() else error.strerror or error
        raise OSError(f"cannot write to {out}: {reason}. Choose another --out.") from error


def make_restorer(args: argparse.Namespace, jobs: Sequence[Job], process: Process) -> Restorer:
    """Generator, options and mask as the arguments say."""
    from PIL import Image

    from .batch import Restorer
    from .checkpoint import bundled, load_checkpoint
    from .pictures import read_picture
    from .restore import Options
    from .tasks import bundled_variant

    Image.MAX_IMAGE_PIXELS = None  # pictures.MAX_PIXELS counts instead: these are one's own files
    options = Options(
        task="low light" if args.task == "low-light" else args.task,
        strength=args.strength,
        exposure=args.exposure,
        precision=args.precision,
        statistics="shared" if args.statistics == "shared" else "each image",
        memory=args.memory,
    )
    checkpoint = load_checkpoint(args.checkpoint or bundled(bundled_variant(options.task)))
    device = choose_device(args.device, process.local_rank)
    mask = read_picture(args.mask).pixels.mean(1, keepdim=True) if args.mask else None
    folders: dict[Path, list[Path]] = {}
    for job in jobs:
        folders.setdefault(job.source.parent, []).append(job.source)
    return Restorer(checkpoint.generator.to(device), options, folders, mask)


def choose_device(name: str | None, local_rank: int) -> torch.device:
    """The one named, or the fastest of this machine; each process its own GPU.

    Raises:
        ValueError: there is no such device.
    """
    import torch

    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda", local_rank % torch.cuda.device_count())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"no device {name!r}: {reason}. Leave --device out, or cpu.") from error
    return device


def report(outcome: Outcome, out: Path) -> None:
    """What was done, to standard output, and what was not and why, to standard error."""
    skipped = f", {outcome.skipped} were there already" if outcome.skipped else ""
    print(f"{outcome.done} restored into {out}{skipped}.")
    if outcome.failed:
        print(f"{len(outcome.failed)} failed:", file=sys.stderr)
        for path, reason in outcome.failed.items():
            name = "" if str(path) in reason else f"{path}: "
            print(f"  {name}{reason}", file=sys.stderr)
    if outcome.left:
        what = "Interrupted" if outcome.interrupted else "Stopped"
        print(
            f"{what} with {outcome.left} still to do. The same command with --skip-existing does "
            "them.",
            file=sys.stderr,
        )


def run_info(args: argparse.Namespace) -> int:
    from .checkpoint import CheckpointError, bundled, load_checkpoint
    from .generator import VARIANTS

    status = 0
    for path in args.checkpoints or [bundled(variant) for variant in VARIANTS]:
        try:
            print("\n".join(describe(load_checkpoint(path, fold=False))))
        except CheckpointError as error:
            print(f"devudp: {error}", file=sys.stderr)
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
    return [str(checkpoint.path), *(f"  {name:<15}{facts[name]}" for name in names)]


if __name__ == "__main__":
    sys.exit(main())
