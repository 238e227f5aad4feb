"""Writes to the terminal for the command lines."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from .untrusted import printable


class Printable(logging.Formatter):
    """Log lines in which nothing can steer the terminal; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join(printable(line) for line in super().formatException(ei).split("\n"))


def drop_output() -> None:
    """After a BrokenPipeError: nobody reads standard output any more (`devudp info | head`), and
    what Python writes there at its end must not fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_closed_streams() -> None:
    """Lets what is printed go nowhere where there is no terminal, as with `pythonw` or `2>&-`."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
