"""Images of more than 8 bits a channel: PNG, TIFF and AVIF, decoded by libvips."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from . import colour, eight_bit, heif, high_bit_depth, tiff
from .checks import Tags, refuse_several
from .formats import Unreadable
from .isobmff import Container
from .metadata import ORIENTATION, Metadata, exif_of_tiff
from .raster import RasterImage, from_array


def read(file: BinaryIO, path: Path, image: Image.Image | None, tags: Tags) -> RasterImage:
    """PNG and TIFF; `image` is None where Pillow cannot open it."""
    kind = "PNG" if image is not None and image.format == "PNG" else "TIFF"
    decoded = high_bit_depth.read(path, kind, tiff.describe_layout(tags))
    metadata, space = decoded.metadata, None
    orientation = decoded.orientation
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
        metadata = Metadata.of(image, file)
    if kind == "PNG":
        metadata, space = eight_bit.with_chunks(metadata, file)
    if decoded.pixels.dtype.kind == "f":
        space = colour.linear_space()
    bits = 8 if decoded.pixels.dtype.itemsize == 1 else 16  # 8: a layout that Pillow cannot read
    return from_array(decoded.pixels, decoded.has_alpha, orientation, bits, metadata, space)


def read_avif(path: Path, container: Container) -> RasterImage | None:
    """Decodes one of more than 8 bits; None where that is Pillow's task, as libvips is missing.

    Raises:
        Unreadable, ColourError: it cannot be.
    """
    if container.image.bits <= 8:
        return None
    try:
        high_bit_depth.load_vips()
    except Unreadable:
        return None
    decoded = high_bit_depth.read(path, "AVIF")
    refuse_several(decoded.pages, path)
    metadata, space = heif.described(container)
    pixels = heif.scaled(decoded.pixels, container.image.bits)
    return from_array(pixels, decoded.has_alpha, 1, 16, metadata, space)
