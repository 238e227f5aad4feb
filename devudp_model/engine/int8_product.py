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


class Part:
    """One convolution without padding. Arguments: C and O,C,h,w as in `Convolution`."""

    def __init__(
        self, weight: Tensor, bias: Tensor, step: Tensor, zero: Tensor, stride: tuple[int, int]
    ):
        exact = weight * step[:, None, None].float()
        scale = exact.abs().amax((1, 2, 3)) / MOST
        scale = torch.where(scale > 0, scale, 1.0)
        rounded = (exact / scale[:, None, None, None]).round()
        # What the zero points add to the sums.
        offset = (rounded.sum((2, 3)).double() * zero).sum(1) * scale
        self.bias, self.scale = (bias - offset).float(), scale.float()
        self.unused, self.stride = torch.zeros(len(weight), dtype=torch.int64), list(stride)
        self.weight = torch.ops.onednn.qconv_prepack(
            rounded.to(torch.int8), self.scale, 1.0, 0, self.stride, [0, 0], [1, 1], 1, None
        )

    def __call__(self, x: Tensor) -> Tensor:
        """1,C,h,W, uint8, channels_last, to float32."""
        scaled = x, 1.0, 0, self.weight, self.scale, self.unused, self.bias
        shape = self.stride, [0, 0], [1, 1], 1
        output = 1.0, 0, torch.float32, "none", [], "none"
        return torch.ops.onednn.qconv2d_pointwise(*scaled, *shape, *output)


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
