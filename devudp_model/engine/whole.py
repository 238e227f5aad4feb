"""One run of a network on whole features, where there is memory for them: on a GPU.

A GPU is fast with large operations and has to be told each of them, so few are best. What they do
is what `StripExecution` does strip by strip, up to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bands.rows import AnyImage
from ..network.instance_norm import NORM_EPS
from ..ops.arithmetic import linear, linear_into
from ..system.memory import first_limit, free_bytes
from .droplets import excess, heal
from .hooks import current_hooks
from .layers import Layer
from .padded_image import PaddedImage, Weights, stem_input
from .state import NetworkState
from .statistics import Frozen, Moments, Range, strip_moments, to_float64, weighted_moments

FEATURES = 5
"""Full-size features that are alive at a time, at most, with what kernels take for themselves."""


def fits_whole(network: NetworkState, image: AnyImage, memory: int | None) -> bool:
    """True if whole features of B,C,H,W fit into a limit in bytes, or, without one, into the free
    memory. Never on the CPU, whose caches want strips."""
    if network.device.type == "cpu":
        return False
    if memory is None:
        memory = first_limit(free_bytes(network.device))
    features = FEATURES * network.layers.width * network.dtype.itemsize
    weights = network.nbytes
    pixels = image.shape.numel() // image.shape[1]
    return pixels * (features + 32) + weights <= memory


class WholeExecution:
    """See the module. Arguments: as of `Network.forward`."""

    def __init__(
        self, network: NetworkState, image: AnyImage, freeze: bool, weights: Tensor | None = None
    ):
        self.network, self.freeze = network, freeze
        self.image = PaddedImage(network, image)
        self.weights = None if weights is None else Weights(network, weights)
        self.seen: list[Tensor] = []
        self.to_freeze: list[tuple[Frozen, Moments | Range]] = []
        self.advance = current_hooks().advance
        sizes = [layer.work / layer.scale**2 for layer in network.layers]
        self.pixels_per_work = image.shape.numel() // image.shape[1] / sum(sizes)

    def run(self, out: AnyImage) -> None:
        """Runs the whole network, into `out` (B,3,H,W, float32)."""
        assert isinstance(out, Tensor)  # where features have room, the image has
        image = self.image.read_all()
        head = self.features(self.stem_input(image)).float()
        activated = self.network.activate(head, image)
        if head.shape[2:] != out.shape[2:]:  # without its padding
            inside = (..., slice(out.shape[2]), slice(out.shape[3]))
            head, image, activated = head[inside], image[inside], activated[inside]
        if self.network.has_droplets:
            given, made = linear(image, 0.5, 0.5), linear(activated, 0.5, 0.5)
            heal(made, given, excess(head), out=out)
        else:
            linear_into(activated, 0.5, 0.5, out)
        self.seen.append(out.amax((0, 2, 3)))  # in [0, 1], or NaN

    def features(self, x: Tensor) -> Tensor:
        """Runs the network's operations: from what the stem reads to what the head gives."""
        skips: list[Tensor] = []
        for layer in self.network.layers:
            if layer.operation.keep:
                skips.append(x)
            x = self.layer(layer, x)
            if layer.operation.add:
                x = x.add_(skips.pop())
        return x

    def layer(self, layer: Layer, x: Tensor) -> Tensor:
        """Convolves, normalises and rectifies."""
        y = self.normalized(layer, layer.whole(x))
        if self.advance is not None:
            self.advance(layer.work / layer.scale**2 * self.pixels_per_work)
        return y.relu_() if layer.operation.relu else y

    def normalized(self, layer: Layer, x: Tensor) -> Tensor:
        """Normalises with the statistics of all frames, or those that are frozen."""
        if not layer.normalized:
            return x
        own = self.network.frozen[layer.index]
        assert isinstance(own, Frozen)
        frozen = own.moments
        if frozen is not None:
            return F.batch_norm(x, frozen.mean, frozen.var, training=False, eps=NORM_EPS)
        if self.weights is not None:
            found = strip_moments(x, self.weights.read_all(layer.scale))
            self.seen.append(found.var)
            if self.freeze:
                self.to_freeze.append((own, found))
            return F.batch_norm(x, found.mean, found.var, training=False, eps=NORM_EPS)
        y, mean, rstd = torch.native_batch_norm(x, None, None, None, None, True, 0.0, NORM_EPS)
        self.seen.append(rstd)
        if self.freeze:
            var = (rstd.square().reciprocal() - NORM_EPS).clamp(min=0)
            self.to_freeze.append((own, Moments(x.numel() // x.shape[1], mean, var)))
        return y

    def stem_input(self, image: Tensor) -> Tensor:
        """Makes what the stem reads of the image (see `generator.standardize`)."""
        network = self.network
        found = network.frozen_image.moments
        if network.standardized and found is None:
            found = self.image_moments(image)
            if self.freeze:
                self.to_freeze.append((network.frozen_image, found))
        return stem_input(self.image.with_reach(image), found, network.dtype)

    def image_moments(self, image: Tensor) -> Moments:
        """One mean and variance of all channels of B,3,H,W."""
        exact = to_float64(image)
        if self.weights is None:
            var, mean = torch.var_mean(exact, correction=0)
            return Moments(exact.numel(), mean.to(image), var.to(image))
        weights = self.weights.read_all(1)
        flat = exact.flatten(0, 1)[:, None]  # a pixel's channels as so many pixels
        size, mean, var = weighted_moments(flat, weights.repeat_interleave(3, 0))
        return Moments(size, mean.to(image).view(()), var.to(image).view(()))
