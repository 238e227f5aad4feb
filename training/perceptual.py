"""LPIPS with AlexNet (Zhang et al., 2018), version 0.1: smaller is more alike.

From the `lpips` package, whose torchvision backbone is downloaded on first use; or, without
network and torchvision, from a file with the weights of both (.npz or .safetensors) with the names
conv0.weight, conv0.bias, ... conv4.bias and lin0 ... lin4. Where the package works,

    python -m devudp_training.perceptual lpips-alex.safetensors

makes that file.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from .config import ConfigError

logger = logging.getLogger("devudp")

Lpips = Callable[[Tensor, Tensor], float]
"""From two pictures, 3,H,W uint8 each, to their distance."""

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
STRIDES, PADDINGS = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
POOLED_BEFORE = (1, 2)
"""A max pooling stands before these of AlexNet's five convolutions."""


class AlexLpips:
    """LPIPS from named weights.

    Raises:
        ConfigError: some are missing.
    """

    def __init__(self, weights: Mapping[str, Tensor]):
        names = [f"conv{k}.{part}" for k in range(5) for part in ("weight", "bias")]
        missing = [n for n in [*names, *(f"lin{k}" for k in range(5))] if n not in weights]
        if missing:
            raise ConfigError(f"these are no LPIPS weights: {', '.join(missing[:3])} missing")
        self.weights = {name: value.float() for name, value in weights.items()}

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> float:
        total = 0.0
        for k, (x, y) in enumerate(zip(self.features(a), self.features(b), strict=True)):
            weight = self.weights[f"lin{k}"].view(1, -1, 1, 1)
            total += ((unit(x) - unit(y)).square() * weight).sum(1).mean().item()
        return total

    def features(self, picture: Tensor) -> list[Tensor]:
        """AlexNet's five activations of 3,H,W uint8."""
        x = picture[None].float() / 127.5 - 1
        x = (x - torch.tensor(SHIFT).view(1, 3, 1, 1)) / torch.tensor(SCALE).view(1, 3, 1, 1)
        found = []
        for k in range(5):
            if k in POOLED_BEFORE:
                x = F.max_pool2d(x, 3, 2)
            weight, bias = self.weights[f"conv{k}.weight"], self.weights[f"conv{k}.bias"]
            x = F.relu(F.conv2d(x, weight, bias, STRIDES[k], PADDINGS[k]))
            found.append(x)
        return found


def unit(features: Tensor) -> Tensor:
    """Each pixel's features as a vector of length 1."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


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
    except Exception as error:  # either reader fails in its own ways
        raise ConfigError(f"{path} cannot be read as LPIPS weights: {error}") from error


def load_lpips(weights: Path | None = None) -> Lpips | None:
    """LPIPS, or None (which is said) where its weights cannot be had.

    Args:
        weights: a file, see above; None: the `lpips` package.

    Raises:
        ConfigError: the file holds something else.
    """
    if weights is not None:
        return AlexLpips(read_weights(weights))
    try:
        return AlexLpips(package_weights())
    except Exception as error:  # not installed, torchvision broken, no network, ...
        logger.warning(
            "LPIPS is left out: its weights cannot be had here (%s: %s). Install the extra 'eval' "
            "with access to the network, or name a file with --lpips-weights.",
            type(error).__name__,
            error,
        )
        return None


def package_weights() -> dict[str, Tensor]:
    """The weights of `lpips` and of torchvision's AlexNet, by the names above."""
    import lpips  # pyright: ignore[reportMissingImports]

    network = lpips.LPIPS(net="alex", verbose=False)
    found: dict[str, Tensor] = {}
    for k in range(5):
        part = getattr(network.net, f"slice{k + 1}")
        (conv,) = (module for module in part if isinstance(module, torch.nn.Conv2d))
        assert conv.bias is not None
        found[f"conv{k}.weight"], found[f"conv{k}.bias"] = conv.weight.detach(), conv.bias.detach()
        found[f"lin{k}"] = network.lins[k].model[-1].weight.detach().flatten()
    return found


if __name__ == "__main__":
    save_file({k: v.contiguous() for k, v in package_weights().items()}, sys.argv[1])
