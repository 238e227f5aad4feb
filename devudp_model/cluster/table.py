"""The table of results: a line for each file, as JSON lines or Parquet."""

# pyright: reportMissingImports=false
# pyarrow is optional: the extra "cluster".

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
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


class JsonLines:
    """A JSON object a line."""

    def __init__(self, file: BinaryIO):
        self.file = file

    def add(self, row: Row) -> None:
        """Adds a row."""
        self.file.write(json.dumps(asdict(row)).encode() + b"\n")

    def end(self) -> None:
        """Nothing is left to do."""


class Parquet:
    """A Parquet file; `auto` is JSON in it."""

    def __init__(self, file: BinaryIO):
        import pyarrow
        import pyarrow.parquet

        text = pyarrow.string()
        names = ("input", "output", "status", "auto", "message", "seconds", "worker")
        kinds = {"seconds": pyarrow.float64()}
        self.schema = pyarrow.schema([(name, kinds.get(name, text)) for name in names])
        self.make_table = pyarrow.Table.from_pylist
        self.writer = pyarrow.parquet.ParquetWriter(file, self.schema)
        self.rows: list[dict[str, Any]] = []

    def add(self, row: Row) -> None:
        cells = {**asdict(row), "auto": None if row.auto is None else json.dumps(row.auto)}
        for name, cell in cells.items():
            if isinstance(cell, str):  # a name on a disk may be no Unicode
                cells[name] = cell.encode(errors="backslashreplace").decode()
        self.rows.append(cells)
        if len(self.rows) >= ROWS_AT_ONCE:
            self.write()

    def write(self) -> None:
        """Writes the rows that are waiting."""
        self.writer.write_table(self.make_table(self.rows, schema=self.schema))
        self.rows.clear()

    def end(self) -> None:
        self.write()
        self.writer.close()


@contextmanager
def table(path: Path) -> Iterator[JsonLines | Parquet]:
    """Gives a table that takes its name once it is complete; an earlier one is replaced.

    Args:
        path: ends in `.jsonl` or `.parquet`; may stand for an address in a store.

    Raises:
        OSError: it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="devudp-") as folder:
        local = Path(folder) / path.name if is_stand_in(path) else path
        local.parent.mkdir(parents=True, exist_ok=True)
        with replacing(local) as file:
            rows = Parquet(file) if path.suffix == PARQUET else JsonLines(file)
            yield rows
            rows.end()
        if local != path:
            send(local, text_of(path))
