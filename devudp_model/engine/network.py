"""Runs a network on whole images: fast, in bounded memory, with whole-image statistics.

Each convolution works through the image in strips of a few rows. While a strip is in the
processor's cache, its features are normalised, added and convolved, and the statistics of the
output are accumulated; only then the output is written to its buffer. At the end of a layer the
mean and variance of its normalisation are known exactly for the whole image, and the next layer
applies them to what it reads. So a normalisation needs no pass of its own over the memory, few
buffers are alive at once, and they can lie anywhere, also in a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..bands.rows import AnyImage
from ..bands.workers import working
from ..network.topology import SomeNetwork
from .layers import layers_of
from .precision import retry_in_fp32
from .statistics import FrozenMoments, Moments
from .strips import StripExecution
from .whole import WholeExecution, fits_whole

Result = TypeVar("Result")


class Network(nn.Module, Generic[SomeNetwork]):
    """A generator (or another `Architecture`), ready to run on images.

    Where 16 bits overflow, it goes on in fp32.

    Args:
        generator: is not changed; runs on the device it is on. Its packed weights are kept for
            the next network (see `layers_of`).
        dtype: of the convolutions and of the features between them; statistics are float32.

    Attributes:
        local: True once its statistics are frozen, so that only nearby pixels count.
        has_droplets: True if they are to be looked for and healed (see droplets.py).

    Raises:
        ValueError, TypeError: it has operations or modules that cannot be run.
    """

    def __init__(self, generator: SomeNetwork, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        self.stride, self.min_side = generator.stride, generator.min_side
        self.standardized = generator.standardized
        self.has_droplets = generator.has_droplets
        self.activate = generator.activate
        self.source = (generator,)  # not a submodule: the host would count its weights twice
        self.layers = layers_of(generator, dtype)
        self.frozen = nn.ModuleList(FrozenMoments() for _ in self.layers)
        self.frozen_image = FrozenMoments()
        self.local = False
        self.unchecked: list[Tensor] = []
        self.warned = False  # of a memory limit that cannot be kept

    @property
    def generator(self) -> SomeNetwork:
        """The network with the weights."""
        return self.source[0]

    @property
    def device(self) -> torch.device:
        """The device that it runs on."""
        return self.layers.stem.weight.device

    @property
    def nbytes(self) -> int:
        """Size of all its tensors."""
        return sum(buffer.nbytes for buffer in self.buffers())

    def switch_to_fp32(self) -> None:
        """From now on in fp32. Statistics that are frozen stay those of the old dtype."""
        self.dtype = torch.float32
        self.layers = layers_of(self.generator, torch.float32)

    def for_smaller_images(self) -> Network[SomeNetwork]:
        """Itself; of one in bf16 one in fp32: the errors would be enlarged with what it changes."""
        return self if self.dtype != torch.bfloat16 else self.with_dtype(torch.float32)

    def with_dtype(self, dtype: torch.dtype) -> Network[SomeNetwork]:
        """A network of the same generator."""
        return Network(self.generator, dtype)

    @torch.inference_mode()
    def forward(
        self,
        image: AnyImage,
        *,
        memory: int | None = None,
        freeze: bool = False,
        check: bool = True,
        out: AnyImage | None = None,
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

        Returns:
            B,3,H,W in [0, 1], float32: `out`, or else a tensor on the network's device.

        Raises:
            FloatingPointError: numbers became infinite or undefined, in fp32 or in a local network
                (whose statistics have to be measured again in fp32).
        """
        if out is None:
            shape = (image.shape[0], 3, *image.shape[2:])
            out = torch.empty(shape, dtype=torch.float32, device=self.device)
        if self.local:
            self.run(image, out, memory)
            if check:
                self.check()
        elif freeze:
            for own, found in self.checked(lambda: self.run(image, out, memory, freeze=True)):
                own.freeze(found)
            self.local = True
        elif check:
            self.checked(lambda: self.run(image, out, memory))
        else:
            self.run(image, out, memory)
        return out

    def run(
        self, image: AnyImage, out: AnyImage, memory: int | None, *, freeze: bool = False
    ) -> list[tuple[FrozenMoments, Moments]]:
        """One run without a check. Returns what `freeze` is to freeze, and where."""
        if fits_whole(self, image, memory):
            execution = WholeExecution(self, image, freeze)
        else:
            execution = StripExecution(self, image, memory, freeze)
        with working(self.device):
            execution.run(out)
        self.unchecked += execution.seen
        return execution.to_freeze

    def checked(
        self, run: Callable[[], Result], switch_to_fp32: Callable[[], None] | None = None
    ) -> Result:
        """Returns what `run` returns; where 16 bits overflow, of a second run in fp32.

        Args:
            run: runs the network, once or more often, without a check.
            switch_to_fp32: what to do before the second run, instead of the network's own.

        Raises:
            FloatingPointError: the numbers are not finite in fp32 either.
        """

        def run_and_check() -> Result:
            result = run()
            self.check()
            return result

        return retry_in_fp32(run_and_check, self.dtype, switch_to_fp32 or self.switch_to_fp32)

    def check(self) -> None:
        """Raises FloatingPointError unless all numbers since the last check were finite."""
        if self.unchecked:
            self.fetch(torch.empty(0, device=self.device))

    def fetch(self, x: Tensor) -> Tensor:
        """Returns `x` in main memory, after a `check`; the device is waited for but once."""
        seen, self.unchecked = self.unchecked, []
        if not seen:
            return x.cpu()
        finite = torch.cat(seen).isfinite().all().to(x.dtype)
        fetched = torch.cat([x.flatten(), finite[None]]).cpu()
        if not fetched[-1]:
            raise FloatingPointError(
                f"Numbers became infinite or undefined in {self.dtype}. In float32 this "
                "means that the checkpoint is broken: use another one."
            )
        return fetched[:-1].view(x.shape)
