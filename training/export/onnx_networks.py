"""Wraps what is exported: the generator on whole images, and in two parts for tiles.

For a network that normalises over the whole image, `StatisticsNetwork` measures an image and
`TileNetwork` restores a tile with what was measured.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from devudp_model.network.generator import (
    NORM_EPS,
    STANDARDIZE_EPS,
    STRIDE,
    Generator,
    InstanceNorm,
)
from devudp_model.network.instance_norm import normalize


class ImageNetwork(nn.Module):
    """G in the range of image files: B,3,H,W in [0, 1] to the same; H and W at least `MIN_SIDE`.

    The padding to multiples of `STRIDE` is the generator's, written in a way that works for sizes
    that are only known when the file is used.
    """

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        padded = grow(grow(image, 2), 3)
        return (self.generator(padded * 2 - 1)[..., :height, :width] + 1) / 2


def grow(x: Tensor, axis: int) -> Tensor:
    """Reflects the last rows or columns so that the side becomes a multiple of `STRIDE`.

    By slices that are joined, not by a selection of lines: of more than 2^24 values, an image of
    5.6 megapixels, OpenVINO selects wrong ones.
    """
    size = x.shape[axis]
    full = (size + STRIDE - 1) // STRIDE * STRIDE
    mirrored = [x.narrow(axis, size - 2 - k, 1) for k in range(STRIDE - 1)]
    return torch.cat([x, *mirrored], axis).narrow(axis, 0, full)


class Tape:
    """Mean and 1 / standard deviation of everything that is normalised, in the order of execution:
    recorded, or, if `given` (1,N), read back."""

    def __init__(self, given: Tensor | None = None):
        self.given, self.at = given, 0
        self.found: list[Tensor] = []

    def moments(self, x: Tensor, dims: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
        """Measures B,C,H,W over `dims`: twice B,C,1,1, or B,1,1,1."""
        if self.given is None:
            _, mean, scale = normalize(x, dims, eps)
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
