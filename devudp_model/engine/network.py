"""Runs a network on whole images: fast, in bounded memory, with whole-image statistics.

Each convolution works through the image in strips of a few rows. While a strip is in the
processor's cache, its features are normalised, added and convolved, and the statistics of the
output are accumulated; only then the output is written to its buffer. At the end of a layer the
mean and variance of its normalisation are known exactly for the whole image, and the next layer
applies them to what it reads. So a normalisation needs no pass of its own over the memory, few
buffers are alive at once, and they can lie anywhere, also in a file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from ..bands.rows import AnyImage
from ..bands.workers import working
from ..network.topology import Architecture, SomeNetwork
from .int8 import can_quantize
from .int8_product import has_int8
from .layers import layers_of
from .precision import Attempt, attempts_in_fp32_too
from .state import NetworkState
from .statistics import Frozen, Moments, Range
from .strips import StripExecution
from .whole import WholeExecution, fits_whole

log = logging.getLogger("devudp")

_told: WeakSet[Architecture] = WeakSet()


def say_fp32(generator: Architecture) -> None:
    """Says that a generator is computed in fp32 and not in 8 bits; once."""
    if generator not in _told:
        _told.add(generator)
        log.info("int8 is not available for this network or processor: computing in fp32.")


class Network(NetworkState[SomeNetwork]):
    """A generator (or another `Architecture`), ready to run on images.

    Where 16 bits overflow, it goes on in fp32. Where 8 bits cannot be had, it is in fp32 at once.

    Args:
        generator: is not changed; runs on the device it is on. Its packed weights are kept for
            the next network (see `layers_of`).
        dtype: of the convolutions and of the features between them; statistics are float32. With
            int8 the features are float32, too (see int8.py).

    Raises:
        ValueError, TypeError: it has operations or modules that cannot be run.
    """

    def __init__(self, generator: SomeNetwork, dtype: torch.dtype):
        super().__init__(generator, dtype)
        if self.in_int8 and not (can_quantize(self.layers) and has_int8()):
            self.in_int8 = False
            say_fp32(generator)
        self.unchecked: list[Tensor] = []

    def switch_to_fp32(self) -> None:
        """From now on in fp32. Statistics that are frozen stay those of the old dtype."""
        self.dtype, self.in_int8 = torch.float32, False
        self.layers = layers_of(self.generator, torch.float32)

    def for_smaller_images(self, scale: int) -> Network[SomeNetwork]:
        """Returns what computes an image smaller by a factor: itself, or one in fp32.

        What it changes is enlarged with its errors: those of bf16 at half the size cannot be seen,
        in smaller images they can; those of int8 are too large.
        """
        half = self.dtype == torch.bfloat16 and scale > 2
        return self.with_dtype(torch.float32) if self.in_int8 or half else self

    def with_dtype(self, dtype: torch.dtype) -> Network[SomeNetwork]:
        """Returns a network of the same generator."""
        return self.beside(self.generator, dtype)

    def beside(self, generator: SomeNetwork, dtype: torch.dtype) -> Network[SomeNetwork]:
        """Returns a network of another generator, which keeps its outputs where this one does."""
        return Network(generator, dtype)

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
        """Restores frames with statistics that all of them share.

        Args:
            image: B,C,H,W in [0, 1], C = 1 or 3 (or 4: the last is ignored), any type of image (see
                dtypes.py), device and size; or one in a temporary file.
            memory: bytes of the device that the run may take; None for no limit.
            freeze: keep the statistics: from now on the network is a local one.
            check: whether this run ends in a `checked` of its own; else the caller has one around
                this run and others. On a GPU looking takes as long as all that it has to do.
            out: where to put the result, instead of a new tensor.
            weights: B,1,H,W in [0, 1], any type of image: how much each pixel counts in the
                statistics; None: all alike.

        Returns:
            B,3,H,W in [0, 1], float32: `out`, or else a tensor on the network's device.

        Raises:
            FloatingPointError: the network produced NaN or Inf, in fp32 or in a local network
                (whose statistics have to be measured again in fp32).
        """
        if out is None:
            shape = (image.shape[0], 3, *image.shape[2:])
            out = torch.empty(shape, dtype=torch.float32, device=self.device)
        freeze = freeze and not self.local
        again = freeze or (check and not self.local)
        to_freeze: list[tuple[Frozen, Moments | Range]] = []
        for attempt in self.checked() if again else (nullcontext(),):
            with attempt:
                if fits_whole(self, image, memory):
                    execution = WholeExecution(self, image, freeze, weights)
                else:
                    execution = StripExecution(self, image, memory, freeze, weights)
                with working(self.device):
                    execution.run(out)
                self.unchecked += execution.seen
                to_freeze = execution.to_freeze
        for own, found in to_freeze:
            own.freeze(found)
        self.local |= freeze
        if check and not again:
            self.check()
        return out

    def checked(self, switch_to_fp32: Callable[[], None] | None = None) -> Iterator[Attempt]:
        """Gives an attempt to run the network, once or more often, without a check; and another
        one in fp32, where 16 bits overflow.

        Args:
            switch_to_fp32: what to do before the second attempt, instead of the network's own.

        Raises:
            FloatingPointError: the numbers are not finite in fp32 either.
        """
        switch = switch_to_fp32 or self.switch_to_fp32
        return attempts_in_fp32_too(self.check, self.own_dtype, switch)

    @property
    def own_dtype(self) -> torch.dtype:
        """Its `dtype`, or int8: what makes another one like it."""
        return torch.int8 if self.in_int8 else self.dtype

    def check(self) -> None:
        """Raises FloatingPointError unless all numbers since the last check were finite."""
        if self.unchecked:
            self.fetch(torch.empty(0, device=self.device))

    def fetch(self, x: Tensor) -> Tensor:
        """Returns `x` in main memory, after a `check`; the device is waited for but once."""
        seen, self.unchecked = self.unchecked, []
        if not seen:
            return x.cpu()
        parts = [part for part in (x.flatten(), *seen) if part.numel()]
        joined = torch.cat(parts) if len(parts) > 1 else parts[0]
        fetched, numbers = joined.cpu().tensor_split([x.numel()])
        if not numbers.isfinite().all():
            raise FloatingPointError(
                f"The network produced NaN or Inf in {self.dtype}. In float32 this "
                "means that the checkpoint is broken: use another one."
            )
        return fetched.view(x.shape)
