"""Colour profiles with tables, converted by littlecms: in libvips, or without it in Pillow."""

from __future__ import annotations

import functools
import hashlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from .formats import Unreadable


class ColourError(Unreadable):
    """Why colours cannot be converted; the message goes on after the file's name."""


def by_library(icc: bytes, name: str, pixels: np.ndarray, back: bool) -> np.ndarray:
    """H,W,C through littlecms: in libvips at 16 bits, in Pillow, without libvips, at 8."""
    try:
        import pyvips
    except (ImportError, OSError):
        return _by_pillow(icc, pixels, back)
    interpretation = "b-w" if pixels.shape[2] == 1 else "srgb"
    if pixels.dtype == np.uint16:
        interpretation = "grey16" if pixels.shape[2] == 1 else "rgb16"
    image = pyvips.Image.new_from_array(np.ascontiguousarray(pixels), interpretation=interpretation)
    options = {"depth": 16, "intent": "relative", "black_point_compensation": True}
    channels = pixels.shape[2]
    grey = channels == 1
    try:
        if back:
            source = np.repeat(pixels, 3, 2) if grey else pixels
            image = pyvips.Image.new_from_array(source, interpretation="rgb16")
            out = image.icc_transform(str(_file_of(icc)), input_profile="srgb", **options)
        else:
            image = image.copy()
            blob: Any = icc  # which pyvips' types leave out
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", blob)
            out = image.icc_transform("srgb", embedded=True, **options)
    except pyvips.Error as error:
        raise ColourError(f"has a colour profile ({name}) that cannot be used: {error}") from error
    converted = out.numpy().reshape(*pixels.shape[:2], -1)
    return converted[:, :, 1:2] if grey and converted.shape[2] > 1 else converted[:, :, :channels]


def _by_pillow(icc: bytes, pixels: np.ndarray, back: bool) -> np.ndarray:
    """Does the same at 8 bits."""
    eight = (pixels >> 8 if pixels.dtype == np.uint16 else pixels).astype(np.uint8)
    grey = pixels.shape[2] == 1
    own, srgb = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
    if back and grey:
        eight = np.repeat(eight, 3, 2)
    source = Image.fromarray(eight[:, :, 0] if eight.shape[2] == 1 else eight)
    first, second = (srgb, own) if back else (own, srgb)
    mode = "L" if grey and back else "RGB"
    try:
        out = ImageCms.profileToProfile(source, first, second, outputMode=mode)
    except (ImageCms.PyCMSError, OSError) as error:
        raise ColourError(f"has a colour profile that cannot be used: {error}") from error
    converted = np.asarray(out).reshape(*pixels.shape[:2], -1)
    converted = converted[:, :, 1:2] if grey and converted.shape[2] > 1 else converted
    return converted.astype(np.uint16) * 257


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """For profiles: libvips takes the one to convert into by its file's name only."""
    return tempfile.TemporaryDirectory(prefix="devudp-")


@functools.lru_cache(8)
def _file_of(icc: bytes) -> Path:
    path = Path(_folder().name) / f"{hashlib.sha256(icc).hexdigest()}.icc"
    path.write_bytes(icc)
    return path
