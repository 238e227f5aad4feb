"""One unpaired batch: what the data gives and the method takes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Images of both domains, each B,3,H,W in [-1, 1].

    Attributes:
        A, B: blurry and sharp images, which the losses compare with.
        A_input, B_input: what G is given: the same images, or the same with noise and another
            tone curve, where the recipe asks for it.
        reblur_target: what A was before it was blurred a second time, where it was.
    """

    A: Tensor
    B: Tensor
    A_input: Tensor
    B_input: Tensor
    reblur_target: Tensor | None = None
