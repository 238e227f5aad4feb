"""Ctrl-C and the signal that ends a process, also where a library swallows them.

Python raises KeyboardInterrupt wherever it is. If that is inside of a library's callback, the
library may turn it into an error of its own: an interrupted run would call a file damaged.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_seen = False


def seen() -> bool:
    """Whether a signal has come since `noted` began."""
    return _seen


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _seen
    _seen = True
    raise KeyboardInterrupt


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Within it, SIGINT and SIGTERM raise KeyboardInterrupt, and `seen` tells of them.

    A SIGINT that is ignored (a shell's background process) stays so.
    """
    global _seen
    _seen = False
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
