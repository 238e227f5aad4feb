"""Tables of numbers, as Markdown and as files, so that parts can be measured at different times."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

Cell = str | float


@dataclass
class Table:
    """Rows of numbers and what they mean.

    Attributes:
        chart: the column that the chart shows, if any.
        labels: how many columns from the left name a row.
    """

    title: str
    header: list[str]
    rows: list[list[Cell]]
    note: str = ""
    chart: str = ""
    labels: int = 2

    def markdown(self) -> str:
        """As it stands in docs/performance.md."""
        table = tabulate(self.rows, self.header, tablefmt="github", floatfmt=".3g")
        return "\n\n".join([f"## {self.title}", table, *([self.note] if self.note else [])])


@dataclass
class Part:
    """Holds what one part found, and where and when."""

    origin: str
    tables: list[Table]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")


def load_part(path: Path) -> Part:
    """Reads what `Part.save` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return Part(found["origin"], [Table(**table) for table in found["tables"]])
