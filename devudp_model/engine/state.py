"""The side of a network that the executions see; they import no `Network`, which runs them."""

from __future__ import annotations

from typing import Generic

import torch
from torch import nn

from ..network.topology import SomeNetwork
from .layers import layers_of
from .statistics import Frozen


class NetworkState(nn.Module, Generic[SomeNetwork]):
    """A network that is ready to run; arguments as of `Network`.

    Attributes:
        dtype: of the features between convolutions, and of these unless `in_int8`.
        in_int8: whether the convolutions but the first and the last are computed in 8 bits.
        stride, min_side, standardized, has_droplets: see `network.topology.Architecture`.
        frozen, frozen_ranges, frozen_image: for each layer, and for the image, the moments to
            normalise with and the ranges of inputs, where they are frozen already.
        local: True once its statistics are frozen, so that only nearby pixels count.
        warned: True once it was said that the memory limit cannot be kept.
    """

    def __init__(self, generator: SomeNetwork, dtype: torch.dtype):
        super().__init__()
        self.in_int8 = dtype == torch.int8
        self.dtype = torch.float32 if self.in_int8 else dtype
        self.stride, self.min_side = generator.stride, generator.min_side
        self.standardized = generator.standardized
        self.has_droplets = generator.has_droplets
        self.activate = generator.activate
        self.source = (generator,)  # not a submodule: the host would count its weights twice
        self.layers = layers_of(generator, self.dtype)
        self.frozen = nn.ModuleList(Frozen() for _ in self.layers)
        self.frozen_ranges = nn.ModuleList(Frozen() for _ in self.layers)
        self.frozen_image = Frozen()
        self.local = self.warned = False

    @property
    def generator(self) -> SomeNetwork:
        """Returns the network with the weights."""
        return self.source[0]

    @property
    def device(self) -> torch.device:
        """Returns the device that it runs on."""
        return self.layers.stem.weight.device

    @property
    def nbytes(self) -> int:
        """Returns the size of all its tensors."""
        packed = 0 if self.in_int8 else self.layers.packed_bytes
        return packed + sum(buffer.nbytes for buffer in self.buffers())
