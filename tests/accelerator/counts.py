"""What is counted on the make-believe accelerator: operations, by kind and place, and memory."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

NAME = "pretend"
"""Its device type."""

ROOT = Path(__file__).resolve().parents[2]

Kind = Literal["kernel", "view", "allocation", "upload", "download", "wait"]
"""What an operation does: computes; only looks at memory in another way; only takes memory; copies
to the device; copies from it, for which the host waits; lets the host wait for a value."""


@dataclass
class Counts:
    """Operations that were issued, by kind, name and place in the code ("file:line")."""

    seen: Counter[tuple[Kind, str, str]] = field(default_factory=Counter)

    def of(self, *kinds: Kind) -> int:
        return sum(n for (kind, _, _), n in self.seen.items() if kind in kinds)

    @property
    def operations(self) -> int:
        """All that is issued for the device's tensors, views included, but for taking memory."""
        return self.of("kernel", "view", "upload", "download", "wait")

    @property
    def launches(self) -> int:
        """Those of them that start something on the device."""
        return self.of("kernel", "upload", "download", "wait")

    @property
    def waits(self) -> int:
        """How often the host waits for results."""
        return self.of("download", "wait")

    def table(self) -> str:
        """One line for each kind, name and place, the most frequent first."""
        rows = [f"{n:6} {' '.join(key)}" for key, n in self.seen.most_common()]
        return "\n".join(rows)


@dataclass
class Device:
    """What goes on on the device."""

    counters: list[Counts] = field(default_factory=list)
    memory: list[tuple[StorageWeakRef, int]] = field(default_factory=list)
    watched: bool = False
    allocations: int = 0
    peak: int = 0
    fails: Callable[[int], bool] = field(default=lambda number: False)

    def count(self, kind: Kind, name: str) -> None:
        if self.counters:
            key = kind, name, place()
            for counts in self.counters:
                counts.seen[key] += 1

    def allocate(self, memory: Tensor) -> None:
        """Takes note of new memory.

        Raises:
            torch.OutOfMemoryError: it is to fail.
        """
        self.allocations += 1
        storage = memory.untyped_storage()
        if self.fails(self.allocations):
            raise torch.OutOfMemoryError(
                f"{NAME} out of memory. Tried to allocate {storage.nbytes()} bytes."
            )
        self.memory.append((StorageWeakRef(storage), storage.nbytes()))
        if self.watched or len(self.memory) > 10_000:
            self.peak = max(self.peak, self.in_use())

    def in_use(self) -> int:
        """Bytes that are taken now."""
        self.memory = [entry for entry in self.memory if not entry[0].expired()]
        return sum(nbytes for _, nbytes in self.memory)


STATE = Device()


def place() -> str:
    """Where in the project the running operation comes from."""
    frame = sys._getframe(1)
    while frame is not None:
        file = in_project(frame.f_code.co_filename)
        if file is not None:
            return f"{file}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


@cache
def in_project(file: str) -> str | None:
    """A file's path in the project; None if it is a test's or none of it."""
    path = Path(file)
    short = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return short if short and not short.startswith(("tests/", ".")) else None


@contextmanager
def counting() -> Iterator[Counts]:
    """Counts what is issued within the block."""
    counts = Counts()
    STATE.counters.append(counts)
    try:
        yield counts
    finally:
        STATE.counters.remove(counts)


def never(number: int) -> bool:
    return False


@contextmanager
def watching_memory(fails: Callable[[int], bool] = never) -> Iterator[Device]:
    """Within the block, allocations are counted from 1 on, and those fail for whose number `fails`
    holds; the peak is that of the block."""
    STATE.fails, STATE.allocations, STATE.peak, STATE.watched = fails, 0, STATE.in_use(), True
    try:
        yield STATE
    finally:
        STATE.fails, STATE.watched = never, False
