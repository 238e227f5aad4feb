"""Images of files: their pixels, in the file's own depth or as numbers in [0, 1], and metadata.

    image = read_image("IMG_0001.jpg")
    restored = restore(image.pixels, generator)
    write_image("out/IMG_0001.png", replace(image, pixels=restored))

`reading.py` and `writing.py` know the file formats.
"""

from __future__ import annotations

import dataclasses
import io
import logging

import numpy as np
import torch
from PIL import ImageCms
from torch import Tensor

from ..bands.rows import bands_of
from ..ops.dtypes import LARGEST, from_unit, to_unit
from .metadata import Metadata

log = logging.getLogger("devudp")

FORMATS: dict[str, tuple[str, ...]] = {
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg", ".jfif"),
    "webp": (".webp",),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp",),
}
"""What can be written, and the suffixes of each, the usual one first."""

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""Suffixes of the image files in a folder."""


class ImageError(ValueError):
    """A file cannot be read or written as an image; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class RasterImage:
    """A decoded image file, turned upright.

    Attributes:
        pixels: 1,C,H,W float32 in [0, 1], C = 1 (grey) or 3, in the file's own colour space; or,
            as it is stored, uint8 or uint16 over the whole range.
        alpha: 1,1,H,W likewise, or None.
        bits: 8 or 16, what it takes to write it without loss.
        metadata: what else the file says.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    bits: int = 8
    metadata: Metadata = dataclasses.field(default_factory=Metadata)


def from_array(
    pixels: np.ndarray, has_alpha: bool, orientation: int, bits: int, metadata: Metadata
) -> RasterImage:
    """H,W,C whole numbers, or floats in [0, 1], to an image as it is stored."""
    pixels = upright(pixels, orientation)
    # torch does not know negative strides; numpy calls an array of one row contiguous with them.
    pixels = pixels.copy() if min(pixels.strides) < 0 else np.ascontiguousarray(pixels)
    channels = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    if channels.is_floating_point():
        channels = channels.float()
    colours = channels[:, :-1] if has_alpha else channels
    # A profile's header says what pixels it is for. One for others (CMYK that was converted,
    # RGB's in a grey image) would mislead.
    wanted = b"GRAY" if colours.shape[1] == 1 else b"RGB "
    if metadata.icc[16:20] != wanted or not is_whole_profile(metadata.icc):
        metadata = dataclasses.replace(metadata, icc=b"")
    return RasterImage(colours, channels[:, -1:] if has_alpha else None, bits, metadata)


def is_whole_profile(icc: bytes) -> bool:
    """Whether a colour profile can be opened; says so if not.

    Some encoders would drop one that cannot, without a word.
    """
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(icc))
    except (ImageCms.PyCMSError, OSError) as error:
        log.warning("The image's colour profile is damaged and not kept: %s", error)
        return False
    return True


def as_numbers(image: RasterImage) -> RasterImage:
    """With pixels and alpha in float32, in [0, 1]."""
    alpha = None if image.alpha is None else to_unit(image.alpha).contiguous()
    return dataclasses.replace(image, pixels=to_unit(image.pixels).contiguous(), alpha=alpha)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """H,W,C as EXIF's orientation (1 to 8) wants it shown."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def to_array(image: RasterImage, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """H,W,C whole numbers, C = 1 to 4 with the alpha last; rounded, not cut off.

    What is stored so already is not copied: the array is not to be changed.
    """
    parts = [image.pixels] if image.alpha is None else [image.pixels, image.alpha]
    wanted = next(kind for kind in LARGEST if np.iinfo(dtype).max == LARGEST[kind])
    if image.alpha is None and image.pixels.dtype == wanted:
        return image.pixels[0].permute(1, 2, 0).contiguous().cpu().numpy()
    out = np.empty((*image.pixels.shape[-2:], sum(part.shape[1] for part in parts)), dtype)
    for _, start, stop in bands_of(image.pixels):
        rows = [part[0, :, start:stop].detach().cpu() for part in parts]
        whole = [
            each if each.dtype == wanted else from_unit(to_unit(each), wanted) for each in rows
        ]
        out[start:stop] = np.concatenate([each.permute(1, 2, 0).numpy() for each in whole], 2)
    return out
