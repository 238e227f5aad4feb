"""One convolution of 8-bit integers, and whether it can be had."""

from __future__ import annotations

import logging
import platform
from functools import lru_cache

import torch
from torch import Tensor

log = logging.getLogger("devudp")

STEPS, MOST = 255, 127
"""Of an input, from 0, and of a weight, to both sides."""

ALIKE = 0.9
"""Correlation of neighbouring pixels."""


class Part:
    """One convolution without padding. Arguments: C and O,C,h,w as in `Convolution`."""

    def __init__(
        self, weight: Tensor, bias: Tensor, step: Tensor, zero: Tensor, stride: tuple[int, int]
    ):
        exact = weight * step[:, None, None].float()
        scale = exact.abs().amax((1, 2, 3)) / MOST
        scale = torch.where(scale > 0, scale, 1.0)
        rounded = round_together(exact / scale[:, None, None, None])
        # What the zero points add to the sums.
        offset = (rounded.sum((2, 3)).double() * zero).sum(1) * scale
        self.bias, self.scale = (bias - offset).float(), scale.float()
        self.unused, self.stride = torch.zeros(len(weight), dtype=torch.int64), list(stride)
        self.weight = torch.ops.onednn.qconv_prepack(
            rounded.to(torch.int8), self.scale, 1.0, 0, self.stride, [0, 0], [1, 1], 1, None
        )

    def __call__(self, x: Tensor, relu: bool = False) -> Tensor:
        """terms,C,h,W, uint8, channels_last, to 1,O,h,w, float32, rectified if wanted."""
        if len(x) == 1:
            return self.product(x, self.scale, self.bias, relu)
        out = self.product(x[:1], 256 * self.scale, self.bias)
        out.add_(self.product(x[1:], self.scale, None))
        return out.clamp_(min=0) if relu else out

    def product(self, x: Tensor, scale: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
        """One term's."""
        scaled = x, 1.0, 0, self.weight, scale, self.unused, bias
        shape = self.stride, [0, 0], [1, 1], 1
        output = 1.0, 0, torch.float32, "relu" if relu else "none", [], "none"
        return torch.ops.onednn.qconv2d_pointwise(*scaled, *shape, *output)


def round_together(weight: Tensor) -> Tensor:
    """Rounds the taps of kernels O,C,h,w to integers, the error of each made up for by the next.

    Done so that the errors of the output are least for inputs in which neighbouring pixels are much
    the same (as in GPTQ, Frantar et al. 2023, without data): half the variance of plain rounding.
    """
    # The numbers of a tap lie side by side: four times as fast.
    taps = weight.permute(2, 3, 0, 1).clone(memory_format=torch.contiguous_format).flatten(0, 1)
    for tap, shares in enumerate(error_shares(*weight.shape[2:])):
        rounded = taps[tap].round().clamp_(-MOST, MOST)
        error = taps[tap] - rounded
        taps[tap] = rounded
        for later, share in enumerate(shares, tap + 1):
            taps[later].sub_(error, alpha=share)
    return taps.unflatten(0, weight.shape[2:]).permute(2, 3, 0, 1)


@lru_cache
def error_shares(height: int, width: int) -> list[list[float]]:
    """For each tap of a kernel, how much of its error each of the later ones is to lose."""
    down, right = (ALIKE ** (k[:, None] - k).abs() for k in map(torch.arange, (height, width)))
    alike = torch.kron(down.double(), right.double())
    upper = torch.linalg.cholesky(torch.linalg.inv(alike), upper=True)
    return [(upper[k, k + 1 :] / upper[k, k]).tolist() for k in range(len(upper))]


@lru_cache(maxsize=1)
def has_int8() -> bool:
    """True if PyTorch can convolve 8-bit integers here, and exactly.

    Where the processor has no VNNI, pairs of products are added in 16 bits, which is too few.
    """
    weight = torch.full((16, 16, 3, 3), float(MOST))
    x = torch.full((1, 16, 4, 8), STEPS, dtype=torch.uint8)
    x = x.contiguous(memory_format=torch.channels_last)
    step = torch.ones(16, dtype=torch.float64)
    try:
        found = Part(weight, torch.zeros(16), step, torch.zeros_like(step), (1, 1))(x)
    except Exception:
        log.debug("no 8-bit convolutions", exc_info=True)
        return False
    exact = float(MOST * STEPS * weight[0].numel())
    return found.shape == (1, 16, 2, 6) and bool((found == exact).all())


def has_int8_instructions() -> bool:
    """True if this processor has them (VNNI): on others, 8 bits are not fast, or not exact."""
    return platform.machine().lower() in ("x86_64", "amd64") and has_int8()
