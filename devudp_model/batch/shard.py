"""Part of a long list of files: several processes or machines do a part each.

Every process plans all files, so that names agree, and does every N-th of them. They need not know
of each other; a part that stopped is started again with --skip-existing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One part of several: number `number` of `count`, from 1.

    Raises:
        ValueError: there is no such part.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(f"parts are numbered from 1/{self.count} to {self.count}/{self.count}")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads `2/8`.

        Raises:
            ValueError: it is written otherwise, or there is no such part.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
        if not match:
            raise ValueError("write it as 2/8, the second of eight parts")
        number, count = int(match[1]), int(match[2])
        if not count:
            raise ValueError("there must be at least one part, as in 1/1")
        return cls(number, count)

    def of(self, items: Sequence[T]) -> list[T]:
        """Returns every `count`-th item: of all parts together, each item is in one."""
        return list(items[self.number - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
