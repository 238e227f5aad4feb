"""Files on disk: behind wildcards and links, and below folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


def expand_wildcards(paths: Iterable[Path]) -> list[Path]:
    """Expands `*.jpg`, which Windows' shells leave to the program."""
    expanded = []
    for path in paths:
        wild = any(char in path.name for char in "*?") and not path.exists()
        expanded += sorted(path.parent.glob(path.name)) or [path] if wild else [path]
    return expanded


def files_in(
    folder: Path,
    without: Path,
    *,
    recursive: bool,
    onerror: Callable[[OSError], None] | None = None,
) -> Iterator[Path]:
    """Yields a folder's files, sorted; neither hidden ones nor those in the folder `without`."""
    out = real(without)
    for parent, folders, names in os.walk(folder, onerror=onerror):
        here = Path(parent)
        folders[:] = [name for name in sorted(folders) if recursive and real(here / name) != out]
        yield from (here / name for name in sorted(names) if not name.startswith("."))


def real(path: Path) -> Path:
    """The full path with links followed, as far as they lead; `Path.resolve` fails where they go
    round in circles."""
    return Path(os.path.realpath(path))
