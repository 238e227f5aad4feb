"""Evaluation results: means, Markdown, JSON, contact sheets."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .testsets import Row

METRICS = ("psnr", "ssim", "mae", "lpips")
DECIMALS = {"psnr": 2, "ssim": 3, "mae": 2, "lpips": 3}
SHEET_SIDE = 420
"""Pictures on a contact sheet are scaled to this width at most."""


@dataclass
class Result:
    """A method's values on each picture of a set."""

    set: str
    method: str
    images: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def mean(self) -> Row:
        """The means over the pictures; None for a metric that was not computed."""

        def one(metric: str) -> float | None:
            values = [image[metric] for image in self.images.values()]
            known = [value for value in values if value is not None]
            return sum(known) / len(known) if known else None

        psnr, ssim, mae, lpips = (one(metric) for metric in METRICS)
        assert psnr is not None and ssim is not None and mae is not None
        return Row(self.method, psnr, ssim, mae, lpips)


def number(value: float | None, metric: str) -> str:
    """A value as it stands in a table."""
    return "" if value is None else f"{value:.{DECIMALS[metric]}f}"


def markdown(results: Sequence[Result], paper: dict[str, list[Row]]) -> str:
    """One table: sets, methods, and the paper's rows of the same set below ours."""
    lines = [
        "| set | n | method | PSNR | SSIM | MAE | LPIPS |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(result.set for result in results):
        ours = [result for result in results if result.set == name]
        rows = [(str(len(result.images)), result.mean()) for result in ours]
        rows += [("", row) for row in paper.get(name, [])]
        for n, row in rows:
            cells = [number(getattr(row, metric), metric) for metric in METRICS]
            lines.append(f"| {name} | {n} | {row.method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_json(results: Sequence[Result], about: dict[str, Any], path: Path) -> None:
    """All values, those of each picture too. An infinite PSNR (equal pictures) becomes null."""

    def finite(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    content = {
        **about,
        "results": [
            {
                "set": result.set,
                "method": result.method,
                "n": len(result.images),
                "mean": {m: finite(getattr(result.mean(), m)) for m in METRICS},
                "images": {
                    name: {m: finite(v) for m, v in values.items()}
                    for name, values in result.images.items()
                },
            }
            for result in results
        ],
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def best_and_worst(ours: Result, before: Result, count: int = 3) -> list[str]:
    """The pictures with the largest gain of PSNR over the degraded ones, then the smallest."""

    def gain(name: str) -> float:
        psnr, old = ours.images[name]["psnr"], before.images[name]["psnr"]
        assert psnr is not None and old is not None
        return psnr - old if math.isfinite(psnr - old) else 0.0

    ranked = sorted(ours.images, key=gain, reverse=True)
    return ranked if len(ranked) <= 2 * count else ranked[:count] + ranked[-count:]


def contact_sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]]) -> Image.Image:
    """Rows of pictures (H,W,3 uint8) under a caption each."""
    caption, strips = 16, []
    for text, pictures in rows:
        cells = []
        for pixels in pictures:
            cell = Image.fromarray(pixels)
            cell.thumbnail((SHEET_SIDE, SHEET_SIDE * 4))
            cells.append(cell)
        height = max(cell.height for cell in cells)
        strip = Image.new("RGB", (sum(cell.width + 4 for cell in cells), height + caption), "white")
        ImageDraw.Draw(strip).text((4, 2), text, fill="black")
        left = 0
        for cell in cells:
            strip.paste(cell, (left, caption))
            left += cell.width + 4
        strips.append(strip)
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet
