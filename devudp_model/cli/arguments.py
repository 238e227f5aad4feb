"""Parses what is written after `devudp`: commands, options, and their help.

Nothing of torch is imported here, so that --help is quick.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..batch.shard import Shard
from ..images.formats import WRITABLE
from ..restoring.tasks import MAX_DENOISE, ROWS, describe_tasks
from ..system.untrusted import MEMORY_OPTION
from ..system.version import version
from .cluster import add_cluster_arguments
from .values import (
    given_path,
    given_place,
    memory_size,
    pixel_count,
    port,
    shard,
    share,
    whole_number,
)

Command = Callable[[argparse.Namespace], int]

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
SAME = "same"
FORMATS = (*WRITABLE, SAME)

AUTO = "auto"
"""As in auto.py, which needs torch."""

TASK_WORDS = (AUTO, *(spec.word for spec in ROWS))

SAME_AS = {spec.name: spec.word for spec in ROWS}
SAME_AS |= {"jpg": "jpeg", "tif": "tiff", "jpeg-xl": "jxl"}
"""Other names of tasks (the nodes') and of formats (file suffixes)."""

EXAMPLES = """examples:
  devudp restore photo.jpg --out restored
  devudp restore holiday --out restored --recursive --compare
  devudp restore blurry.png --out restored --task deblur --strength 0.8
  devudp restore night.jpg --out restored --task low-light --exposure 0.7 --format jpeg
  devudp restore large.tif --out restored --memory 2GB --format tiff

videos (frames of a scene share their statistics; the sound is kept; needs PyAV, the extra "video"):
  devudp restore clip.mp4 --out restored

in the browser (needs gradio, the extra "web"):
  devudp web

for scripts, one JSON object a file:
  devudp restore holiday --out restored --json

several processes or machines, one part each (here the second of eight); if one stops half-way,
the same command with --skip-existing does the rest of its part:
  devudp restore holiday --out restored --shard 2/8

many machines, or several workers on this one (needs Ray, the extra "cluster"):
  devudp restore s3://bucket/photos --out s3://bucket/restored --cluster --skip-existing
"""


def make_parser(
    run_restore: Command, run_info: Command, run_web: Command
) -> argparse.ArgumentParser:
    """Returns the parser; `run` of what it returns is the command to run."""
    parser = argparse.ArgumentParser(
        prog="devudp",
        description="Deblurs photographs and corrects their exposure in one go.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"devudp {version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    restore = commands.add_parser(
        "restore",
        help="restore image files, folders and videos",
        description=(
            "Restores image files (PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC, JPEG XL, raw, GIF),\n"
            'folders of them, and video files. HEIC and JPEG XL need the extra "formats", raw\n'
            'files the extra "raw". GIF files in a folder are skipped: they may be animations.'
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_restore_arguments(restore)
    restore.set_defaults(run=run_restore)
    info = commands.add_parser(
        "info",
        help="show what is in a checkpoint",
        description="Prints variant, parameters, metadata and SHA-256 of checkpoints.",
    )
    info.add_argument(
        "checkpoints",
        nargs="*",
        type=given_path,
        metavar="CHECKPOINT",
        help="default: the bundled ones",
    )
    info.set_defaults(run=run_info)
    web = commands.add_parser(
        "web",
        help="open a page in the browser to restore photos",
        description="Starts a page on this computer and opens it. Needs gradio: the extra web.",
    )
    add_web_arguments(web)
    web.set_defaults(run=run_web)
    for command in (restore, info, web):
        command.add_argument("--verbose", action="store_true", help="log more, with tracebacks")
    return parser


def add_restore_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="+", type=given_place, metavar="PATH", help="image file, folder, video file")
    add("--out", type=given_place, required=True, metavar="DIR", help="folder for the results")
    add(
        "--task",
        type=usual_name,
        choices=TASK_WORDS,
        default=AUTO,
        help=(
            f"{AUTO}: pick the task for each image, or leave it alone; "
            f"{describe_tasks('; ', words=True)}; default %(default)s"
        ),
    )
    add(
        "--checkpoint",
        type=given_path,
        metavar="FILE",
        help="weights; default: the task's own",
    )
    add(
        "--strength",
        type=share,
        default=1.0,
        metavar="0..1",
        help="blend: 0 = original, 1 = fully restored; default 1",
    )
    add(
        "--exposure",
        type=share,
        metavar="0..1",
        help="0 keeps the input's exposure, 1 corrects it; default: the task's own",
    )
    add(
        "--denoise",
        type=partial(share, most=MAX_DENOISE),
        default=1.0,
        metavar="0..2",
        help="0 keeps grain, 1 = the task's default, 2 = smoothest; default 1",
    )
    add(
        "--mask",
        type=given_path,
        metavar="FILE",
        help="image, white where to restore; any size",
    )
    add(
        "--format",
        type=usual_name,
        choices=FORMATS,
        default=SAME,
        help="format of the results; same: that of the input, PNG of what is only read (raw files, "
        "HEIC, GIF); default same",
    )
    add("--recursive", action="store_true", help="include subfolders")
    add("--videos", action="store_true", help="include the videos in folders")
    add("--compare", action="store_true", help="also write NAME.compare.jpg, before | after")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace existing results")
    existing.add_argument(
        "--skip-existing",
        action="store_true",
        help="restore only what is missing, for example after an interruption",
    )
    add(
        "--shard",
        type=shard,
        default=Shard(),
        metavar="K/N",
        help="only part K of N, for instance 2/8: every N-th file; for several processes or "
        "machines, each with its own K from 1 to N",
    )
    add_cluster_arguments(parser, whole_number, given_place)
    add(
        "--statistics",
        choices=("each", "shared"),
        default="each",
        help="shared: common to all images of a folder, for the frames of a video; default each",
    )
    add(
        "--working-size",
        type=pixel_count,
        metavar="SIZE",
        help="such as 2MP: restore a smaller copy of larger images and bring the change to their "
        "full size; many times faster, but the finest detail is not restored",
    )
    add(
        "--memory",
        type=memory_size,
        metavar="SIZE",
        help="limit, such as 4GB, of what is used beside two copies of the image as its file has "
        "it (three if that is not in sRGB; more with --mask or --statistics shared); on a GPU, of "
        "the GPU's memory; default: most of what is free",
    )
    add_file_memory(parser)
    add("--json", action="store_true", help="print one JSON object a file, and nothing else")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps; default: the fastest available")
    add("--precision", choices=PRECISIONS, default="auto", help="of the network; default auto")


def add_file_memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        MEMORY_OPTION,
        type=memory_size,
        metavar="SIZE",
        help="what one image may take when it is read; default: half of what is free, and 800MB "
        "for a tiny file that claims to be a large image",
    )


def add_web_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--out",
        type=given_path,
        default=Path("restored"),
        metavar="DIR",
        help="folder for the results; default: %(default)s",
    )
    add("--port", type=port, metavar="N", help="of the page; default: the first free one from 7860")
    add("--no-browser", action="store_true", help="only print the page's address")
    add("--checkpoint", type=given_path, metavar="FILE", help="weights; default: the task's own")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps; default: the fastest available")
    add_file_memory(parser)
    add(
        "--listen",
        metavar="ADDRESS",
        help="let others in the network use the page, for instance 0.0.0.0; asks for a password "
        "(or takes that of the environment variable DEVUDP_PASSWORD); default: this computer only",
    )


def usual_name(text: str) -> str:
    """Returns the one in the list of choices."""
    return SAME_AS.get(text, text)
