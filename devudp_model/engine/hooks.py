"""What a caller may attach to all that runs within a block: progress and results.

    with watching(advance=bar.update):
        restore(image, generator)

It is not among the arguments of `restore`, since nothing of the result depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

Advance = Callable[[float], None]
"""Gets the pixels done since the last call, as if the network worked through one at a time."""

Finished = Callable[[Tensor, int, int], None]
"""Gets finished rows of an image, 1,C,h,W, the number of the first of them, and the image's height:
from top to bottom, one image after the other."""


@dataclass(frozen=True)
class Watch:
    """See `watching`."""

    advance: Advance | None = None
    finished: Finished | None = None


NOTHING = Watch()

_watch: ContextVar[Watch] = ContextVar("devudp_watch", default=NOTHING)


def current() -> Watch:
    """What is attached to a network that runs now."""
    return _watch.get()


@contextmanager
def watching(
    advance: Advance | None = None,
    finished: Finished | None = None,
) -> Iterator[None]:
    """Within the block, networks tell `advance` of their progress, and `restore` shows `finished`
    what it has done."""
    token = _watch.set(Watch(advance, finished))
    try:
        yield
    finally:
        _watch.reset(token)
