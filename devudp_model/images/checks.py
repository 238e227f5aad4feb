"""Checks what an image file claims before it is decoded: its size, how many images it holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from ..system.untrusted import check_claim
from . import tiff
from .raster import ImageError

Tags = dict[int, tuple[int, ...]]
"""Of a TIFF file: see `tiff.read_tags`; {} of others."""

OnSizeKnown = Callable[[int], None]
"""Gets the bytes of the pixels before they are decoded; what it raises goes through."""

FLOAT_COPIES = 2
"""The input and the result, float32, are in memory beside what the decoder gives."""

COUNTING_SECONDS = 0.5
"""How long the frames of an animation are counted; one too many is enough."""


def check_tiff(tags: Tags, size: int, on_size_known: OnSizeKnown) -> None:
    if tiff.WIDTH in tags and tiff.HEIGHT in tags:
        [width], [height] = tags[tiff.WIDTH][:1], tags[tiff.HEIGHT][:1]
        [channels] = tags.get(tiff.SAMPLES, (1,))[:1]
        decoded = -(-tiff.bits_per_pixel(tags) // 8)
        check_size(width, height, channels, decoded, size, on_size_known)
    tiff.check_complete(tags, size)


def check_size(
    width: int,
    height: int,
    channels: int,
    decoded: int,
    size: int,
    on_size_known: OnSizeKnown,
) -> None:
    """Checks that an image fits into memory; `decoded`: the decoder's bytes a pixel."""
    needed = width * height * (decoded + 4 * FLOAT_COPIES * channels)
    what = f"claims to be {width}x{height} pixels"
    check_claim(needed, size, what, "Cut it into parts, or")
    on_size_known(width * height * decoded)


def count_pages(image: Image.Image, file: BinaryIO) -> int:
    """Counts the images in the file, without small versions of another."""
    if image.format == "MPO":  # a camera's previews and depth maps
        return 1
    if image.format == "TIFF":
        position = file.tell()
        pages = tiff.count_pages(file)
        file.seek(position)
        return pages
    if image.format != "GIF":
        return getattr(image, "n_frames", 1)
    pages, until = 1, time.monotonic() + COUNTING_SECONDS
    try:
        while time.monotonic() < until:  # Pillow decodes every frame on the way
            image.seek(pages)
            pages += 1
    except EOFError:
        pass
    image.seek(0)
    return pages


def refuse_several(pages: int, path: Path) -> None:
    if pages > 1:
        raise ImageError(
            f"{path} holds {pages} images (an animation, or pages), and restoring would lose all "
            "but one. Split it, for instance with 'mkdir frames' and "
            f"'ffmpeg -i {path.name} frames/%05d.png', and restore the folder frames."
        )
