"""What libraries and this project say while several threads work: kept apart for each thread.

Python's warnings and logging are the whole process's. Here what a thread says about its file is
heard by who asked for it, and can be told in the order of the files.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_heard: dict[int, list[Warning]] = {}
_usual: list[Any] = []
"""What was in place before the first thread began to listen."""


@contextmanager
def warnings_of_this_thread() -> Iterator[list[Warning]]:
    """Collects the warnings given within the block by this thread, and no others."""
    thread = threading.get_ident()
    with _lock:
        if not _heard:
            _usual[:] = [warnings.catch_warnings(), warnings.showwarning]
            _usual[0].__enter__()
            warnings.simplefilter("always")
            warnings.showwarning = _hear
        _heard[thread] = []
    try:
        yield _heard[thread]
    finally:
        with _lock:
            del _heard[thread]
            if not _heard:
                _usual[0].__exit__()
                _usual.clear()


def _hear(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    found = _heard.get(threading.get_ident())
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

    def tell(self, record: logging.LogRecord) -> None:
        """To the handlers."""
        self.log.callHandlers(record)
