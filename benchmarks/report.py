"""The tables as one page, and their numbers as one image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from .tables import Part, Table

OURS, OTHERS = "#d0661c", "#9aa7b4"
"""Colours of the chart's bars."""

MARKS = "<!-- numbers: begin -->", "<!-- numbers: end -->"


def write_report(path: Path, parts: Sequence[Part]) -> None:
    """Replaces the numbers of a page by those of parts; see `fill`."""
    pieces = []
    for origin, those in groupby(parts, lambda part: part.origin):
        pieces += [origin, *(table.markdown() for part in those for table in part.tables)]
    fill(path, "\n\n".join(pieces))


def fill(path: Path, numbers: str) -> None:
    """Replaces the numbers of a page between its two markers.

    Raises:
        ValueError: the page lacks them.
    """
    text = path.read_text(encoding="utf-8")
    if not all(mark in text for mark in MARKS):
        raise ValueError(f"{path} needs the lines {' and '.join(MARKS)}, between which to write")
    path.write_text(between(text, MARKS, numbers), encoding="utf-8", newline="\n")


def between(text: str, marks: tuple[str, str], inside: str) -> str:
    """Returns a page with what is between two markers replaced."""
    before, rest = text.split(marks[0], 1)
    return f"{before}{marks[0]}\n{inside}\n{marks[1]}{rest.split(marks[1], 1)[1]}"


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
        colours = [OURS if "DEvUDP" in label else OTHERS for label in labels]
        bars = axis.barh(range(len(rows)), [row[column] for row in rows], color=colours)
        axis.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
        axis.set_yticks(range(len(rows)), labels, fontsize=8)
        axis.invert_yaxis()
        axis.set_title(f"{table.title}: {table.chart}", fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
