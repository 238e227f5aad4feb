"""The tables as one page, and their numbers as one image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .tables import Part, Table

MARKS = "<!-- numbers: begin -->", "<!-- numbers: end -->"

PAGE = """# Performance

{0}
{1}

Made by `python -m benchmarks`, in parts that can be measured one after the other, and
`python -m benchmarks --report docs`; `python -m benchmarks --help` says more. Ratios are those of
one run; seconds are this machine's.

<!-- gpu: begin -->
## On a GPU

Not measured yet. On a machine with CUDA, `python -m benchmarks.gpu` writes its numbers here.
<!-- gpu: end -->

## How it is done

The convolutions cannot be avoided, so everything else is done along with them: one layer after the
other works through the image in strips of rows that fit into the processor's cache. What a strip
reads is normalised, added and padded there, and what the convolution leaves is measured there too,
for the next normalisation; only then does it go to memory. Features stay in channels_last, at most
two exist per scale, and what does not fit into a memory bound lies in a temporary file (or, for a
GPU, in main memory). BatchNorm is folded into the convolutions, and nearest-neighbour
upsampling with the convolution behind it is four convolutions of 2x2 taps.

There is no option to compile: torch.compile makes the textbook version nearly as fast, but not
faster, after a first call that takes 20 seconds for every new size (the table "Compiled").

## Guarantees

- On the CPU a result is the same to the last bit whatever the memory bound and the strips, in fp32,
  bf16 and fp16: sums are made in groups of rows that always begin at the same rows, joined in
  float64 (`devudp_model/engine/statistics.py`), and the kernels chosen do not depend on the strip.
- With another number of threads too, in all that was tried (1 to 8 threads, images from 8x8 on):
  every strip is processed by one thread.
- A bound below about 0.1 GB cannot be kept (more with many threads): weights, kernels and the rows
  being processed take as much. A warning says so.
- On a GPU a bound below 600 MB makes the strips smaller, and rounding differs.
- fp32 agrees with a plain PyTorch version of the network to within 1e-4 of the range.
"""


def write_report(path: Path, parts: Sequence[Part]) -> None:
    """Writes the page, or only replaces the numbers between its two markers."""
    pieces, origin = [], ""
    for part in parts:
        if part.origin != origin:
            pieces.append(part.origin)
            origin = part.origin
        pieces += [table.markdown() for table in part.tables]
    numbers = "\n\n".join(pieces)
    image = "![The same as a chart](performance.png)"
    block = f"{MARKS[0]}\n{numbers}\n\n{image}\n{MARKS[1]}"
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
