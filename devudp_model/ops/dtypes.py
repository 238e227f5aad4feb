"""Images in their file's own depth and channels.

Integers take a quarter or half of float32's memory.

Wherever an image may be of floating point, in [0, 1], it may also be uint8 or uint16 over the whole
range of its type. It is turned into float32, and grey into colour, a band of rows at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = {torch.uint8: 255, torch.uint16: 65535}
"""The integers that stand for 1."""


def to_unit(x: Tensor) -> Tensor:
    """Any image to float32; integers come out in [0, 1] and contiguous."""
    if x.dtype not in LARGEST:
        return x.float()
    values = x.to(torch.float32, memory_format=torch.contiguous_format)
    return values.div_(LARGEST[x.dtype])


def from_unit(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Float32 to `dtype`; to integers, what is beyond [0, 1] is clipped, and it is rounded."""
    if dtype not in LARGEST:
        return x.to(dtype)
    return x.float().clamp(0, 1).mul_(LARGEST[dtype]).round_().to(dtype)


def indexable(x: Tensor) -> Tensor:
    """Returns the same bits in a type that can be joined and indexed everywhere: uint16 can not."""
    return x.view(torch.int16) if x.dtype == torch.uint16 else x


def without_alpha(image: Tensor) -> Tensor:
    """Returns B,C,H,W with its first three channels; itself if it has no more."""
    return image[:, :3] if image.shape[1] > 3 else image


def to_colour(image: Tensor, device: torch.device, clipped: bool = False) -> Tensor:
    """B,C,H,W to B,3,H,W, float32, in [0, 1]: grey repeated to 3 channels, alpha left out; what is
    `clipped` is in [0, 1] already."""
    colour = to_unit(without_alpha(image).to(device))
    colour = colour if clipped else colour.clamp(0, 1)
    return colour.expand(-1, 3, -1, -1) if colour.shape[1] == 1 else colour


def from_colour(restored: Tensor, channels: int) -> Tensor:
    """B,3,H,W to B,`channels`,H,W, which is 1 (the mean) or 3."""
    return restored.mean(1, keepdim=True) if channels == 1 else restored
