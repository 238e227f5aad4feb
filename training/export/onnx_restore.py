"""Runs the ONNX files of `devudp-train onnx` on an image, as a whole or in tiles; needs no PyTorch.

    pip install onnxruntime pillow numpy
    python onnx_restore.py photo.jpg restored.png --model onnx/devudp-dt.onnx
    python onnx_restore.py photo.jpg restored.png --model onnx/devudp.onnx --tile 512

This is the network's own image, without what a task adds to it (exposure matched, own detail,
filters): see docs/onnx.md. This file depends on no other: copy it and change it as you like.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

OVERLAP = 72
"""Pixels around a tile that its result depends on, a multiple of 4; of networks of depth 2."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("image", type=Path, metavar="IMAGE", help="the image to restore")
    add("out", type=Path, metavar="RESULT", help="the image to write")
    add("--model", type=Path, required=True, metavar="FILE", help="NAME.onnx of devudp-train onnx")
    add("--tile", type=int, default=0, metavar="N",
        help="tiles of so many pixels a side, a multiple of 4; default: none")  # fmt: skip
    add("--measure", type=int, default=0, metavar="N",
        help="for --tile: measure a smaller copy, of this long side at most")  # fmt: skip
    args = parser.parse_args()
    pixels = read(args.image)
    if args.tile:
        measured = smaller(pixels, args.measure) if args.measure else pixels
        restored = restore_in_tiles(pixels, args.model, args.tile, measured)
    else:
        restored = run(session(args.model), image=pixels)
    to_image(restored).save(args.out)


def read(path: Path) -> np.ndarray:
    """Returns an image file, upright, as 1,3,H,W in [0, 1]."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's conversion would make white
        values = np.repeat(np.asarray(image, np.float32)[..., None] / 65535, 3, 2)
    else:
        values = np.asarray(image.convert("RGB"), np.float32) / 255
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def to_image(pixels: np.ndarray) -> Image.Image:
    """1,3,H,W, cut off at 0 and 1, in 8 bits."""
    bytes_ = np.round(np.clip(pixels[0], 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(bytes_.transpose(1, 2, 0))


def smaller(pixels: np.ndarray, side: int) -> np.ndarray:
    """1,3,H,W reduced to this long side, if it is larger."""
    if max(pixels.shape[2:]) <= side:
        return pixels
    image = to_image(pixels)
    image.thumbnail((side, side), Image.Resampling.BOX)
    return np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255


def session(path: Path) -> onnxruntime.InferenceSession:
    """On the fastest device that this onnxruntime has."""
    return onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())


def run(network: onnxruntime.InferenceSession, **inputs: np.ndarray) -> np.ndarray:
    """Returns the only output of a network."""
    return np.asarray(network.run(None, inputs)[0])


def restore_in_tiles(
    pixels: np.ndarray, model: Path, side: int, measured: np.ndarray | None = None
) -> np.ndarray:
    """1,3,H,W in [0, 1] to the same, as the whole image would come out.

    Args:
        model: NAME.onnx. Where NAME-tile.onnx lies beside it, the network normalises over the whole
            image, and tiles need what NAME-statistics.onnx measures.
        side: of a tile without its overlap, a multiple of 4.
        measured: what to measure, if another image than `pixels`: a smaller version takes less
            memory, and gives about the same result.
    """
    if side < 4 or side % 4:
        raise SystemExit(f"--tile {side} is no multiple of 4")
    tile, more = model.with_stem(f"{model.stem}-tile"), {}
    if tile.exists():
        measure = session(model.with_stem(f"{model.stem}-statistics"))
        image = pixels if measured is None else measured
        more["statistics"] = run(measure, image=image)
        model = tile
    network, result = session(model), np.empty_like(pixels)
    height, width = pixels.shape[2:]
    for top, bottom, above in cuts(height, side):
        for left, right, before in cuts(width, side):
            wide = pixels[:, :, above : bottom + OVERLAP, before : right + OVERLAP]
            restored = run(network, image=wide, **more)
            inner = restored[:, :, top - above :, left - before :]
            result[:, :, top:bottom, left:right] = inner[:, :, : bottom - top, : right - left]
    return result


def cuts(size: int, side: int) -> Iterator[tuple[int, int, int]]:
    """First and last pixel (exclusive) of each tile, and where its overlap begins."""
    for start in range(0, size, side):
        yield start, min(start + side, size), max(start - OVERLAP, 0)


if __name__ == "__main__":
    main()
