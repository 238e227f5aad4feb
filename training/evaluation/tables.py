"""Evaluation results as a Markdown table, JSON, and contact sheets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.image_cache import decode
from ..data.sheets import Cell, Row, draw_sheet
from .paper import Means

METRICS = ("psnr", "ssim", "mae", "lpips")
"""Of the paper's tables."""

DECIMALS = {"psnr": 2, "ssim": 3, "mae": 2, "lpips": 3, "psnr_y": 2, "ssim_y": 3}

SHEET_SIDE = 420
"""Images on a contact sheet are reduced to this width and height, pixels."""


@dataclass
class Result:
    """The metrics of a method on each image of a set, by the image's name."""

    set: str
    method: str
    images: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def mean(self, metric: str) -> float | None:
        """Returns the mean over the images; None for a metric that was not computed."""
        values = [image.get(metric) for image in self.images.values()]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None


def number(value: float | None, metric: str) -> str:
    """Returns a value with the metric's usual decimals; empty for None."""
    return "" if value is None else f"{value:.{DECIMALS[metric]}f}"


def markdown(
    results: Sequence[Result],
    paper: Mapping[str, Sequence[Means]],
    columns: Sequence[str] = METRICS,
) -> str:
    """One table: the methods on each set, and below them the paper's rows of that set.

    Args:
        results: all of them.
        paper: rows by the name of the set.
        columns: the metrics.
    """
    titles = " | ".join(metric.upper().replace("_", " ") for metric in columns)
    lines = [f"| set | n | method | {titles} |", "|---" * (3 + len(columns)) + "|"]
    for name in dict.fromkeys(result.set for result in results):
        for result in results:
            if result.set == name:
                cells = [number(result.mean(metric), metric) for metric in columns]
                lines.append(
                    f"| {name} | {len(result.images)} | {result.method} | {' | '.join(cells)} |"
                )
        for means in paper.get(name, []):
            cells = [number(getattr(means, metric, None), metric) for metric in columns]
            lines.append(f"| {name} |  | {means.method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def describe(result: Result, *, images: bool) -> dict[str, Any]:
    """Returns a result for JSON, with or without each image's values; infinite ones become None."""

    def finite(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    metrics = next(iter(result.images.values()))
    found: dict[str, Any] = {
        "set": result.set,
        "method": result.method,
        "n": len(result.images),
        "mean": {metric: finite(result.mean(metric)) for metric in metrics},
    }
    if images:
        found["images"] = {
            name: {m: finite(v) for m, v in values.items()}
            for name, values in result.images.items()
        }
    return found


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Writes JSON; the folder is created if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def best_and_worst(ours: Result, before: Result, count: int = 3) -> list[str]:
    """The images with the largest gain of PSNR over the degraded ones, then those with the least.

    At most `count` of each, largest gain first.
    """

    def gain(name: str) -> float:
        psnr, old = ours.images[name]["psnr"], before.images[name]["psnr"]
        assert psnr is not None and old is not None
        return psnr - old if math.isfinite(psnr - old) else 0.0

    ranked = sorted(ours.images, key=gain, reverse=True)
    return ranked if len(ranked) <= 2 * count else ranked[:count] + ranked[-count:]


def write_sheet(result: Result, before: Result, folder: Path) -> None:
    """The best and worst images of a method as `folder`/METHOD.jpg: input, restored, reference.

    Args:
        result: of the method.
        before: of the degraded images.
        folder: of the set, with the images of each method in a folder of its name.
    """
    rows = []
    for name in best_and_worst(result, before):
        captions = {
            "input": f"input, PSNR {before.images[name]['psnr']:.2f}",
            result.method: f"{result.method}, PSNR {result.images[name]['psnr']:.2f}",
            "reference": "reference",
        }
        cells = [Cell(text, decode(folder / d / f"{name}.png")) for d, text in captions.items()]
        rows.append(Row(f"{result.set}: {name}", cells))
    draw_sheet(rows, SHEET_SIDE).save(folder / f"{result.method}.jpg", quality=90)
