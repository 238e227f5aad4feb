"""The generator as ONNX: images in [0, 1] in, images in [0, 1] out, any size and batch.

    python -m devudp_training.onnx_export devudp devudp-dt mine.safetensors --out onnx

writes NAME.onnx, the network on whole images. For a network that normalises over the whole image it
also writes what restores an image tile by tile: NAME-statistics.onnx measures the image, and
NAME-tile.onnx restores a tile with what was measured. `onnx_restore.py` runs them all; see
docs/onnx.md. Needs the extra "onnx" (onnx, onnxscript, onnxruntime).
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.network.generator import (
    MIN_SIDE,
    NORM_EPS,
    STANDARDIZE_EPS,
    STRIDE,
    VARIANTS,
    Generator,
    InstanceNorm,
)
from devudp_model.system.atomic import replacing

from .config import ConfigError

TOLERANCE = 1e-4
"""How far onnxruntime's output may be from PyTorch's, in [0, 1]."""

CHECKED_SIZES = ((1, 40, 56), (2, 33, 47))
"""Batch, height and width that an exported file is tested with."""


class ImageNetwork(nn.Module):
    """G in the range of image files: B,3,H,W in [0, 1] to the same; H and W at least `MIN_SIDE`.

    The padding to multiples of `STRIDE` is the generator's, written as a selection of rows and
    columns, which works for sizes that are only known when the file is used.
    """

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        padded = grow(grow(image, 2), 3)
        return (self.generator(padded * 2 - 1)[..., :height, :width] + 1) / 2


def grow(x: Tensor, axis: int) -> Tensor:
    """Reflects the last rows or columns so that the side becomes a multiple of `STRIDE`."""
    size = x.shape[axis]
    full = (size + STRIDE - 1) // STRIDE * STRIDE
    line = torch.arange(full, device=x.device)
    return x.index_select(axis, torch.where(line < size, line, 2 * (size - 1) - line))


class Tape:
    """Mean and 1 / standard deviation of everything that is normalised, in the order of execution:
    recorded, or, if `given` (1,N), read back."""

    def __init__(self, given: Tensor | None = None):
        self.given, self.at = given, 0
        self.found: list[Tensor] = []

    def moments(self, x: Tensor, dims: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
        """Of B,C,H,W over `dims`: twice B,C,1,1, or B,1,1,1."""
        if self.given is None:
            var, mean = torch.var_mean(x, dim=dims, correction=0, keepdim=True)
            scale = torch.rsqrt(var + eps)
            self.found += [mean.flatten(1), scale.flatten(1)]
            return mean, scale
        count = 1 if 1 in dims else x.shape[1]
        mean, scale = self.given[:, self.at : self.at + 2 * count].split(count, 1)
        self.at += 2 * count
        return mean[..., None, None], scale[..., None, None]


class TapedNorm(nn.Module):
    """InstanceNorm with the statistics of `tape`."""

    tape: Tape

    def forward(self, x: Tensor) -> Tensor:
        mean, scale = self.tape.moments(x, (2, 3), NORM_EPS)
        return (x - mean) * scale


class TapedNetwork(ImageNetwork):
    """`ImageNetwork` of a generator with InstanceNorm, whose statistics are recorded or given."""

    def __init__(self, generator: Generator):
        super().__init__(copy.deepcopy(generator))
        for module in list(self.generator.modules()):
            for name, norm in list(module.named_children()):
                if isinstance(norm, InstanceNorm):
                    setattr(module, name, TapedNorm())

    def run(self, image: Tensor, tape: Tape) -> Tensor:
        for module in self.generator.modules():
            if isinstance(module, TapedNorm):
                module.tape = tape
        height, width = image.shape[-2:]
        padded = grow(grow(image, 2), 3) * 2 - 1
        mean, scale = tape.moments(padded, (1, 2, 3), STANDARDIZE_EPS)
        out = self.generator.body((padded - mean) * scale)
        return (self.generator.activate(out, padded)[..., :height, :width] + 1) / 2


class StatisticsNetwork(TapedNetwork):
    """1,3,H,W in [0, 1] to what its normalisations measure, 1,N."""

    def forward(self, image: Tensor) -> Tensor:
        tape = Tape()
        self.run(image, tape)
        return torch.cat(tape.found, 1)


class TileNetwork(TapedNetwork):
    """A tile, 1,3,H,W in [0, 1], and the statistics of the whole image, to the restored tile."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, image: Tensor, statistics: Tensor
    ) -> Tensor:
        return self.run(image, Tape(statistics))


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


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(
        prog="python -m devudp_training.onnx_export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoints", nargs="+", metavar="CHECKPOINT",
        help="devudp, devudp-dt or a .safetensors file")  # fmt: skip
    add("--out", type=Path, required=True, metavar="DIR", help="the folder to write to")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.checkpoints:
        source = bundled(name) if name in VARIANTS else Path(name)
        generator, path = load_checkpoint(source).generator, options.out / f"{source.stem}.onnx"
        export_onnx(generator, path)
        print(f"{path}: agrees with PyTorch to {check_onnx(generator, path):.1e}")
        for more in export_tiles(generator, path):
            print(more)


if __name__ == "__main__":
    main()
