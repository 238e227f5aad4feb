"""The network in 8-bit integers, for programs on CPUs: smaller and faster, and a little off.

devudp-train onnx devudp-dt --out onnx --int8 my/photos

Convolutions are computed in integers, all else stays float32 (ONNX's QDQ form). Only for networks
with BatchNorm, which export folds into the convolutions: InstanceNorm would divide the steps of
the integers by a deviation that may be small.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from devudp_model.network.generator import Generator

from ..config import ConfigError
from ..data.image_cache import decode
from ..data.layouts import list_images
from .agreement import load_onnxruntime
from .differences import spread

CALIBRATION_SIDE = 256
"""Pixels: of each photo the middle of this side is run."""

CALIBRATION_IMAGES = 16


def calibration_images(folder: Path) -> list[np.ndarray]:
    """Parts of a folder's photos, 1,3,H,W in [0, 1]; at most `CALIBRATION_IMAGES`.

    Raises:
        FileNotFoundError: the folder is missing or empty.
        UnreadableImage: a photo cannot be read.
    """
    paths = spread(list_images([folder]), CALIBRATION_IMAGES)
    return [middle(decode(path)) for path in paths]


def middle(pixels: np.ndarray) -> np.ndarray:
    """H,W,3 uint8 to the middle of it, 1,3,h,w in [0, 1]."""
    top, left = (max(side - CALIBRATION_SIDE, 0) // 2 for side in pixels.shape[:2])
    part = pixels[top : top + CALIBRATION_SIDE, left : left + CALIBRATION_SIDE]
    return part.astype(np.float32).transpose(2, 0, 1)[None] / 255


def quantize(generator: Generator, path: Path, images: Sequence[np.ndarray]) -> Path:
    """Writes NAME-int8.onnx beside NAME.onnx.

    The first and the last convolution, which see the image itself, stay float32: 2 to 3 dB.

    Args:
        generator: what `path` was exported from.
        path: the float32 file.
        images: what the ranges of all layers are taken from, 1,3,H,W in [0, 1].

    Raises:
        ConfigError: the generator normalises each image by itself.
    """
    if generator.norm == "instance":
        raise ConfigError(
            f"{path.name} cannot be had in 8 bits: its network divides by the deviation of each "
            "image. --int8 is for networks with BatchNorm, such as devudp-dt."
        )
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quantized = path.with_stem(f"{path.stem}-int8")
    inputs = iter([{"image": image} for image in images])
    reader: Any = SimpleNamespace(get_next=lambda: next(inputs, None))  # all that is asked of one
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder, path.name)
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        nodes = onnx.load(str(prepared)).graph.node
        convolutions = [node.name for node in nodes if node.op_type == "Conv"]
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # it recommends what has just been done
        try:
            quantize_static(
                str(prepared),
                str(quantized),
                reader,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=[convolutions[0], convolutions[-1]],
                per_channel=True,
                reduce_range=True,  # 7 bits: without VNNI, sums of 8-bit products overflow
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            root.setLevel(level)
    return quantized


def decibels(exact: Path, quantized: Path, images: Sequence[np.ndarray]) -> float:
    """The PSNR of the quantized file's results against the float32 file's; the worst image's."""
    found, networks = [], [load_onnxruntime(path) for path in (exact, quantized)]
    for image in images:
        a, b = (network(image) for network in networks)
        found.append(-10 * np.log10(max(float(np.square(a - b, dtype=np.float64).mean()), 1e-20)))
    return min(found)
