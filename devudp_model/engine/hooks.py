"""What a caller may attach to all that runs within a block: progress, results, kept outputs.

    with watching(advance=bar.update):
        restore(image, generator)

It is not among the arguments of `restore`, since nothing of the result depends on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

Advance = Callable[[float], None]
"""Gets the pixels done since the last call, as if the network worked through one at a time."""

Finished = Callable[[Tensor, int, int], None]
"""Gets finished rows of an image, 1,C,h,W, the number of the first of them, and the image's height:
from top to bottom, one image after the other."""


@dataclass
class KeptOutputs:
    """Outputs of networks, to be used again for the same input.

    Args:
        limit: bytes of all outputs together. What does not fit any more is not kept: of a batch
            that is too long, always the same images are.

    Attributes:
        hits: how often an output was used again.
    """

    limit: int
    outputs: dict[Hashable, Tensor] = field(default_factory=dict)
    hits: int = 0

    @property
    def nbytes(self) -> int:
        return sum(output.nbytes for output in self.outputs.values())

    def get(self, key: Hashable) -> Tensor | None:
        found = self.outputs.get(key)
        self.hits += found is not None
        return found

    def put(self, key: Hashable, output: Tensor) -> None:
        """Keeps a copy in main memory, if there is room."""
        if self.nbytes + output.nbytes <= self.limit:
            self.outputs[key] = output.to("cpu", copy=True)


@dataclass(frozen=True)
class Watch:
    """See `watching`."""

    advance: Advance | None = None
    kept: KeptOutputs | None = None
    finished: Finished | None = None


NOTHING = Watch()

_watch: ContextVar[Watch] = ContextVar("devudp_watch", default=NOTHING)


def current() -> Watch:
    """What is attached to a network that runs now."""
    return _watch.get()


@contextmanager
def watching(
    advance: Advance | None = None,
    kept: KeptOutputs | None = None,
    finished: Finished | None = None,
) -> Iterator[None]:
    """Within the block, networks tell `advance` of their progress and use and fill `kept`, and
    `restore` shows `finished` what it has done."""
    token = _watch.set(Watch(advance, kept, finished))
    try:
        yield
    finally:
        _watch.reset(token)


def content_of(image: Tensor) -> bytes:
    """A hash of B,C,H,W: its values, size and type."""
    rows = image.detach().movedim(1, -1).cpu().contiguous()  # no copy of what ComfyUI gives
    digest = hashlib.blake2b(f"{rows.dtype} {tuple(rows.shape)}".encode(), digest_size=16)
    digest.update(memoryview(rows.reshape(-1).view(torch.uint8).numpy()))  # pyright: ignore[reportArgumentType]
    return digest.digest()
