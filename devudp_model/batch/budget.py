"""Memory that several threads share."""

from __future__ import annotations

import threading

from ..system.interrupts import Cancelled


class Budget:
    """Bytes that several threads share. One who asks for more than there are waits to be alone."""

    def __init__(self, limit: int):
        self.limit, self.used, self.closed = limit, 0, False
        self.changed = threading.Condition()

    def take(self, nbytes: int) -> None:
        """Waits until there is room.

        Raises:
            Cancelled: it has been closed.
        """
        with self.changed:
            self.changed.wait_for(
                lambda: self.closed or not self.used or self.used + nbytes <= self.limit
            )
            if self.closed:
                raise Cancelled
            self.used += nbytes

    def give(self, nbytes: int) -> None:
        with self.changed:
            self.used -= nbytes
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()
