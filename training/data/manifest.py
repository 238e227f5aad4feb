"""A manifest of training data: each file with its SHA-256, source, licence and size.

    devudp-train check-data devudp --data.sharp my/sharp --write-manifest my.tsv --sources from.tsv
    devudp-train check-data devudp --data.sharp my/sharp --manifest my.tsv

Files are named by what they are used for, "sharp/...", "blurry/..." or "frames/...", and their path
below the folder that was given, so a manifest stays valid when the folders move. With several
folders for one use, the folder's own name comes in between. In a data set's official tree, the name
is the path below data.root.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from devudp_model.system.atomic import replacing
from devudp_model.system.untrusted import check_regular

from ..config import ConfigError, DataConfig
from .image_cache import size_of
from .shards import expand, read, split


class Entry(NamedTuple):
    """One file; the fields are the columns of a manifest. Width and height are pixels."""

    file: str
    sha256: str
    source: str = ""
    licence: str = ""
    width: int = 0
    height: int = 0


class Source(NamedTuple):
    """Says where files whose names begin with `prefix` come from, and under which licence."""

    prefix: str
    source: str
    licence: str


class Differences(NamedTuple):
    """Names of files that do not agree with a manifest.

    Attributes:
        missing: in the manifest only.
        extra: in the data only.
        changed: in both, with another content.
    """

    missing: list[str]
    extra: list[str]
    changed: list[str]


def name_files(data: DataConfig, files: Iterable[Path]) -> dict[str, Path]:
    """Returns the files by their names in a manifest.

    Args:
        data: the folders or the tree that the files were listed from.
        files: paths below these, as listed.

    Raises:
        ConfigError: two files would have one name.
    """
    uses = {"frames": data.frames}
    if data.layout == "folders":
        uses |= {"sharp": data.sharp, "blurry": data.blurry}
    given = {use: [Path(n) for name in names for n in expand(name)] for use, names in uses.items()}
    roots = [
        (f"{use}/{folder.resolve().name}/" if len(folders) > 1 else f"{use}/", folder)
        for use, folders in given.items()
        for folder in folders
    ]
    if data.layout != "folders":
        roots.append(("", Path(data.root)))
    named: dict[str, Path] = {}
    for file in files:
        prefix, root = next((p, r) for p, r in roots if file.is_relative_to(r))
        name = prefix + file.relative_to(root).as_posix()
        if named.setdefault(name, file) != file:
            raise ConfigError(
                f"{named[name]} and {file} would both be {name} in the manifest: rename one of "
                "their folders"
            )
    return named


def make_manifest(named: Mapping[str, Path], sources: Sequence[Source] = ()) -> list[Entry]:
    """Reads and hashes all files; a name takes the source with the longest matching prefix.

    Raises:
        OSError: a file cannot be read.
    """

    def entry(name: str) -> Entry:
        known = [source for source in sources if name.startswith(source.prefix)]
        best = max(known, key=lambda source: len(source.prefix), default=Source("", "", ""))
        path = named[name]
        return Entry(name, sha256_of(path), best.source, best.licence, *size_of(path))

    with ThreadPoolExecutor() as threads:
        return list(threads.map(entry, sorted(named)))


def compare(manifest: Sequence[Entry], named: Mapping[str, Path]) -> Differences:
    """Compares files with a manifest.

    Entries for a use that has no files here are ignored: a run on sharp images alone does not miss
    the blurry ones.

    Raises:
        OSError: a file cannot be read.
    """
    uses = {name.partition("/")[0] for name in named}
    wanted = {e.file: e.sha256 for e in manifest if e.file.partition("/")[0] in uses}
    both = sorted(wanted.keys() & named.keys())
    with ThreadPoolExecutor() as threads:
        found = dict(zip(both, threads.map(lambda name: sha256_of(named[name]), both), strict=True))
    return Differences(
        missing=sorted(wanted.keys() - named.keys()),
        extra=sorted(named.keys() - wanted.keys()),
        changed=[name for name in both if found[name] != wanted[name]],
    )


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        UntrustedFileError: it is not a regular file.
        OSError: it cannot be read.
    """
    inside = split(path)
    if inside is None:
        check_regular(path)
    return hashlib.sha256(read(*inside) if inside else path.read_bytes()).hexdigest()


def write_manifest(entries: Sequence[Entry], path: Path) -> None:
    """Writes tab-separated values with a header line, or comma-separated ones for *.csv."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter_of(path), lineterminator="\n")
    writer.writerows([Entry._fields, *entries])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def read_manifest(path: Path) -> list[Entry]:
    """Reads what `write_manifest` wrote; only the columns file and sha256 are required.

    Raises:
        ConfigError: the file is missing or not a manifest.
    """
    entries = []
    for number, row in read_table(path, required=("file", "sha256")):
        try:
            size = int(row.get("width") or 0), int(row.get("height") or 0)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: width and height must be numbers") from error
        texts = row["file"], row["sha256"].lower(), row.get("source", ""), row.get("licence", "")
        entries.append(Entry(*texts, *size))
    return entries


def read_sources(path: Path) -> list[Source]:
    """Reads a table with the columns prefix, source and licence.

    Raises:
        ConfigError: the file is missing or not such a table.
    """
    rows = read_table(path, required=Source._fields)
    return [Source(row["prefix"], row["source"], row["licence"]) for _, row in rows]


def read_table(path: Path, required: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Returns the rows of a table with a header line, each with its line number.

    Raises:
        ConfigError: the file cannot be read, or a column or a value is missing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter_of(path))
    lacking = [column for column in required if column not in (reader.fieldnames or ())]
    if lacking:
        raise ConfigError(
            f"{path} lacks the column {', '.join(lacking)}: its first line must name the columns, "
            "separated by tabs (.tsv) or commas (.csv)"
        )
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise ConfigError(f"{path}, line {reader.line_num}: too many or too few columns")
        rows.append((reader.line_num, row))
    return rows


def delimiter_of(path: Path) -> str:
    """Returns what separates the columns of a table, by the file's suffix."""
    return "," if path.suffix.lower() == ".csv" else "\t"
