"""Keeps the last outputs of the network between runs, and with them its weights.

It lives as long as the image that it was made of, which is in the host's cache of node outputs. So
changing strength, exposure or mask does not compute the network again; and when the host lets the
image go, because another one was loaded or its memory is to be freed, everything goes with it.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor

from ..devudp_model.engine.output_cache import OutputCache

LIMIT = 384 * 2**20
"""Bytes of all outputs together: 32 megapixels, of `joint` 25."""

IMAGES = 4
"""So many images' outputs are kept at the most, those used last."""


class ImageCache(OutputCache):
    """The outputs for one image, and what else has to live as long.

    Attributes:
        checkpoints: whose weights made them.
    """

    def __init__(self, limit: int):
        super().__init__(limit)
        self.checkpoints: list[Any] = []

    def hold(self, checkpoint: Any) -> None:
        """Keeps the weights in memory as long as the image."""
        if not any(checkpoint is other for other in self.checkpoints):
            self.checkpoints = [*self.checkpoints, checkpoint][-2:]


_caches: dict[int, tuple[weakref.ref[Tensor], ImageCache]] = {}


def cache_for(image: Tensor) -> ImageCache:
    """Returns the cache for this very tensor; empty at first."""
    known = _caches.pop(id(image), None)
    if known is not None and known[0]() is image:
        _caches[id(image)] = known  # to the end: used last
        return known[1]
    while len(_caches) >= IMAGES:
        drop_oldest()
    # The outputs of the image used last come before older ones.
    while _caches and total() > LIMIT // 2:
        drop_oldest()
    key = id(image)
    cache = ImageCache(LIMIT - total())

    def forget(gone: weakref.ref[Tensor]) -> None:
        known = _caches.get(key)
        if known is not None and known[0] is gone:
            _caches.pop(key, None)

    _caches[key] = weakref.ref(image, forget), cache
    return cache


def drop_oldest() -> None:
    """Forgets the image that was used longest ago, if there is one."""
    for key in list(_caches)[:1]:
        _caches.pop(key, None)


def total() -> int:
    """Bytes of all outputs."""
    # Of a copy: Python may find at any moment that an image is gone, and it is forgotten at once.
    return sum(cache.nbytes for _, cache in list(_caches.values()))
