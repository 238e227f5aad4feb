"""The numbers of docs/comparison.md, made from results alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .compared_methods import METHODS, Method

KNOWN = {method.name: method for method in METHODS}

PARTS = ", parts"
"""Suffix of the sets of image parts, for all methods; whole images are for the fast ones."""

BETTER = {"psnr": 1, "ssim": 1, "lpips": -1}


def page(found: dict[str, Any]) -> str:
    """Returns the numbers of docs/comparison.md, as Markdown."""
    sets = found.get("sets", {})
    parts = ["## Where others are better\n", *(lost(*item) for item in sets.items())]
    for name, rows in sets.items():
        count = rows["input"]["n"]
        images = "1 image" if count == 1 else f"{count} images"
        parts.append(f"\n## {name[0].upper()}{name[1:]}, {images}\n")
        parts.append(table(rows))
    parts += ["", missing(sets), f"Measured on: {found.get('machine', 'unknown')}."]
    return "\n".join(parts)


def lost(name: str, rows: dict[str, Any]) -> str:
    """Returns a line about the methods that beat `auto` in a metric or cost less.

    Their names hold no commas, or a list of them could not be read.
    """
    ours = rows.get("DEvUDP, auto")
    if ours is None:
        return f"- **{name}**. Not measured."
    others = {n: row for n, row in rows.items() if n != "input" and not n.startswith("DEvUDP")}
    quality = list(better(ours, others))
    quicker, smaller = (
        [n for n, row in others.items() if row.get(cost, ours[cost]) < ours[cost]]
        for cost in ("seconds", "installed")
    )
    text = "; ".join(quality) if quality else "none of those measured, in PSNR, SSIM or LPIPS"
    text += f". Quicker: {', '.join(quicker) or 'none'}."
    return f"- **{name}**. Better: {text} Smaller to install: {', '.join(smaller) or 'none'}."


def missing(sets: dict[str, Any]) -> str:
    """Lists what has not been measured yet: gaps are listed too."""
    gaps = []
    for method in METHODS:
        names = [name + PARTS if method.tensorflow else name for name in method.sets]
        left = [name for name in names if method.name not in sets.get(name, {})]
        if left:
            gaps.append(f"{method.name} ({'; '.join(left)})")
    return f"Not measured: {', '.join(gaps)}.\n" if gaps else ""


def better(ours: dict[str, Any], others: dict[str, Any]) -> Iterator[str]:
    for name, row in others.items():
        won = [
            f"{metric.upper()} ({shown(row, metric)} against {shown(ours, metric)})"
            for metric, sign in BETTER.items()
            if sign * (row[metric] - ours[metric]) > 0
        ]
        if won:
            yield f"{name} in {', '.join(won)}"


def shown(row: dict[str, Any], metric: str) -> str:
    return f"{row[metric]:.{2 if metric == 'psnr' else 3}f}"


def table(rows: dict[str, Any]) -> str:
    """One set; the best of each metric in bold."""
    best = {
        metric: max(row[metric] * sign for row in rows.values()) for metric, sign in BETTER.items()
    }
    ours = rows.get("DEvUDP, auto", {}).get("seconds")
    lines = [
        "| method | kind | PSNR | SSIM | LPIPS | time | memory | installed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["psnr"]):
        cells = [name, kind(KNOWN.get(name))]
        for metric, sign in BETTER.items():
            text = shown(row, metric)
            cells.append(f"**{text}**" if row[metric] * sign == best[metric] else text)
        if "seconds" in row:
            time = f"{row['seconds'] / ours:.2g} x" if ours else ""
            cells += [time, f"{row['peak'] / 1e9:.1f} GB", f"{row['installed'] / 1e6:.0f} MB"]
        else:
            cells += ["", "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def kind(method: Method | None) -> str:
    return "" if method is None else "network" if method.learned else "classical"
