"""Keeps apart, for each thread, what libraries and this project say while several work.

Python's warnings and logging are the whole process's. Here what a thread says about its file goes
to who asked for it, and can be shown in the order of the files.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_collected: dict[int, list[Warning]] = {}
_usual: list[Any] = []
"""In place before the first thread began to collect."""


@contextmanager
def warnings_of_this_thread() -> Iterator[list[Warning]]:
    """Collects the warnings given within the block by this thread, and no others."""
    thread = threading.get_ident()
    with _lock:
        if not _collected:
            _usual[:] = [warnings.catch_warnings(), warnings.showwarning]
            _usual[0].__enter__()
            # Not all: others, of any thread, would be shown that Python is usually quiet about.
            for kind in (UserWarning, RuntimeWarning):
                warnings.simplefilter("always", kind)
            warnings.showwarning = _collect
        _collected[thread] = []
    try:
        yield _collected[thread]
    finally:
        with _lock:
            del _collected[thread]
            if not _collected:
                _usual[0].__exit__()
                _usual.clear()


def _collect(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    found = _collected.get(threading.get_ident())
    if found is None:
        _usual[1](message, category, *place, **more)
    else:
        found.append(message if isinstance(message, Warning) else category(message))


class HeldRecords(logging.Filter):
    """Takes a logger's records to where each thread wants them, instead of to its handlers."""

    def __init__(self, log: logging.Logger) -> None:
        super().__init__()
        self.log, self.own = log, threading.local()

    def __enter__(self) -> HeldRecords:
        self.log.addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.log.removeFilter(self)

    @contextmanager
    def going_to(self, take: Callable[[logging.LogRecord], None]) -> Iterator[None]:
        """Within the block, this thread's records go to `take`."""
        self.own.take = take
        try:
            yield
        finally:
            self.own.take = None

    def filter(self, record: logging.LogRecord) -> bool:
        take = getattr(self.own, "take", None)
        if take is None:
            return True
        take(record)
        return False

    def emit(self, record: logging.LogRecord) -> None:
        """Passes a record on to the handlers."""
        self.log.callHandlers(record)
