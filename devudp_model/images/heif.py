"""HEIC files, by pillow-heif (the extra `formats`), loaded when the first one comes.

Its plugin for Pillow is not used: it turns 10-bit grey white, and would change what Pillow reads
for whatever else runs in the process.
"""

from __future__ import annotations

import dataclasses
from typing import BinaryIO

import numpy as np

from . import colour
from .isobmff import Container
from .metadata import Metadata
from .raster import RasterImage, decoder, from_array


def described(container: Container) -> tuple[Metadata, colour.Space | None]:
    """Returns what an AVIF or HEIC file says, and what its numbers mean without a profile.

    Raises:
        ColourError: the colours cannot be converted.
    """
    space, chunks = None, ()
    if container.image.nclx is not None and not container.image.icc:
        space = colour.space_of_cicp(*container.image.nclx)
        full_rgb = bytes([*container.image.nclx, 0, 1])
        chunks = ((b"cICP", full_rgb),) if space is not None else ()
    metadata = Metadata(
        icc=container.image.icc,
        exif=container.exif,
        xmp=container.xmp.strip(b"\0"),
        chunks=chunks,
        parts=tuple(container.parts),
    )
    return metadata, space


def scaled(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Changes uint16 whose first `bits` count, so that white is 65535: decoders shift only."""
    if 8 < bits < 16:
        pixels |= pixels >> bits
    return pixels


def read(file: BinaryIO, container: Container) -> RasterImage:
    """Decodes the main image, which the decoder turns upright.

    Raises:
        MissingPackage: pillow-heif is not installed.
        ColourError: the colours cannot be converted.
    """
    metadata, space = described(container)
    file.seek(0)
    opened = decoder("heic").open_heif(file, convert_hdr_to_8bit=False)
    pixels = np.asarray(opened)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    bits = opened.info.get("bit_depth", 8)
    if pixels.dtype == np.uint16:
        pixels = scaled(pixels.copy(), bits)
    if len(opened) > 1:
        more = "second image" if len(opened) == 2 else "further images"
        metadata = dataclasses.replace(metadata, parts=(*metadata.parts, more))
    has_alpha = opened.mode.startswith(("RGBA", "LA"))
    return from_array(pixels, has_alpha, 1, 16 if bits > 8 else 8, metadata, space)
