"""devudp-train onnx: writes networks as ONNX files, images in [0, 1] in, images in [0, 1] out.

  devudp-train onnx devudp devudp-dt mine.safetensors --out onnx
  devudp-train onnx devudp --out onnx --agreement 0.5 2 --web node
  devudp-train onnx devudp-dt --out onnx --int8 my/photos

NAME.onnx is the network on whole images. For a network that normalises over the whole image there
is also what restores an image tile by tile: NAME-statistics.onnx measures the image, and
NAME-tile.onnx restores a tile with what was measured. They are checked against PyTorch; if asked
to, it measures how closely the installed programs agree with this one at larger sizes.
`onnx_restore.py` runs them all; see docs/onnx.md. Needs the extra "onnx" (onnx, onnxscript,
onnxruntime).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.network.generator import VARIANTS

from ..console import plain_parser
from .agreement import find_runtimes, measure_agreement, table
from .onnx_export import check_onnx, export_onnx, export_tiles, narrow_like
from .quantize import calibration_images, decibels, quantize

logger = logging.getLogger("devudp")


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = plain_parser(__doc__)
    add = parser.add_argument
    add("checkpoints", nargs="+", metavar="CHECKPOINT",
        help="devudp, devudp-dt or a .safetensors file")  # fmt: skip
    add("--out", type=Path, required=True, metavar="DIR", help="the folder to write to")
    add("--int8", type=Path, metavar="DIR",
        help="also write NAME-int8.onnx, with ranges from the photos of this folder")  # fmt: skip
    add("--agreement", type=float, nargs="+", default=[], metavar="MP",
        help="measure the agreement on images of so many megapixels; writes NAME.md")  # fmt: skip
    add("--narrow", type=int, default=0, metavar="CHANNELS",
        help="in place of each checkpoint a random network of its kind with so few channels, to "
        "measure sizes that take too much memory otherwise")  # fmt: skip
    add("--web", type=Path, metavar="DIR",
        help="measure onnxruntime-web too, which was installed there with npm")  # fmt: skip
    return parser


def write_all(name: str, options: argparse.Namespace) -> None:
    """Writes and checks all files of one checkpoint.

    Raises:
        CheckpointError, ConfigError, OSError: it cannot be read or exported.
        ArithmeticError: a file does not agree with PyTorch.
    """
    source = bundled(name) if name in VARIANTS else Path(name)
    generator, path = load_checkpoint(source).generator, options.out / f"{source.stem}.onnx"
    if options.narrow:
        generator = narrow_like(generator, options.narrow)
        path = path.with_stem(f"{path.stem}-narrow")
    export_onnx(generator, path)
    logger.info("%s: agrees with PyTorch to %.1e", path, check_onnx(generator, path))
    for more in export_tiles(generator, path):
        logger.info("%s", more)
    if options.int8:
        images = calibration_images(options.int8)
        quantized = quantize(generator, path, images)
        worst = decibels(path, quantized, images)
        logger.info("%s: %.1f dB from float32 on the worst of the photos", quantized, worst)
    if options.agreement:
        runtimes = find_runtimes(options.web)
        text = table(list(measure_agreement(generator, path, options.agreement, runtimes)))
        path.with_suffix(".md").write_text(text, encoding="utf-8", newline="\n")
        logger.info("Largest (mean) difference in grey levels of 255:\n\n%s", text)


def main(arguments: Sequence[str]) -> None:
    """``devudp-train onnx``; see the top of this file."""
    options = make_parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.checkpoints:
        write_all(name, options)
