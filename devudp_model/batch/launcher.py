"""Several processes that share the work, as `accelerate launch` and `torchrun` start them.

Every process has the whole list and takes every n-th entry: none is done twice, and a later run
does what a process that died has left.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long a process that is done waits for the slowest one."""


@dataclass(frozen=True)
class Process:
    """Which one this is.

    Attributes:
        rank: its number among all, from 0.
        count: how many there are.
        local_rank: its number on this machine; it takes the GPU of this number.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @classmethod
    def this(cls) -> Process:
        """From the environment that the launcher sets."""
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        return cls(*(int(os.environ.get(name, "0")) for name in names))

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part."""
        return list(items[self.rank :: self.count])

    def connect(self) -> None:
        """Meets the others, at the start: then a launcher that is set up wrongly shows at once.

        Raises:
            RuntimeError: they do not come.
        """
        if self.count > 1:
            import torch.distributed as dist

            dist.init_process_group("gloo")

    def gather(self, value: T) -> list[T]:
        """The values of all processes, once every one is done.

        A launcher ends all processes when one ends with a failure, so one that met a damaged
        image must not end before the others have done theirs.
        """
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        # This process's work is done, so it may end at once; and Python would not get to see a
        # signal while it waits.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        dist.monitored_barrier(timeout=PATIENCE)
        values: list[T | None] = [None] * self.count
        dist.all_gather_object(values, value)
        dist.destroy_process_group()
        return [value for value in values if value is not None]
