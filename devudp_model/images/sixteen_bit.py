"""Images of more than 8 bits a channel: PNG, TIFF and AVIF, decoded by libvips."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from . import colour, eight_bit, heif, high_bit_depth, tiff
from .checks import Reserve, Tags, check_size, refuse_several
from .isobmff import Container
from .metadata import ORIENTATION, Metadata, exif_of_tiff
from .raster import RasterImage, from_array

ROWS = 256
"""Of the bands in which alpha is taken out of colours."""


def read(file: BinaryIO, path: Path, image: Image.Image | None, tags: Tags) -> RasterImage:
    """PNG and TIFF; `image` is None where Pillow cannot open it."""
    kind = "PNG" if image is not None and image.format == "PNG" else "TIFF"
    found = high_bit_depth.read(path, kind, tiff.describe_layout(tags))
    pixels, metadata, space = found.pixels, found.metadata, None
    orientation = found.orientation
    if image is None:
        refuse_several(tiff.count_pages(file), path)
        if not tiff.is_big(file):  # Pillow reads no EXIF of such files
            metadata = dataclasses.replace(metadata, exif=exif_of_tiff(file))
        elif any(tag in tags for tag in tiff.EXIF_DIRECTORIES):
            lost = (*metadata.lost, "the EXIF data of such a BigTIFF file are not kept")
            metadata = dataclasses.replace(metadata, lost=lost)
    else:
        orientation = image.getexif().get(ORIENTATION, 1)
        if kind == "PNG":
            image.load()  # text may come after the pixels
        metadata = Metadata.of(image)
    if kind == "PNG":
        metadata, space = eight_bit.with_chunks(metadata, file)
    elif found.has_alpha and tags.get(tiff.EXTRA_SAMPLES, ())[:1] == (tiff.ASSOCIATED,):
        pixels = straight(pixels)
    if pixels.dtype.kind == "f":
        space = colour.linear_space()
    return from_array(pixels, found.has_alpha, orientation, 16, metadata, space)


def straight(pixels: np.ndarray) -> np.ndarray:
    """H,W,C with colours that the alpha, the last channel, has not been multiplied into."""
    out = np.empty_like(pixels)
    most = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else None
    for start in range(0, len(pixels), ROWS):
        band = pixels[start : start + ROWS].astype(np.float32)
        alpha = band[..., -1:] / (most or 1)
        band[..., :-1] = np.divide(band[..., :-1], alpha, where=alpha > 0, out=band[..., :-1] * 0)
        band = band if most is None else (band + 0.5).clip(0, most)
        out[start : start + ROWS] = band
    return out


def read_avif(
    file: BinaryIO, path: Path, container: Container, reserve: Reserve
) -> RasterImage | None:
    """Decodes one of more than 8 bits; None where that is Pillow's task, as libvips is missing.

    Raises:
        Unreadable, ColourError: it cannot be.
    """
    if container.image.bits <= 8:
        return None
    try:
        high_bit_depth.load_vips()
    except high_bit_depth.HighBitDepthError:
        return None
    check_size(*container.image.size, 4, 8, os.fstat(file.fileno()).st_size, reserve)
    found = high_bit_depth.read(path, "AVIF")
    refuse_several(found.pages, path)
    metadata, space = heif.described(container)
    pixels = heif.scaled(found.pixels, container.image.bits)
    return from_array(pixels, found.has_alpha, 1, 16, metadata, space)
