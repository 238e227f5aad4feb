"""Writes image files, complete or not at all."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, features

from ..bands.rows import bands_of
from ..system.atomic import replacing
from . import colour, exif, gain_map, high_bit_depth, png, tiff_exif
from .formats import BY_NAME, WRITABLE, Unreadable, advice, is_installed
from .raster import ImageError, RasterImage, decoder, to_array

log = logging.getLogger("devudp")

SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    # Runs only, no repetitions, of which photographs have none: files as large as with level 4 (and
    # 2 % larger than with the default), in less than half of its time.
    "png": {"compress_level": 4, "compress_type": zlib.Z_RLE},
    "jpeg": {"quality": 95, "subsampling": "4:4:4"},
    "webp": {"quality": 95, "exact": True},
    "tiff": {},  # not compressed: Pillow's compressing writer cannot keep EXIF
    "bmp": {},
    "avif": {"quality": 90, "subsampling": "4:4:4"},
    "jxl": {"quality": 95, "use_container": True},
}

COPY_BYTES = 2**20
"""That are copied at a time."""


def check_format(image: RasterImage, format: str) -> None:
    """Checks that `format` can hold the image, before the work is done.

    Raises:
        ImageError: it is unknown, or cannot hold transparency or an image as long.
    """
    if format not in WRITABLE:
        raise ImageError(f"Unknown format {format!r}: choose one of {', '.join(WRITABLE)}.")
    able, label = BY_NAME[format], format.upper()
    if not is_installed(able):
        raise ImageError(f"{label} needs one more package. {advice(able)}")
    if format == "avif" and not features.check("avif"):
        raise ImageError("AVIF needs Pillow 11.3 or newer. Update Pillow, or use png or tiff.")
    if image.alpha is not None and not able.alpha:
        raise ImageError(f"{label} cannot hold transparency. Use png, webp or tiff.")
    longest = max(image.pixels.shape[-2:])
    if able.longest and longest > able.longest:
        raise ImageError(
            f"{label} holds at most {able.longest} pixels a side, and this image has {longest}. "
            "Use png or tiff."
        )


def write_image(
    path: str | os.PathLike[str],
    image: RasterImage,
    format: str = "png",
    *,
    overwrite: bool = True,
) -> None:
    """Writes an image with its metadata; the file is complete or not there.

    The colours go back into the space of the file that the image was read from, where `format`
    can say it; else they are sRGB. PNG and TIFF keep 16 bits. What of the file's content is lost or
    converted is logged as a warning.

    Args:
        path: the file; its suffix is not looked at.
        image: as read, usually with other pixels.
        format: one of `WRITABLE`.
        overwrite: whether an existing file is replaced.

    Raises:
        FileExistsError: there is one, and it must not be replaced.
        ImageError: the format cannot hold it, or 16 bits need a library that is missing.
        OSError: the folder cannot be written to, or the disk is full.
    """
    check_format(image, format)
    image, said = in_space_of_file(image, format)
    said += image.metadata.said_of(format)
    deep = image.bits > 8 and BY_NAME[format].write_bits > 8
    if image.bits > 8 and not deep:
        said += (f"it has 8 bits a channel, as {format} does; png and tiff keep 16",)
    with replacing(path, overwrite=overwrite) as file:
        if format == "tiff" and tiff_exif.fits(image.metadata.exif):
            rest = dataclasses.replace(image.metadata, exif=b"")
            start = tiff_exif.begin(file, image.metadata.exif)
            directory = _write(file, path, dataclasses.replace(image, metadata=rest), format, start)
            tiff_exif.join(file, image.metadata.exif, directory)
        else:
            _write(file, path, image, format)
    for sentence in dict.fromkeys(said):
        log.warning("%s: %s.", path, sentence)


def copy_file(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, overwrite: bool = True
) -> None:
    """Copies a file byte for byte; the copy is complete or not there.

    Raises:
        FileExistsError, OSError: as `write_image`.
    """
    with Path(source).open("rb") as content, replacing(target, overwrite=overwrite) as file:
        shutil.copyfileobj(content, file, COPY_BYTES)


def in_space_of_file(image: RasterImage, format: str) -> tuple[RasterImage, tuple[str, ...]]:
    """Returns the image with its colours as the result's file is to have them, and what to say."""
    origin, metadata = image.origin, image.metadata
    if origin is None:
        return image, ()
    of_file = origin.pixels.shape == image.pixels.shape
    if of_file and origin.space.kind in BY_NAME[format].colour:
        pixels = colour.from_srgb(image.pixels, origin.pixels, origin.space)
        return dataclasses.replace(image, pixels=pixels), ()
    others = tuple(each for each in metadata.chunks if each[0] not in png.COLOUR)
    block = exif.as_srgb(metadata.exif) if metadata.exif else b""
    metadata = dataclasses.replace(metadata, icc=b"", chunks=others, exif=block)
    more = ", without its light above white" if origin.space.hdr else ""
    said = f"its colours ({origin.space.name}) are converted to sRGB{more}"
    return dataclasses.replace(image, metadata=metadata, origin=None), (said,)


def _write(
    file: BinaryIO, path: str | os.PathLike[str], image: RasterImage, format: str, start: int = 0
) -> int:
    """By libvips, where 8 bits are too few, or by Pillow.

    Args:
        file: to write to.
        path: for messages.
        image, format: as `write_image`.
        start: of TIFF, where in the file it begins.

    Returns:
        Of TIFF, where the image's directory lies.
    """
    if image.bits > 8 and BY_NAME[format].write_bits > 8:
        of_floats = image.origin is not None and image.origin.pixels.is_floating_point()
        kind = np.float32 if of_floats and image.pixels.dtype == torch.float32 else np.uint16
        try:
            content = high_bit_depth.encode(to_array(image, kind), image.metadata, format)
        except Unreadable as error:
            raise ImageError(f"{path} {error}") from error
        file.write(tiff_exif.moved(content, start) if start else content)
        return int.from_bytes(content[4:8], "little") + max(start - 8, 0)
    pillow = to_pillow(image)
    if format == "jxl":
        decoder("jxl")  # which registers it
    options = {**SAVE_OPTIONS[format], **image.metadata.save_options(format)}
    chunks = png.as_bytes(image.metadata.chunks) if format == "png" else b""
    target: Any = png.WithChunks(file, chunks) if chunks else file
    pillow.save(target, format, **options)
    if BY_NAME[format].gain_map and image.metadata.gain_map is not None:
        gain_map.append(file, image.metadata.gain_map)
    return start


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
