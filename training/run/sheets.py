"""The images of a run: sample sheets with labels, and the curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.dataset import UNUSED_FROM, Key
from ..data.loader import collate
from ..data.sheets import Cell, Row, draw_sheet, to_pixels
from ..data.synthesis import render_batch
from .records import read_log
from .trainer import Trainer

SHOWN = 4
"""Samples in a sample sheet."""

COLUMNS = ("A, as G sees it", "L = G(A)", "before reblur", "B", "G(B)")

LOSSES = {
    "adv": "adversarial (eq. 4)", "D": "D (eq. 3)", "recon": "reconstruction (eq. 6)",
    "sr_B": "self-regression B (eq. 8)", "sr_A": "self-regression A (eq. 9)", "reblur": "reblur",
    "ssim": "1 - SSIM", "lpips": "LPIPS",
}  # fmt: skip

MARKED = 12
"""A line through fewer points than this shows each of them: one alone would not be seen."""


def draw_curve(out: Path) -> Path:
    """Draws log.jsonl into curve.png: the losses, and below them the validations."""
    from matplotlib.figure import Figure

    lines = read_log(out)
    measured = sorted({k for line in lines for k in line if k.startswith("validation ")})
    figure = Figure(figsize=(9, 9 if measured else 5), layout="constrained")
    axes = figure.subplots(2 if measured else 1, 1, squeeze=False)[:, 0]
    for name, label in LOSSES.items():
        plot(axes[0], lines, name, label)
    axes[0].set(xlabel="step", ylabel="loss", yscale="log")
    for name in measured:
        if name.endswith(" psnr"):
            plot(axes[1], lines, name, name.removeprefix("validation ").removesuffix(" psnr"))
    if measured:
        axes[1].set(xlabel="step", ylabel="PSNR on held-out images, dB")
    for axis in axes:
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    figure.savefig(out / "curve.png", dpi=120)
    return out / "curve.png"


def plot(axis, lines: Sequence[dict], name: str, label: str) -> None:
    """One value over the steps, where it was logged."""
    points = [(line["step"], line[name]) for line in lines if line.get(name)]
    if points:
        marker = "o" if len(points) < MARKED else None
        axis.plot(*zip(*points, strict=True), label=label, linewidth=1, marker=marker, markersize=4)


@torch.no_grad()
def sample_sheet(trainer: Trainer) -> Tensor:
    """Rows of A, L = G(A), the reblur target or G_inv(L), B and G(B), of samples that no step uses.

    H,W,3 uint8.
    """
    span = trainer.schedule.at(trainer.step - 1)
    keys = [Key(span.index, UNUSED_FROM + k) for k in range(SHOWN)]
    loaded = collate([trainer.images[key] for key in keys])
    batch = render_batch(loaded.A, loaded.B, span.config.data, trainer.accelerator.device)
    G, G_inv = trainer.restored_by, trainer.G_inv
    networks = [n for n in (G, G_inv) if n is not None]
    modes = [(network, network.training) for network in networks]
    for network, _ in modes:
        network.eval()
    # forward() itself bypasses the compiled call: compiling is not worth it for a few images.
    L = G.forward(batch.A_input)
    third, labels = batch.reblur_target, list[str](COLUMNS)
    if third is None:
        third = batch.A if G_inv is None else G_inv.forward(L)
        labels[2] = "A" if G_inv is None else "G_inv(L)"
    columns = [batch.A_input, L, third, batch.B, G.forward(batch.B)]
    for network, mode in modes:
        network.train(mode)
    return image_sheet(list(zip(*columns, strict=True)), labels)


def image_sheet(rows: Sequence[Sequence[Tensor]], labels: Sequence[str]) -> Tensor:
    """Rows of images (3,H,W in [-1, 1]) side by side, each under its label: H,W,3 uint8.

    Args:
        labels: one per column.
    """
    cells = [
        Row("", [Cell(label, to_pixels(image)) for label, image in zip(labels, row, strict=True)])
        for row in rows
    ]
    return torch.from_numpy(np.array(draw_sheet(cells)))


def write_image(sheet: Tensor, path: Path) -> None:
    """H,W,3 uint8 as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.numpy()).save(path)
