"""Images in WebDataset shards: tar files, of which any member is read at once by where it begins.

The library `webdataset` reads shards from the front to the end, and shuffles what it holds in
memory: what sample n is would depend on the number of workers, and a run could not be resumed
exactly. A tar file that is not compressed needs no library to be read anywhere.

An image in a shard has a path like any other: `shards/000000.tar/cat/01.jpg`.
"""

from __future__ import annotations

import io
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

SUFFIX = ".tar"


class Place(NamedTuple):
    """The bytes of a member in its shard."""

    offset: int
    size: int


class ShardError(OSError):
    """A shard that cannot be read; the message says which, why, and what to do."""


@cache
def places_in(shard: Path) -> dict[str, Place]:
    """Returns the place of each file in a shard, by its name.

    Raises:
        ShardError: it is no tar file, or a compressed one.
    """
    try:
        with tarfile.open(shard, "r:") as archive:
            return {
                str(PurePosixPath(member.name)): Place(member.offset_data, member.size)
                for member in archive
                if member.isreg() and not member.issparse()
            }
    except FileNotFoundError:
        raise
    except (tarfile.TarError, OSError) as error:
        raise ShardError(
            f"{shard} cannot be read as a shard: {error}. It is damaged, or compressed, which "
            "leaves no way to the middle of it: make it anew, without compression"
        ) from error


def split(path: Path) -> tuple[Path, str] | None:
    """Returns the shard and the name in it of an image's path; None for a file of its own."""
    if SUFFIX not in str(path):
        return None
    for parent in path.parents:
        if parent.suffix == SUFFIX and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def files_in(shard: Path) -> list[Path]:
    """Returns the paths of all files in a shard, sorted.

    Raises:
        ShardError: see `places_in`.
    """
    return sorted(shard / name for name in places_in(shard))


def read(shard: Path, name: str) -> bytes:
    """Returns a member's content.

    Raises:
        OSError: it is not there, or the shard is cut off.
    """
    place = places_in(shard).get(name)
    if place is None:
        raise FileNotFoundError(f"{shard} has no {name}")
    with shard.open("rb") as file:
        file.seek(place.offset)
        content = file.read(place.size)
    if len(content) < place.size:
        raise ShardError(f"{shard} is cut off within {name}: copy it again")
    return content


def size_in_bytes(path: Path) -> int:
    """Returns the size of an image file, or of a member of a shard."""
    inside = split(path)
    return places_in(inside[0])[inside[1]].size if inside else path.stat().st_size


def opened(path: Path) -> BinaryIO:
    """Opens an image file, or a member of a shard.

    Raises:
        OSError: it cannot be read.
    """
    inside = split(path)
    return io.BytesIO(read(*inside)) if inside else path.open("rb")


@contextmanager
def as_file(path: Path) -> Iterator[Path]:
    """Gives the path of a file of its own with an image's content, for decoders that need one.

    Raises:
        OSError: it cannot be read.
    """
    inside = split(path)
    if inside is None:
        yield path
        return
    content = read(*inside)
    with tempfile.TemporaryDirectory(prefix="devudp-") as folder:
        file = Path(folder) / f"image{path.suffix}"
        file.write_bytes(content)
        yield file


def expand(name: str) -> list[str]:
    """Returns the names that `{000000..000009}` stands for, as a shell and WebDataset have it."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", name)
    if found is None:
        return [name]
    first, last = found.groups()
    width = len(first) if first.startswith("0") else 0
    numbers = range(int(first), int(last) + 1)
    begun, ended = name[: found.start()], name[found.end() :]
    return [each for n in numbers for each in expand(f"{begun}{n:0{width}}{ended}")]
