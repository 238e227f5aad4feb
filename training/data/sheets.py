"""Labelled contact sheets: images side by side, each under a caption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

CAPTION_HEIGHT = 16
GAP = 4
FRAME = "#d0661c"


class Cell(NamedTuple):
    """An image of a sheet, H,W,3 uint8, its caption, and True if a frame is to point it out."""

    caption: str
    pixels: np.ndarray
    framed: bool = False


class Row(NamedTuple):
    """Cells side by side, under a title; an empty title takes no space."""

    title: str
    cells: Sequence[Cell]


def to_pixels(image: Tensor) -> np.ndarray:
    """3,H,W in [-1, 1], clipped, to H,W,3 uint8."""
    pixels = ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(1, 2, 0).cpu().numpy()


def draw_sheet(rows: Sequence[Row], max_side: int = 0) -> Image.Image:
    """Draws rows of captioned images below each other, black on white.

    Args:
        rows: at least one; cells may differ in size.
        max_side: larger images are reduced to this width and height, pixels; 0: none are.
    """
    return stack([draw_row(row, max_side) for row in rows])


def draw_row(row: Row, max_side: int) -> Image.Image:
    """One row: the title, and below it the cells from left to right."""
    cells = [draw_cell(cell, max_side) for cell in row.cells]
    strip = Image.new("RGB", (sum(c.width for c in cells), max(c.height for c in cells)), "white")
    left = 0
    for cell in cells:
        strip.paste(cell, (left, 0))
        left += cell.width
    return stack([caption(row.title), strip]) if row.title else strip


def draw_cell(cell: Cell, max_side: int) -> Image.Image:
    """One image below its caption, with a gap at the right."""
    image = Image.fromarray(cell.pixels)
    if max_side:
        image.thumbnail((max_side, max_side))
    if cell.framed:
        ImageDraw.Draw(image).rectangle((0, 0, image.width - 1, image.height - 1), None, FRAME, GAP)
    framed = Image.new("RGB", (image.width + GAP, image.height), "white")
    framed.paste(image)
    return stack([caption(cell.caption), framed])


def caption(text: str) -> Image.Image:
    """Returns a line of text; what Pillow's built-in font may lack is shown as question marks."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    line = Image.new("RGB", (round(pen.textlength(text)) + 2 * GAP, CAPTION_HEIGHT), "white")
    ImageDraw.Draw(line).text((GAP, 2), text, fill="black")
    return line


def stack(images: Sequence[Image.Image]) -> Image.Image:
    """Images below each other, aligned at the left."""
    width, height = max(i.width for i in images), sum(i.height for i in images)
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    return sheet
