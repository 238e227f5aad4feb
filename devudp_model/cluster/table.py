"""The table of results: a line for each file, as JSON lines or Parquet."""

# pyright: reportMissingImports=false
# pyarrow is optional: the extra "cluster".

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from ..system.atomic import replacing
from .stores import is_stand_in, send, text_of
from .worker import Row

PARQUET = ".parquet"

ROWS_AT_ONCE = 1000
"""Rows of a Parquet file that are written together; memory holds no more of it."""


Add = Callable[[Row], object]
"""Adds a row."""


@contextmanager
def json_lines(file: BinaryIO) -> Iterator[Add]:
    """A JSON object a line."""
    yield lambda row: file.write(json.dumps(asdict(row)).encode() + b"\n")


@contextmanager
def parquet(file: BinaryIO) -> Iterator[Add]:
    """A Parquet file; `auto` is JSON in it."""
    import pyarrow
    import pyarrow.parquet

    text = pyarrow.string()
    names = ("input", "output", "status", "auto", "message", "seconds", "worker")
    kinds = {"seconds": pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds.get(name, text)) for name in names])
    rows: list[dict[str, Any]] = []

    def write() -> None:
        writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
        rows.clear()

    def add(row: Row) -> None:
        cells = {**asdict(row), "auto": None if row.auto is None else json.dumps(row.auto)}
        for name, cell in cells.items():
            if isinstance(cell, str):  # a name on a disk may be no Unicode
                cells[name] = cell.encode(errors="backslashreplace").decode()
        rows.append(cells)
        if len(rows) >= ROWS_AT_ONCE:
            write()

    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        yield add
        write()


@contextmanager
def table(path: Path) -> Iterator[Add]:
    """Gives what adds rows to a table, which replaces an earlier one once it is complete.

    Args:
        path: ends in `.jsonl` or `.parquet`; may stand for an address in a store.

    Raises:
        OSError: it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="devudp-") as folder:
        local = Path(folder) / path.name if is_stand_in(path) else path
        local.parent.mkdir(parents=True, exist_ok=True)
        kind = parquet if path.suffix == PARQUET else json_lines
        with replacing(local) as file, kind(file) as add:
            yield add
        if local != path:
            send(local, text_of(path))
