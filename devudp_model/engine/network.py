"""Runs a generator on whole images: fast, in bounded memory, with whole-image statistics.

Each convolution works through the image in strips of a few rows. While a strip is in the
processor's cache, its features are normalised, added and convolved, and the statistics of the
output are accumulated; only then the output is written to its buffer. At the end of a layer the
mean and variance of its normalisation are known exactly for the whole image, and the next layer
applies them to what it reads. So a normalisation needs no pass of its own over the memory, few
buffers are alive at once, and they can lie anywhere, also in a file.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..bands.rows import AnyImage, FileImage
from ..bands.workers import working
from ..network.generator import Generator
from .hooks import content_of, current
from .layers import layers_of
from .precision import retry_in_fp32
from .statistics import KeptMoments
from .strips import StripExecution
from .whole import WholeExecution, fits_whole


class Network(nn.Module):
    """A generator, ready to run on images.

    Where 16 bits overflow, it goes on in fp32.

    Args:
        generator: is not changed; runs on the device it is on. Its packed weights are kept for the
            next network (see `layers_of`).
        dtype: of the convolutions and of the features between them; statistics are float32.

    Attributes:
        local: whether its statistics are kept, so that only nearby pixels count.
        has_droplets: whether they are to be looked for and healed (see droplets.py).
    """

    def __init__(self, generator: Generator, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        self.standardized = generator.norm == "instance"
        self.shortcut = generator.shortcut
        self.has_droplets = self.standardized and not self.shortcut
        self.width, self.depth = generator.width, generator.depth
        self.activate = generator.activate
        self.source = (generator,)  # not as a submodule: the host would count its weights twice
        self.layers = layers_of(generator, dtype)
        self.kept = nn.ModuleList(KeptMoments() for _ in self.layers)
        self.kept_image = KeptMoments()
        self.local = False
        self.unchecked: list[Tensor] = []
        self.warned = False  # of a memory limit that cannot be kept

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.layers.stem.weight.device

    def switch_to_fp32(self) -> None:
        """From now on in fp32. Statistics that are kept stay those of the old dtype."""
        self.dtype = torch.float32
        self.layers = layers_of(self.source[0], torch.float32)

    def for_smaller_images(self) -> Network:
        """Itself; of one in bf16 one in fp32: the errors would be enlarged with what it changes."""
        exact = self.dtype != torch.bfloat16
        return self if exact else Network(self.source[0], torch.float32)

    @torch.inference_mode()
    def forward(
        self,
        image: AnyImage,
        *,
        memory: int | None = None,
        keep: bool = False,
        check: bool = True,
        out: AnyImage | None = None,
    ) -> Any:
        """Restores frames with statistics that all of them share.

        Args:
            image: B,C,H,W in [0, 1], C = 1 or 3 (or 4: the last is ignored), any type of image (see
                dtypes.py), device and size; or one in a temporary file.
            memory: bytes of the device that the run may take; None for no limit.
            keep: keep the statistics: from now on the network is a local one.
            check: whether to look now that all numbers are finite; else `check` has to be called
                after this run and others. On a GPU looking takes as long as all that it has to do.
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

        def run() -> AnyImage:
            if fits_whole(self, image, memory):
                execution = WholeExecution(self, image, keep)
            else:
                execution = StripExecution(self, image, memory, keep)
            with working(self.device):
                execution.run(out)
            self.unchecked += execution.seen
            if check or watch.kept:
                self.check()
            return out

        watch = current()
        if self.local or keep:
            result = run() if self.local else retry_in_fp32(run, self.dtype, self.switch_to_fp32)
            self.local = True
            return result
        # What lies in a file is too large to be kept.
        kept = None if isinstance(image, FileImage) or isinstance(out, FileImage) else watch.kept
        if kept is None:
            return retry_in_fp32(run, self.dtype, self.switch_to_fp32)
        assert isinstance(image, Tensor) and isinstance(out, Tensor)
        key = (self.source[0], self.dtype, content_of(image))
        known = kept.get(key)
        if known is not None:
            if watch.advance is not None:
                watch.advance(image[:, 0].numel())
            return out.copy_(known)
        retry_in_fp32(run, self.dtype, self.switch_to_fp32)
        kept.put(key, out)
        return out

    def check(self) -> None:
        """Raises FloatingPointError unless all numbers since the last check were finite."""
        if self.unchecked:
            self.fetch(torch.empty(0, device=self.device))

    def fetch(self, x: Tensor) -> Tensor:
        """`x` in main memory, and a `check`, for which the device is waited for but once."""
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
