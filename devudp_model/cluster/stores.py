"""Files in a store such as S3 or Google Cloud Storage, by fsspec: addresses like s3://bucket/photos.

A store has no folders, no links and no renaming; a file is there once all of it was sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path("/.devudp-store")
"""Stands for all stores: plans are made of paths, and none of theirs is on a disk."""


class StoreError(OSError):
    """A store that cannot be used; the message says which address, why, and what to do."""


def is_address(text: str) -> bool:
    """Returns True for `s3://bucket/key`; a path, also `C:\\photos`, is none."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def stand_in(address: str) -> Path:
    """Returns a path for an address; `text_of` turns it back."""
    scheme, _, rest = address.partition("://")
    return ROOT.joinpath(scheme.lower(), *(part for part in rest.split("/") if part))


def is_stand_in(path: Path) -> bool:
    """Returns True for what `stand_in` gave, and what is below it."""
    return ROOT in path.parents


def text_of(path: Path) -> str:
    """Returns the address of a path that stands for one; of others, the absolute path."""
    if not is_stand_in(path):
        return str(path.absolute())
    scheme, *names = path.relative_to(ROOT).parts
    return f"{scheme}://{'/'.join(names)}"


def opened(address: str) -> tuple[Any, str]:
    """Returns fsspec's file system for an address, and the path in it.

    Raises:
        StoreError: the kind of store is unknown, or its package is not installed.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise StoreError(
            f"{address}: {error}. The extra cluster (pip install 'devudp[cluster]') brings s3:// "
            "and gs:// along; for others, install the package of fsspec."
        ) from error


@contextmanager
def using(address: str) -> Iterator[tuple[Any, str]]:
    """Gives what `opened` returns; within it, what goes wrong with the store is told as StoreError.

    Its libraries raise errors of many classes.
    """
    try:
        yield opened(address)
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise StoreError(f"{address} is not there: check the address.") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(
            f"{address} cannot be used: {reason.rstrip('.')}. Check the address, the credentials "
            "and the connection, on the machine of the worker, too."
        ) from error


def list_files(address: str, recursive: bool) -> list[str] | None:
    """Returns the names of the files in a folder of a store, relative to it, sorted.

    Returns None if the address is that of a file.

    Raises:
        StoreError: it cannot be reached, or there is nothing.
    """
    with using(address) as (store, path):
        if store.isfile(path):
            return None
        root = path.rstrip("/")
        found = store.find(root, maxdepth=None if recursive else 1)
        if not found and not store.exists(path):
            raise FileNotFoundError(address)
        return sorted(name[len(root) + 1 :] for name in found)


def names_in(address: str) -> set[str]:
    """Returns the paths (see `opened`) of all files below an address; empty if there is nothing."""
    with using(address) as (store, path):
        store.invalidate_cache()
        return set(store.find(path.rstrip("/")))


def fetch(address: str, file: Path) -> None:
    """Copies a file of a store to the disk.

    Raises:
        StoreError: it cannot be read.
    """
    with using(address) as (store, path):
        store.get_file(path, str(file))


def send(file: Path, address: str) -> None:
    """Copies a file of the disk to a store, where it takes its name once it is complete.

    Raises:
        StoreError: it cannot be written.
    """
    with using(address) as (store, path):
        store.put_file(str(file), path)


def check_writable(address: str) -> None:
    """Writes an empty file to a folder of a store and removes it.

    Raises:
        StoreError: that does not work.
    """
    with using(address) as (store, path):
        probe = f"{path.rstrip('/')}/.devudp-probe"
        store.pipe_file(probe, b"")
        store.rm_file(probe)


def is_safe(name: str) -> bool:
    """Returns False for a name in a store that would leave its folder on a disk, or is no path."""
    forbidden = "\\:" if os.name == "nt" else ""
    parts = name.split("/")
    return all(part not in ("", ".", "..") and not set(part) & set(forbidden) for part in parts)
