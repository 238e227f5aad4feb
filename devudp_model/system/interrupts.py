"""Ctrl-C and the signal that ends a process, also where a library swallows them.

Python raises KeyboardInterrupt wherever it is. If that is inside of a library's callback, the
library may turn it into an error of its own: an interrupted run would call a file damaged.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_seen = _held = _pending = False


class Cancelled(Exception):
    """Work in a thread that nobody waits for any more."""


def seen() -> bool:
    """True if a signal has come since `noted` began."""
    return _seen


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _seen, _pending
    _seen = True
    if not _held:
        raise KeyboardInterrupt
    _pending = True


@contextlib.contextmanager
def held(hold: bool = True) -> Iterator[None]:
    """Within it, a signal waits for `check`; or, within `held(False)` inside of it, does not.

    For code with locks that other threads want, too: raised just there, the exception would leave
    a lock taken for ever.
    """
    global _held
    before, _held = _held, hold
    try:
        if not hold:
            check()
        yield
    finally:
        _held = before


def check() -> None:
    """Raises KeyboardInterrupt if a signal waits."""
    global _pending
    if _pending:
        _pending = False
        raise KeyboardInterrupt


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Within it, SIGINT and SIGTERM raise KeyboardInterrupt, and `seen` tells of them.

    A SIGINT that is ignored (a shell's background process) stays so.
    """
    global _seen, _pending
    _seen = _pending = False
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
