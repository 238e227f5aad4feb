"""Outputs of a network, to be used again for the same input: a network around the network.

cache = OutputCache(2**28)
restore(image, cache.network(generator, torch.float32), Options(strength=0.5))
restore(image, cache.network(generator, torch.float32))     # the network does not run again
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from ..bands.rows import AnyImage
from ..network.topology import SomeNetwork
from .hooks import current_hooks
from .network import Network


class OutputCache:
    """Outputs of networks by what they were made of.

    Args:
        limit: bytes of all outputs together. What does not fit any more is not kept: of a batch
            that is too long, always the same images are.

    Attributes:
        hits: how often an output was used again.
    """

    def __init__(self, limit: int):
        self.limit, self.hits = limit, 0
        self.outputs: dict[Hashable, Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Returns the size of all outputs."""
        return sum(output.nbytes for output in self.outputs.values())

    def get(self, key: Hashable) -> Tensor | None:
        """Returns an output; None if there is none."""
        found = self.outputs.get(key)
        self.hits += found is not None
        return found

    def put(self, key: Hashable, output: Tensor) -> None:
        """Keeps a copy in main memory, if it fits."""
        if self.nbytes + output.nbytes <= self.limit:
            self.outputs[key] = output.to("cpu", copy=True)

    def network(self, generator: SomeNetwork, dtype: torch.dtype) -> CachedNetwork[SomeNetwork]:
        """Returns a network that uses and fills this cache. Arguments: as of `Network`."""
        return CachedNetwork(generator, dtype, self)


class CachedNetwork(Network[SomeNetwork]):
    """A network that does not run for inputs that it, or another one of the cache, has had.

    Args:
        cache: see `OutputCache.network`.
    """

    def __init__(self, generator: SomeNetwork, dtype: torch.dtype, cache: OutputCache):
        super().__init__(generator, dtype)
        # Where the dtype overflows, what is kept was made in fp32, and would be again.
        self.cache, self.first_dtype = cache, dtype

    def beside(self, generator: SomeNetwork, dtype: torch.dtype) -> Network[SomeNetwork]:
        return self.cache.network(generator, dtype)

    @torch.inference_mode()
    def forward(
        self,
        image: AnyImage,
        *,
        memory: int | None = None,
        freeze: bool = False,
        check: bool = True,
        out: AnyImage | None = None,
        weights: Tensor | None = None,
    ) -> Any:
        """As of `Network`. Always checks, where the output is kept."""
        # What lies in a file is too large to be kept; and weights are no part of the key.
        in_memory = isinstance(image, Tensor) and (out is None or isinstance(out, Tensor))
        if self.local or freeze or not in_memory or weights is not None:
            return super().forward(
                image, memory=memory, freeze=freeze, check=check, out=out, weights=weights
            )
        assert isinstance(image, Tensor)
        key = self.generator, self.first_dtype, content_of(image)
        known = self.cache.get(key)
        if known is None:
            made = super().forward(image, memory=memory, out=out)
            self.cache.put(key, made)
            return made
        advance = current_hooks().advance
        if advance is not None:
            advance(image[:, 0].numel())
        return known.to(self.device, copy=True) if out is None else out.copy_(known)  # pyright: ignore


def content_of(image: Tensor) -> bytes:
    """Returns a hash of B,C,H,W: its values, size and type."""
    rows = image.detach().movedim(1, -1).cpu().contiguous()  # no copy of what ComfyUI gives
    digest = hashlib.blake2b(f"{rows.dtype} {tuple(rows.shape)}".encode(), digest_size=16)
    digest.update(memoryview(rows.reshape(-1).view(torch.uint8).numpy()))  # pyright: ignore[reportArgumentType]
    return digest.digest()
