"""One unpaired batch: what the data pipeline makes and the method takes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Images of both domains, each B,3,H,W in [-1, 1].

    Attributes:
        A, B: blurry and sharp images, as the losses see them.
        A_input, B_input: G's inputs: the same images, with noise and a tone curve where the recipe
            asks for them.
        reblur_target: A before its second blur; None if it has none.
    """

    A: Tensor
    B: Tensor
    A_input: Tensor
    B_input: Tensor
    reblur_target: Tensor | None = None
