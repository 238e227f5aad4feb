"""Writes image files, complete or not at all."""

from __future__ import annotations

import dataclasses
import logging
import os
import zlib
from typing import Any

import numpy as np
from PIL import Image

from ..bands.rows import bands_of
from ..system.atomic import replacing
from . import high_bit_depth
from .raster import FORMATS, ImageError, RasterImage, to_array

log = logging.getLogger("devudp")

SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    # Runs only, no repetitions, of which photographs have none: files as large as with level 4 (and
    # 2 % larger than with the default), in less than half of its time.
    "png": {"compress_level": 4, "compress_type": zlib.Z_RLE},
    "jpeg": {"quality": 95, "subsampling": "4:4:4"},
    "webp": {"quality": 95, "exact": True},
    "tiff": {},  # not compressed: Pillow's compressing writer cannot keep EXIF
    "bmp": {},
}

LONGEST_SIDES = {"webp": 16_383, "jpeg": 65_500}
"""Pixels that a side of an image may have in a format; the others have no such limit."""


def check_format(image: RasterImage, format: str) -> None:
    """Checks that `format` can hold the image, before the work is done.

    Raises:
        ImageError: it is unknown, or cannot hold transparency or an image as long.
    """
    if format not in FORMATS:
        raise ImageError(f"Unknown format {format!r}: choose one of {', '.join(FORMATS)}.")
    if image.alpha is not None and format in ("jpeg", "bmp"):
        raise ImageError(f"{format.upper()} cannot hold transparency. Use png, webp or tiff.")
    longest = max(image.pixels.shape[-2:])
    if longest > LONGEST_SIDES.get(format, longest):
        raise ImageError(
            f"{format.upper()} holds at most {LONGEST_SIDES[format]} pixels a side, and this image "
            f"has {longest}. Use png or tiff."
        )


def write_image(
    path: str | os.PathLike[str],
    image: RasterImage,
    format: str = "png",
    *,
    overwrite: bool = True,
) -> None:
    """Writes an image with its metadata; the file is complete or not there.

    PNG and TIFF keep 16 bits.

    Args:
        path: the file; its suffix is not looked at.
        image: as read, usually with other pixels.
        format: one of `FORMATS`.
        overwrite: whether an existing file is replaced.

    Raises:
        FileExistsError: there is one, and it must not be replaced.
        ImageError: the format cannot hold it, or 16 bits need a library that is missing.
        OSError: the folder cannot be written to, or the disk is full.
    """
    check_format(image, format)
    if image.bits > 8 and format in ("png", "tiff"):
        try:
            content = high_bit_depth.encode(to_array(image, np.uint16), image.metadata, format)
        except high_bit_depth.HighBitDepthError as error:
            raise ImageError(f"{path} {error}") from error
        with replacing(path, overwrite=overwrite) as file:
            file.write(content)
        return
    if image.bits > 8:
        log.warning("%s has 8 bits a channel, as %s does; png and tiff keep 16.", path, format)
    pillow = to_pillow(image)
    with replacing(path, overwrite=overwrite) as file:
        options = image.metadata.save_options(format)
        pillow.save(file, format, **SAVE_OPTIONS[format], **options)


def to_pillow(image: RasterImage) -> Image.Image:
    """L, LA, RGB or RGBA, 8 bits; made in bands, so that there is no other copy of the whole."""
    channels = image.pixels.shape[1] + (image.alpha is not None)
    height, width = image.pixels.shape[-2:]
    pillow = Image.new(("L", "LA", "RGB", "RGBA")[channels - 1], (width, height))
    for _, start, stop in bands_of(image.pixels):
        rows = slice(start, stop)
        band = dataclasses.replace(
            image,
            pixels=image.pixels[:, :, rows],
            alpha=None if image.alpha is None else image.alpha[:, :, rows],
        )
        array = to_array(band, np.uint8)
        part = Image.fromarray(array[:, :, 0] if channels == 1 else array)
        pillow.paste(part, (0, start))
    return pillow
