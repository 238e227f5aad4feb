"""Runs a generator on whole pictures, with statistics of each, shared, or frozen.

The perceptual model's normalisations take mean and spread from the whole picture. A `Network` is
the generator with those statistics in hand: they can be shared by a batch, or kept.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .generator import (
    NORM_EPS,
    STANDARDIZE_EPS,
    Generator,
    InstanceNorm,
    pad_to_stride,
)


class Moments(NamedTuple):
    """Mean and 1 / spread, float32, broadcastable to B,C,H,W."""

    mean: Tensor
    rstd: Tensor

    def normalize(self, x: Tensor) -> Tensor:
        """To mean 0 and spread 1, computed in float32."""
        return ((x.float() - self.mean) * self.rstd).to(x.dtype)


def moments(x: Tensor, dims: tuple[int, ...], eps: float) -> Moments:
    """Of `x` over `dims`, in float32."""
    var, mean = torch.var_mean(x.float(), dim=dims, correction=0, keepdim=True)
    return Moments(mean, torch.rsqrt(var + eps))


class Statistics(nn.Module):
    """Stands in for an InstanceNorm: statistics of each image, shared by a batch, or frozen."""

    def __init__(self, *, shared: bool):
        super().__init__()
        self.dims = (0, 2, 3) if shared else (2, 3)
        self.keep = False
        self.kept: Moments | None = None

    def forward(self, x: Tensor) -> Tensor:
        found = self.kept or moments(x, self.dims, NORM_EPS)
        if self.keep:
            self.kept = found
        return found.normalize(x)


class Network(nn.Module):
    """A generator to run in a certain precision, with a certain kind of statistics.

    Args:
        generator: is not changed.
        dtype: of the convolutions and of the activations between them.
        shared: one set of statistics for all images of a batch.
    """

    def __init__(self, generator: Generator, dtype: torch.dtype, *, shared: bool = False):
        super().__init__()
        self.dtype, self.shared = dtype, shared
        self.keep = False
        self.kept: Moments | None = None
        net = copy.deepcopy(generator).eval().requires_grad_(False)
        for module in list(net.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, InstanceNorm):
                    setattr(module, name, Statistics(shared=shared))
        self.net = net.to(dtype).to(memory_format=torch.channels_last)  # pyright: ignore

    def freeze_(self, x: Tensor) -> Tensor:
        """Runs `x` and keeps its statistics: from then on the network is a local one."""
        layers = [self, *(m for m in self.modules() if isinstance(m, Statistics))]
        for layer in layers:
            layer.keep = True
        return self(x)

    def forward(self, x: Tensor) -> Tensor:
        """B,3,H,W in [-1, 1], float32, any size, to the same."""
        height, width = x.shape[-2:]
        x = pad_to_stride(x)
        features = x
        if self.net.norm == "instance":
            dims = (0, 1, 2, 3) if self.shared else (1, 2, 3)
            found = self.kept or moments(x, dims, STANDARDIZE_EPS)
            if self.keep:
                self.kept = found
            features = found.normalize(x)
        features = features.to(self.dtype, memory_format=torch.channels_last)
        out = self.net.body(features).float()
        return self.net.activate(out, x)[..., :height, :width]
