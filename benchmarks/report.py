"""The tables as one page, and their numbers as one picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .parts import Table

MARKS = "<!-- numbers: begin -->", "<!-- numbers: end -->"

PAGE = """# Performance

{0}
{1}

Made by `python -m benchmarks`; `python -m benchmarks --help` tells how.
"""


def write_report(path: Path, tables: Sequence[Table], origin: str) -> None:
    """Writes the page, or only replaces the numbers between its two marks."""
    numbers = "\n\n".join([origin, *(table.markdown() for table in tables)])
    picture = "![The same as a chart](performance.png)"
    block = f"{MARKS[0]}\n{numbers}\n\n{picture}\n{MARKS[1]}"
    page = path.read_text(encoding="utf-8") if path.exists() else PAGE.format(*MARKS)
    pattern = re.compile(f"{MARKS[0]}.*{MARKS[1]}", re.DOTALL)
    path.write_text(pattern.sub(lambda _: block, page), encoding="utf-8")


def write_chart(path: Path, tables: Sequence[Table]) -> None:
    """One bar chart for each table that names a column to draw."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    drawn = [table for table in tables if table.chart]
    if not drawn:
        return
    heights = [1 + 0.3 * len(table.rows) for table in drawn]
    figure, axes = pyplot.subplots(
        len(drawn), 1, figsize=(8, sum(heights)), height_ratios=heights, squeeze=False
    )
    for axis, table in zip(axes[:, 0], drawn, strict=True):
        column = table.header.index(table.chart)
        rows = [row for row in table.rows if isinstance(row[column], float)]
        labels = [" ".join(str(cell) for cell in row[: table.labels]) for row in rows]
        bars = axis.barh(range(len(rows)), [row[column] for row in rows], color="#4878a8")
        axis.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
        axis.set_yticks(range(len(rows)), labels, fontsize=8)
        axis.invert_yaxis()
        axis.set_title(f"{table.title}: {table.chart}", fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
