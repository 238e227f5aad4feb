"""Makes the README's images: before and after, whole and in part at full size.

    python -m tools.make_before_after FOLDER

FOLDER holds the photographs that samples/README.md names under "Before and after". Blur and
darkness of the third are made; the other two are as they are published.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Tensor

from devudp_model import Restorer, read_image
from devudp_model.ops.degrade import degrade
from devudp_model.ops.dtypes import to_unit
from devudp_model.restoring.tasks import Task

TARGET = Path(__file__).parents[1] / "assets"
SIDE, GAP = 208, 4
"""Pixels of a cell's sides, so that four cells fit into a page at full size; and between them."""


class Pair(NamedTuple):
    """A photograph: file, task, left and top of the part shown; made worse first if `seed`."""

    file: str
    task: Task
    part: tuple[int, int]
    seed: int | None = None


PAIRS = {
    "night": Pair("prudential-lossless.png", "low light", (190, 250)),
    "shaken": Pair("blur_05.png", "deblur", (560, 310)),
    "both": Pair("dog-lossless.png", "joint", (130, 130), seed=3),
}


def before_after(folder: Path, pair: Pair) -> tuple[Tensor, Tensor]:
    """Returns 1,3,H,W in [0, 1] twice: the photograph and the restored one."""
    image = to_unit(read_image(folder / pair.file).pixels)
    if pair.seed is not None:
        rng = torch.Generator().manual_seed(pair.seed)
        image = (degrade(image, rng, blur=9.0, light=0.1, noise=0.006) * 255).round() / 255
    return image, Restorer(task=pair.task)(image)


def draw(images: tuple[Tensor, Tensor], part: tuple[int, int]) -> Image.Image:
    """Lays out four cells: both images whole, their middle square; then a part of each."""
    found = [Image.fromarray((x[0] * 255).round().byte().permute(1, 2, 0).numpy()) for x in images]
    cells = [ImageOps.fit(image, (SIDE, SIDE)) for image in found]
    cells += [image.crop((*part, part[0] + SIDE, part[1] + SIDE)) for image in found]
    sheet = Image.new("RGB", (4 * SIDE + 3 * GAP, SIDE), "white")
    for number, cell in enumerate(cells):
        sheet.paste(cell, (number * (SIDE + GAP), 0))
    return sheet


if __name__ == "__main__":
    for name, pair in PAIRS.items():
        sheet = draw(before_after(Path(sys.argv[1]), pair), pair.part)
        sheet.save(TARGET / f"{name}.jpg", quality=92, optimize=True)
