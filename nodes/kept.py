"""What is kept between runs: the last outputs of the network, and with them its weights.

It lives as long as the image that it was made of, which is in the host's cache of node outputs. So
changing strength, exposure or mask does not compute the network again; and when the host lets the
image go, because another one was loaded or its memory is to be freed, everything goes with it.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor

from ..devudp_model.engine.hooks import KeptOutputs

LIMIT = 384 * 2**20
"""Bytes of all outputs together: 32 megapixels."""

IMAGES = 4
"""So many images' outputs are kept at the most, those used last."""


class Kept:
    """The outputs for one image, and what else has to live as long.

    Attributes:
        outputs: of the network.
        checkpoints: whose weights made them.
    """

    def __init__(self, limit: int):
        self.outputs = KeptOutputs(limit)
        self.checkpoints: list[Any] = []

    def hold(self, checkpoint: Any) -> None:
        """Keeps the weights in memory as long as the image."""
        if not any(checkpoint is other for other in self.checkpoints):
            self.checkpoints = [*self.checkpoints, checkpoint][-2:]


_kept: dict[int, tuple[weakref.ref[Tensor], Kept]] = {}


def kept_for(image: Tensor) -> Kept:
    """What is kept for this very tensor; empty at first."""
    known = _kept.pop(id(image), None)
    if known is not None and known[0]() is image:
        _kept[id(image)] = known  # to the end: used last
        return known[1]
    while len(_kept) >= IMAGES:
        del _kept[next(iter(_kept))]
    # The outputs of the image used last come before older ones.
    while _kept and total() > LIMIT // 2:
        del _kept[next(iter(_kept))]
    key = id(image)
    kept = Kept(LIMIT - total())

    def forget(gone: weakref.ref[Tensor]) -> None:
        if key in _kept and _kept[key][0] is gone:
            del _kept[key]

    _kept[key] = weakref.ref(image, forget), kept
    return kept


def total() -> int:
    """Bytes of all outputs."""
    return sum(kept.outputs.nbytes for _, kept in _kept.values())
