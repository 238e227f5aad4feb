"""One run of a network on whole features, where there is memory for them: on a GPU.

A GPU is fast with large operations and has to be told each of them, so few are best. What they do
is what `StripExecution` does strip by strip, up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bands.rows import AnyImage
from ..network.generator import NORM_EPS
from ..system.memory import first_limit, free_bytes
from .droplets import excess, heal
from .hooks import current
from .layers import Layer
from .padded_image import STEM_REACH, PaddedImage, stem_input
from .statistics import KeptMoments, Moments, wide

if TYPE_CHECKING:
    from .network import Network

FEATURES = 5
"""Full-size features that are alive at a time, at most, with what kernels take for themselves."""


def fits_whole(network: Network, image: AnyImage, memory: int | None) -> bool:
    """Whether whole features of B,C,H,W fit into a limit in bytes, or, without one, into the free
    memory. Never on the CPU, whose caches want strips."""
    if network.device.type == "cpu":
        return False
    if memory is None:
        memory = first_limit(free_bytes(network.device))
    features = FEATURES * network.width * network.dtype.itemsize
    weights = sum(buffer.nbytes for buffer in network.buffers())
    pixels = image.shape.numel() // image.shape[1]
    return pixels * (features + 32) + weights <= memory


class WholeExecution:
    """See the module. Arguments: as of `Network.forward`."""

    def __init__(self, network: Network, image: AnyImage, keep: bool):
        self.network, self.keep = network, keep
        self.image = PaddedImage(image, network.device)
        self.seen: list[Tensor] = []
        self.to_keep: list[tuple[KeptMoments, Moments]] = []
        self.advance = current().advance
        sizes = [layer.work / network.layers.scale_of(layer) ** 2 for layer in network.layers]
        self.pixels_per_work = image.shape.numel() // image.shape[1] / sum(sizes)

    def run(self, out: AnyImage) -> None:
        """The whole network, into `out` (B,3,H,W, float32)."""
        assert isinstance(out, Tensor)  # where features have room, the image has
        layers, size = self.network.layers, self.image.size
        around = self.image.read_all()
        image = around[..., STEM_REACH : STEM_REACH + size[0], STEM_REACH : STEM_REACH + size[1]]
        fine = self.stage(layers.encode1, self.layer(layers.stem, self.stem_input(image, around)))
        middle = self.stage(layers.encode2, self.layer(layers.down1, fine))
        coarse = self.stage(layers.encode3, self.layer(layers.down2, middle))
        coarse = self.stage(layers.decode3, coarse)
        middle = self.stage(layers.decode2, self.layer(layers.up2, coarse).add_(middle))
        fine = self.stage(layers.decode1, self.layer(layers.up1, middle).add_(fine))
        head = layers.head.whole(fine).float()
        inside = (..., slice(out.shape[2]), slice(out.shape[3]))
        torch.add(self.network.activate(head, image)[inside] * 0.5, 0.5, out=out)
        if self.network.has_droplets:
            out.copy_(heal(out, (image[inside] + 1) / 2, excess(head[inside])))
        self.seen.append(torch.stack(torch.aminmax(out)))
        for place, found in self.to_keep:
            place.keep(found)

    def stage(self, stage: nn.ModuleList, x: Tensor) -> Tensor:
        """Residual blocks."""
        for conv1, conv2 in stage:  # pyright: ignore[reportGeneralTypeIssues]
            x = self.layer(conv2, self.layer(conv1, x), relu=False).add_(x)
        return x

    def layer(self, layer: Layer, x: Tensor, *, relu: bool = True) -> Tensor:
        """Convolution, normalisation and ReLU."""
        y = self.normalized(layer, layer.whole(x))
        if self.advance is not None:
            scale = self.network.layers.scale_of(layer)
            self.advance(layer.work / scale**2 * self.pixels_per_work)
        return y.relu_() if relu else y

    def normalized(self, layer: Layer, x: Tensor) -> Tensor:
        """With the statistics of all frames, or those that are kept."""
        if not layer.normalized:
            return x
        place = self.network.kept[layer.index]
        assert isinstance(place, KeptMoments)
        kept = place.moments
        if kept is not None:
            return F.batch_norm(x, kept.mean, kept.var, training=False, eps=NORM_EPS)
        y, mean, rstd = torch.native_batch_norm(x, None, None, None, None, True, 0.0, NORM_EPS)
        self.seen.append(rstd)
        if self.keep:
            var = (rstd.square().reciprocal() - NORM_EPS).clamp(min=0)
            self.to_keep.append((place, Moments(x.numel() // x.shape[1], mean, var)))
        return y

    def stem_input(self, image: Tensor, around: Tensor) -> Tensor:
        """What the stem reads (see `generator.standardize`); `around` is the padded image."""
        network = self.network
        found = network.kept_image.moments
        if network.standardized and found is None:
            exact = wide(image)
            var, mean = torch.var_mean(exact, correction=0)
            found = Moments(exact.numel(), mean.to(image), var.to(image))
            if self.keep:
                self.to_keep.append((network.kept_image, found))
        return stem_input(around, found, network.dtype)
