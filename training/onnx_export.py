"""The generator as ONNX: images in [0, 1] in, images in [0, 1] out, any size and batch.

    export_onnx(load_checkpoint("mine.safetensors").generator, "mine.onnx")

Needs the extra "onnx" (onnx, onnxscript, onnxruntime).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from devudp_model.atomic import replacing
from devudp_model.generator import MIN_SIDE, STRIDE, Generator

from .config import ConfigError

TOLERANCE = 1e-4
"""How far onnxruntime's output may be from PyTorch's, in [0, 1]."""

CHECKED_SIZES = ((1, 40, 56), (2, 33, 47))
"""Batch, height and width that an exported file is tried on."""


class ImageNetwork(nn.Module):
    """G with its door: B,3,H,W in [0, 1] to the same; H and W at least `MIN_SIDE`.

    The padding to multiples of `STRIDE` is the generator's, written as a choice of lines, which
    works for sizes that are only known when the file is used.
    """

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        padded = grow(grow(image, 2), 3)
        return (self.generator(padded * 2 - 1)[..., :height, :width] + 1) / 2


def grow(x: Tensor, axis: int) -> Tensor:
    """Reflects the last lines so that the side becomes a multiple of `STRIDE`."""
    size = x.shape[axis]
    full = (size + STRIDE - 1) // STRIDE * STRIDE
    line = torch.arange(full, device=x.device)
    return x.index_select(axis, torch.where(line < size, line, 2 * (size - 1) - line))


def export_onnx(generator: Generator, path: str | os.PathLike[str]) -> None:
    """Writes the network with dynamic batch, height and width, in float32.

    Args:
        generator: in eval mode; BatchNorm folded or not.
        path: ends in .onnx.

    Raises:
        ConfigError: the packages for it are missing.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError("ONNX export needs more packages: pip install 'devudp[onnx]'") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torchvision's absence is no news
    # Sizes that are multiples of STRIDE inside: the exporter must not take them for fixed.
    batch, height, width = (torch.export.Dim.DYNAMIC for _ in range(3))
    program = torch.onnx.export(
        ImageNetwork(generator).eval(),
        (torch.rand(2, 3, 5 * MIN_SIDE + 1, 6 * MIN_SIDE + 2),),
        input_names=["image"],
        output_names=["restored"],
        dynamic_shapes=({0: batch, 2: height, 3: width},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    with replacing(path) as file:
        file.write(program.model_proto.SerializeToString())


def check_onnx(generator: Generator, path: str | os.PathLike[str]) -> float:
    """The largest difference between onnxruntime and PyTorch, on images of several sizes.

    Raises:
        ArithmeticError: it is above `TOLERANCE`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(
        Path(path).read_bytes(), providers=["CPUExecutionProvider"]
    )
    rng, worst = torch.Generator().manual_seed(0), 0.0
    for batch, height, width in CHECKED_SIZES:
        image = torch.rand(batch, 3, height, width, generator=rng)
        with torch.no_grad():
            expected = (generator(image * 2 - 1) + 1) / 2
        (restored,) = session.run(None, {"image": image.numpy()})
        worst = max(worst, float(np.abs(restored - expected.numpy()).max()))
    if not worst <= TOLERANCE:
        raise ArithmeticError(
            f"{path} differs from PyTorch by {worst:.1e}; it was not exported well"
        )
    return worst
