"""Images of 8 bits a channel, decoded by Pillow."""

from __future__ import annotations

import dataclasses
import io
import logging
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms

from . import colour, exif, gain_map, png, segments, tiff
from .formats import Unreadable
from .metadata import ORIENTATION, Metadata
from .raster import RasterImage, from_array

log = logging.getLogger("devudp")

BAND_BYTES = 2**22
"""Of the bands in which pixels are taken over from Pillow."""


END_OF_IMAGE = b"\xff\xd9"

TAIL_BYTES = 2**20
"""Of a JPEG file, in which its end is looked for."""


def read(
    image: Image.Image,
    file: BinaryIO | None = None,
    described: tuple[Metadata, colour.Space | None] | None = None,
) -> RasterImage:
    """Decodes an opened image.

    Args:
        image: of Pillow.
        file: the one that it lies in.
        described: its metadata and space where they are known already.

    Raises:
        Unreadable: its colours are of a kind that cannot be restored.
        ColourError: the colours cannot be converted.
    """
    is_cmyk, image_format = image.mode == "CMYK", image.format
    tags = getattr(image, "tag_v2", None) or {}
    channels = tags.get(tiff.SAMPLES, len(image.getbands()))
    is_png, is_jpeg = image_format == "PNG", image_format in ("JPEG", "MPO")
    image.load()
    orientation = image.getexif().get(ORIENTATION, 1)  # after load, which turns TIFF itself
    metadata, space = described or (Metadata.of(image, file), None)
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if image.mode in ("1", "L", "LA", "La"):
        image = image.convert("LA") if image.mode == "La" else image
        mode = "LA" if has_alpha else "L"
    elif image.mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK"):
        image = cmyk_to_rgb(image) if is_cmyk else image
        mode = "RGBA" if has_alpha else "RGB"
    else:
        raise Unreadable(
            f"has colours of a kind ({image.mode}) that cannot be restored. Convert it to RGB."
        )
    image = image if image.mode == mode else image.convert(mode)
    lost = list(metadata.lost)
    lost += ["its colours (CMYK) are converted to sRGB"] if is_cmyk else []
    if channels > (4 if is_cmyk else len(mode)):
        lost.append("its further channels, of which nothing is said, are not kept")
    # CMYK's profile has been used, and is not that of the pixels any more.
    icc = b"" if is_cmyk else metadata.icc
    metadata = dataclasses.replace(metadata, icc=icc, lost=tuple(lost))
    if image.mode == "RGB" and not metadata.icc and exif.is_adobe_rgb(metadata.exif):
        space = colour.adobe_space()
    if file is not None and is_png:
        metadata, space = with_chunks(metadata, file)
    if file is not None and image_format == "WEBP":
        lost = (*metadata.lost, *segments.said_of_webp(file))
        metadata = dataclasses.replace(metadata, lost=lost)
    if file is not None and is_jpeg:
        metadata = with_gain_map(metadata, file, orientation, image.width * image.height)
    if file is not None and is_jpeg and has_more(file):
        parts = metadata.parts or ("further data behind the image",)
        metadata = dataclasses.replace(metadata, parts=parts)
    return from_array(to_numpy(image), has_alpha, orientation, 8, metadata, space)


def with_gain_map(metadata: Metadata, file: BinaryIO, orientation: int, most: int) -> Metadata:
    """Adds a JPEG file's gain map, upright; most: pixels that it may have."""
    found = gain_map.find(file)
    return (
        metadata
        if found is None
        else dataclasses.replace(metadata, gain_map=gain_map.upright(found, orientation, most))
    )


def with_chunks(metadata: Metadata, file: BinaryIO) -> tuple[Metadata, colour.Space | None]:
    """Adds a PNG file's chunks; returns what they say of its colours, too.

    Raises:
        ColourError: the colours cannot be converted.
    """
    chunks = png.colour_chunks(file)
    space = png.space_of(chunks, profile=bool(metadata.icc))
    icc = b"" if b"cICP" in dict(chunks) else metadata.icc  # which readers then pass over
    if icc:
        chunks = tuple(each for each in chunks if each[0] not in (b"sRGB", b"gAMA", b"cHRM"))
    further, names = segments.further_chunks(file)
    said = f"its own PNG chunks ({', '.join(names)}) are not kept"
    lost = (*metadata.lost, said) if names else metadata.lost
    return dataclasses.replace(metadata, icc=icc, chunks=(*chunks, *further), lost=lost), space


def has_more(file: BinaryIO) -> bool:
    """Returns whether a JPEG file has more behind its end, such as an editor's own data."""
    size = file.seek(0, 2)
    file.seek(max(0, size - TAIL_BYTES))
    tail = file.read().rstrip(b"\0\n\r ")
    end = tail.rfind(END_OF_IMAGE)
    return 0 <= end < len(tail) - len(END_OF_IMAGE)


def to_numpy(image: Image.Image) -> np.ndarray:
    """H,W,C of a loaded image, made in bands: Pillow would hold all of it three times."""
    array = np.empty((image.height, image.width, len(image.getbands())), np.uint8)
    rows = max(1, BAND_BYTES // (array[:1].nbytes or 1))
    for start in range(0, image.height, rows):
        band = image.crop((0, start, image.width, min(start + rows, image.height)))
        array[start : start + rows] = np.asarray(band).reshape(-1, *array.shape[1:])
    return array


def cmyk_to_rgb(image: Image.Image) -> Image.Image:
    """By the image's own profile to sRGB; without one, by the plain formula."""
    if profile := image.info.get("icc_profile"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            return converted or image.convert("RGB")
        except (ImageCms.PyCMSError, OSError) as error:
            log.warning("The image's colour profile is damaged and not used: %s", error)
    return image.convert("RGB")
