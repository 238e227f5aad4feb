"""Files that are either complete or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed anyway
    fcntl = None

PREFIX, SUFFIX = ".devudp-", ".tmp"
"""Of the temporary names."""

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EMLINK}
"""What file systems without hard links answer."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` only once everything is written.

    Until then it lies beside under a temporary name. If anything fails (a full disk, Ctrl-C), it is
    removed, and what was at `path` before stays as it was.

    Args:
        path: the file.
        overwrite: whether a file that is there already may be replaced, even one that has come
            while this one was written.

    Raises:
        FileExistsError: the name is taken.
        OSError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    # Beside the target, since a rename works within one disk only; with a short name of its own,
    # since `path` may already be as long as the file system allows.
    beside = path.parent / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
    try:
        with _create(beside) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            beside.replace(path)
        else:
            claim(beside, path)
    finally:
        try:
            beside.unlink(missing_ok=True)
        except BaseException:  # Ctrl-C, just now: not removed yet
            beside.unlink(missing_ok=True)
            raise


def _create(path: Path) -> BinaryIO:
    """A new file, locked against `discard_leftovers`, which may have seen it before the lock."""
    while True:
        file = path.open("x+b")
        _lock(file.fileno(), wait=True)
        if path.exists():
            return file
        file.close()


def claim(beside: Path, path: Path) -> None:
    """Gives `beside` the name `path`, unless that is taken: then FileExistsError is raised."""
    if os.name == "nt":
        beside.rename(path)
        return
    try:
        os.link(beside, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "File exists", str(path)) from None
        beside.replace(path)


def discard_leftovers(folder: Path) -> int:
    """Removes the temporary files that processes which were killed have left in `folder`.

    Those that are being written are kept. Returns how many were removed.
    """
    removed = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            ours = entry.name.startswith(PREFIX) and entry.name.endswith(SUFFIX)
            if ours and entry.is_file(follow_symlinks=False):
                removed += _discard(Path(entry.path))
    return removed


def _discard(path: Path) -> bool:
    """Removes a file that no process has locked."""
    with contextlib.suppress(OSError):
        if fcntl is None:
            path.unlink()
            return True
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            if _lock(descriptor, wait=False):
                path.unlink()
                return True
        finally:
            os.close(descriptor)
    return False


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Locks a file until it is closed; False if another process has, or locks are not known."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
