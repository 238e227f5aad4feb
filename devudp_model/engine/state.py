"""The side of a network that the executions see: types only, so that these import no `Network`."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from .layers import Layers
from .statistics import Frozen


class NetworkState(Protocol):
    """A network that is ready to run; see `Network`.

    Attributes:
        dtype: of the features between convolutions, and of these unless `in_int8`.
        in_int8: whether the convolutions but the first and the last are computed in 8 bits.
        stride, min_side, standardized, has_droplets: see `network.topology.Architecture`.
        frozen, frozen_ranges, frozen_image: for each layer, and for the image, the moments to
            normalise with and the ranges of inputs, where they are frozen already.
        nbytes: of all its tensors.
        local: True once its statistics are frozen.
        warned: True once it was said that the memory limit cannot be kept.
    """

    dtype: torch.dtype
    in_int8: bool
    layers: Layers
    stride: int
    min_side: int
    standardized: bool
    has_droplets: bool
    frozen: nn.ModuleList
    frozen_ranges: nn.ModuleList
    frozen_image: Frozen
    local: bool
    warned: bool

    @property
    def device(self) -> torch.device: ...

    def activate(self, out: Tensor, x: Tensor) -> Tensor: ...

    @property
    def nbytes(self) -> int: ...
