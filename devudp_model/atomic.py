"""Files that are either complete or not there."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` only once everything is written.

    Until then it lies beside under a temporary name. If anything fails (a full disk, Ctrl-C), it is
    removed, and what was at `path` before stays as it was.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    # Beside the target, since a rename works within one disk only; with a short name of its own,
    # since `path` may already be as long as the file system allows.
    beside = path.parent / f".devudp-{secrets.token_hex(8)}.tmp"
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
