"""LPIPS with AlexNet (Zhang et al., 2018), version 0.1: smaller is more alike.

From the `lpips` package, whose torchvision backbone is downloaded on first use; or, without
network and torchvision, from a file with the weights of both (.npz or .safetensors) with the names
conv0.weight, conv0.bias, ... conv4.bias and lin0 ... lin4. Where the package works,

    devudp-train lpips-weights lpips-alex.safetensors

makes that file.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..config import ConfigError

logger = logging.getLogger("devudp")

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
STRIDES, PADDINGS = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
POOLED_BEFORE = (1, 2)
"""A max pooling comes before these of AlexNet's five convolutions."""

EPSILON = 1e-10
"""The shortest length that a pixel's features are divided by."""


class AlexLpips(nn.Module):
    """LPIPS from named weights, which are not trained.

    Raises:
        ConfigError: some are missing.
    """

    def __init__(self, weights: Mapping[str, Tensor]):
        super().__init__()
        names = [f"conv{k}.{part}" for k in range(5) for part in ("weight", "bias")]
        missing = [n for n in [*names, *(f"lin{k}" for k in range(5))] if n not in weights]
        if missing:
            raise ConfigError(f"these are no LPIPS weights: {', '.join(missing[:3])} missing")
        for name, value in weights.items():
            self.register_buffer(name.replace(".", "_"), value.float(), persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the mean distance of images, both B,3,H,W in [-1, 1]; of one image, its LPIPS."""
        total = x.new_zeros(())
        for k, (f, g) in enumerate(zip(self.features(x), self.features(y), strict=True)):
            weight = self.get_buffer(f"lin{k}").view(1, -1, 1, 1)
            difference = F.normalize(f, dim=1, eps=EPSILON) - F.normalize(g, dim=1, eps=EPSILON)
            total = total + (difference.square() * weight).sum(1).mean()
        return total

    @torch.no_grad()
    def of_images(self, a: Tensor, b: Tensor) -> float:
        """Returns the distance of two images, 3,H,W uint8 each."""
        x, y = (image[None].float() / 127.5 - 1 for image in (a, b))
        return self(x, y).item()

    def features(self, x: Tensor) -> list[Tensor]:
        """AlexNet's five activations of B,3,H,W in [-1, 1]."""
        shift, scale = (x.new_tensor(each).view(1, 3, 1, 1) for each in (SHIFT, SCALE))
        x = (x - shift) / scale
        found = []
        for k in range(5):
            if k in POOLED_BEFORE:
                x = F.max_pool2d(x, 3, 2)
            weight, bias = (self.get_buffer(f"conv{k}_{part}") for part in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, STRIDES[k], PADDINGS[k]))
            found.append(x)
        return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """LPIPS weights from .npz (nothing pickled) or .safetensors.

    Raises:
        ConfigError: the file is neither.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        return load_file(path)
    except Exception as error:  # each reader has exceptions of its own
        raise ConfigError(f"{path} cannot be read as LPIPS weights: {error}") from error


def find_lpips(weights: Path | None = None) -> AlexLpips:
    """LPIPS from a file with its weights; None: from the `lpips` package.

    Raises:
        ConfigError: the file holds something else, or the package does not provide any.
    """
    if weights is not None:
        return AlexLpips(read_weights(weights))
    try:
        return AlexLpips(package_weights())
    except Exception as error:  # not installed, torchvision broken, no network, ...
        raise ConfigError(
            f"LPIPS weights are not available here ({type(error).__name__}: {error}). Install "
            "the extra 'eval' with access to the network, or name a file with them: "
            "--lpips-weights; for training, --loss.lpips-weights"
        ) from error


def load_lpips(weights: Path | None = None) -> AlexLpips | None:
    """`find_lpips`, or None (with a warning) where the package does not provide any weights.

    Raises:
        ConfigError: the file holds something else.
    """
    try:
        return find_lpips(weights)
    except ConfigError as error:
        if weights is not None:
            raise
        logger.warning("LPIPS is left out: %s", error)
        return None


def package_weights() -> dict[str, Tensor]:
    """Returns the weights of `lpips` and of torchvision's AlexNet, by the names above."""
    package = importlib.import_module("lpips")  # the package, not this file of the same name
    network = package.LPIPS(net="alex", verbose=False)
    found: dict[str, Tensor] = {}
    for k in range(5):
        part = getattr(network.net, f"slice{k + 1}")
        (conv,) = (module for module in part if isinstance(module, torch.nn.Conv2d))
        assert conv.bias is not None
        found[f"conv{k}.weight"], found[f"conv{k}.bias"] = conv.weight.detach(), conv.bias.detach()
        found[f"lin{k}"] = network.lins[k].model[-1].weight.detach().flatten()
    return found


def main(arguments: Sequence[str]) -> None:
    """``devudp-train lpips-weights``; see the top of this file."""
    parser = argparse.ArgumentParser(
        prog="devudp-train lpips-weights",
        description="Writes the weights of LPIPS, which the package lpips downloads, to a file\n"
        "for --lpips-weights and --loss.lpips-weights on machines without a network connection.",
        epilog="examples:\n  devudp-train lpips-weights lpips-alex.safetensors",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the .safetensors file to write")
    file: Path = parser.parse_args(arguments).file
    try:
        weights = package_weights()
    except Exception as error:  # not installed, torchvision broken, no network, ...
        raise ConfigError(
            f"LPIPS weights are not available here ({type(error).__name__}: {error}). Install "
            "the extra 'eval' with access to the network"
        ) from error
    save_file({k: v.contiguous() for k, v in weights.items()}, file)
    logger.info("%s", file)
