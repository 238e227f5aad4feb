"""Writes networks as ONNX files of any image size and batch, and checks them against PyTorch."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from devudp_model.network.generator import MIN_SIDE, Generator
from devudp_model.system.atomic import replacing

from ..config import ConfigError
from .agreement import Runtime, load_onnxruntime, measure_agreement
from .onnx_networks import ImageNetwork, StatisticsNetwork, TileNetwork

TOLERANCE = 1e-4
"""How far onnxruntime's output may be from PyTorch's, in [0, 1]."""

CHECKED_SIZES = ((1, 40, 56), (2, 33, 47))
"""Batch, height and width that an exported file is tested with."""

LARGE_MEGAPIXELS, LARGE_LEVELS = 3.8, 0.05
"""A large image, and how far a file may be off there, in grey levels of 255."""


def export_onnx(generator: Generator, path: str | os.PathLike[str]) -> None:
    """Writes the network with dynamic batch, height and width, in float32.

    Args:
        generator: in eval mode; BatchNorm folded or not.
        path: ends in .onnx.

    Raises:
        ConfigError: the packages for it are missing.
    """
    write_onnx(ImageNetwork(generator), {"image": example(2)}, "restored", path)


def export_tiles(generator: Generator, path: str | os.PathLike[str]) -> list[Path]:
    """Writes what restores an image in tiles beside `path`; nothing where `path` can do that.

    Arguments and errors: as `export_onnx`.
    """
    if generator.norm != "instance":
        return []
    whole, image = Path(path), example(1)
    measure, tile = (whole.with_stem(f"{whole.stem}-{part}") for part in ("statistics", "tile"))
    network = StatisticsNetwork(generator).eval()
    write_onnx(network, {"image": image}, "statistics", measure)
    with torch.no_grad():
        inputs = {"image": image, "statistics": network(image)}
    write_onnx(TileNetwork(generator), inputs, "restored", tile)
    return [measure, tile]


def example(batch: int) -> Tensor:
    """Sizes that are multiples of STRIDE inside: the exporter must not take them for fixed."""
    return torch.rand(batch, 3, 5 * MIN_SIDE + 1, 6 * MIN_SIDE + 2)


def write_onnx(
    network: nn.Module, inputs: Mapping[str, Tensor], output: str, path: str | os.PathLike[str]
) -> None:
    """One network to one file. Images may have any size, and any batch if the example has several.

    Raises:
        ConfigError: the packages for it are missing.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "ONNX export needs more packages: pip install '.[onnx]' in the project's folder"
        ) from error
    # It warns that torchvision is missing, which does not matter.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    dynamic = torch.export.Dim.DYNAMIC
    shapes = [
        {axis: dynamic for axis in (0, 2, 3) if value.ndim == 4 and (axis or len(value) > 1)}
        for value in inputs.values()
    ]
    with torch.no_grad():  # with a gradient, InstanceNorm takes another way
        program = torch.onnx.export(
            network.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple(shapes),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    with replacing(path) as file:
        file.write(program.model_proto.SerializeToString())


def check_onnx(generator: Generator, path: str | os.PathLike[str]) -> float:
    """Compares onnxruntime with PyTorch: this file on small images, its like on a large one.

    Returns the largest difference on the small ones, in [0, 1].

    Raises:
        ArithmeticError: it is above `TOLERANCE`, or the large one's above `LARGE_LEVELS`.
    """
    rng, worst = torch.Generator().manual_seed(0), 0.0
    restore = load_onnxruntime(Path(path))
    for batch, height, width in CHECKED_SIZES:
        image = torch.rand(batch, 3, height, width, generator=rng)
        with torch.no_grad():
            expected = (generator(image * 2 - 1) + 1) / 2
        worst = max(worst, float(np.abs(restore(image.numpy()) - expected.numpy()).max()))
    if not worst <= TOLERANCE:
        raise ArithmeticError(
            f"{path} differs from PyTorch by {worst:.1e}; it was not exported well"
        )
    check_large(generator)
    return worst


def check_large(generator: Generator) -> float:
    """Compares onnxruntime with the engine on a large image, of a narrow network of the same kind.

    What loses digits with an image's size does so at any width. Returns the largest difference in
    grey levels.

    Raises:
        ArithmeticError: it is above `LARGE_LEVELS`.
    """
    narrow = narrow_like(generator)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "narrow.onnx")
        export_onnx(narrow, path)
        runtime = Runtime("onnxruntime", load_onnxruntime)
        (found,) = measure_agreement(narrow, path, [LARGE_MEGAPIXELS], [runtime])
    if not found.largest <= LARGE_LEVELS:
        raise ArithmeticError(
            f"a network of this kind differs from PyTorch by {found.largest:.2f} grey levels at "
            f"{found.width}x{found.height} pixels: this onnxruntime loses digits in large images"
        )
    return found.largest


def narrow_like(generator: Generator, width: int = 4) -> Generator:
    """A random network of the same variant, every convolution of which keeps the deviation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        narrow = Generator(
            generator.variant, width, 1, norm=generator.norm, shortcut=generator.shortcut
        )
        for module in narrow.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    return narrow.eval()
