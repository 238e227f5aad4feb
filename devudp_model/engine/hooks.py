"""Attaches progress and finished rows to all that runs within a block.

    with hooked(advance=bar.update):
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
class Hooks:
    """See `hooked`."""

    advance: Advance | None = None
    finished: Finished | None = None


_hooks: ContextVar[Hooks] = ContextVar("devudp_hooks", default=Hooks())  # noqa: B039


def current_hooks() -> Hooks:
    """Returns what is attached to a network that runs now."""
    return _hooks.get()


@contextmanager
def hooked(
    advance: Advance | None = None,
    finished: Finished | None = None,
) -> Iterator[None]:
    """Within the block, networks tell `advance` of their progress, and `restore` shows `finished`
    what it has done."""
    token = _hooks.set(Hooks(advance, finished))
    try:
        yield
    finally:
        _hooks.reset(token)
