"""Images of files: their pixels, in the file's own depth or as numbers in [0, 1], and metadata.

    image = read_image("IMG_0001.jpg")
    restored = restore(image.pixels, generator)
    write_image("out/IMG_0001.png", replace(image, pixels=restored))

`reading.py` and `writing.py` know the file formats.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
from typing import Any

import numpy as np
import torch
from PIL import ImageCms
from torch import Tensor

from ..bands.rows import bands_of
from ..ops.dtypes import from_unit, to_unit
from . import colour
from . import icc as profiles
from .formats import BY_NAME, Unreadable, advice
from .metadata import Metadata
from .orientation import upright


class ImageError(ValueError):
    """A file cannot be read or written as an image; the message says why and what to do."""


class MissingPackage(Unreadable):
    """Says that the package which decodes a format is not installed."""

    def __init__(self, format: str):
        found = BY_NAME[format]
        kind = found.label.split(":")[0].split(",")[0]
        super().__init__(f"is of a kind ({kind}) that needs one more package. {advice(found)}")


def decoder(format: str) -> Any:
    """Returns the module that decodes a format, imported when the first such file comes.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        return importlib.import_module(BY_NAME[format].package)
    except ImportError as error:
        raise MissingPackage(format) from error


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """An image in a colour space of its own, as its file has it.

    Attributes:
        pixels: 1,C,H,W, upright; uint8, uint16 or float32.
        space: what its numbers mean.
    """

    pixels: Tensor
    space: colour.Space


@dataclasses.dataclass(frozen=True, eq=False)
class RasterImage:
    """A decoded image file, turned upright, in sRGB.

    Attributes:
        pixels: 1,C,H,W float32 in [0, 1], C = 1 (grey) or 3; or, as it is stored, uint8 or uint16
            over the whole range.
        alpha: 1,1,H,W likewise, or None.
        bits: 8 or 16, what it takes to write it without loss.
        metadata: what else the file says.
        origin: what the file has, where that is not sRGB; the result goes back there.
        format: the file's, as in `formats.py`; "" if it comes from elsewhere.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    bits: int = 8
    metadata: Metadata = dataclasses.field(default_factory=Metadata)
    origin: Origin | None = None
    format: str = ""


def from_array(
    pixels: np.ndarray,
    has_alpha: bool = False,
    orientation: int = 1,
    bits: int = 8,
    metadata: Metadata | None = None,
    space: colour.Space | None = None,
) -> RasterImage:
    """Makes an image of H,W,C integers, or floats, as they are stored.

    Args:
        pixels: as decoded.
        has_alpha: whether the last channel is alpha.
        orientation: how to turn them, as in EXIF.
        bits: 8 or 16.
        metadata: as the file has it.
        space: what the numbers mean, where no colour profile says it.

    Raises:
        ColourError: the colours cannot be converted.
    """
    pixels, metadata = upright(pixels, orientation), metadata or Metadata()
    metadata = metadata.upright((pixels.shape[1], pixels.shape[0]), turned=orientation != 1)
    # torch does not know negative strides; numpy calls an array of one row contiguous with them.
    usable = min(pixels.strides) >= 0 and pixels.flags.writeable
    pixels = np.ascontiguousarray(pixels) if usable else pixels.copy()
    channels = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    if channels.is_floating_point():
        channels = channels.float()
    colours = channels[:, :-1] if has_alpha else channels
    alpha = channels[:, -1:] if has_alpha else None
    if metadata.icc and (why := wrong_profile(metadata.icc, colours.shape[1])):
        metadata = dataclasses.replace(metadata, icc=b"", lost=(*metadata.lost, why))
    if metadata.icc:
        space = colour.space_of_icc(metadata.icc, colours.shape[1])
    if space is None:
        return RasterImage(colours, alpha, bits, metadata)
    seen = colour.to_srgb(colours, space)
    return RasterImage(seen, alpha, bits, metadata, Origin(colours, space))


def wrong_profile(icc: bytes, channels: int) -> str:
    """Returns why a colour profile is not kept with pixels of so many channels; "" if it is.

    Its header says what pixels it is for; one for others would mislead.
    """
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(icc))
    except (ImageCms.PyCMSError, OSError):
        return "its colour profile is damaged and not kept"
    kind = profiles.kind(icc)
    if kind != (b"GRAY" if channels == 1 else b"RGB "):
        return (
            f"its colour profile is for other pixels ({kind.decode('latin-1').strip()}), not kept"
        )
    return ""


def as_numbers(image: RasterImage) -> RasterImage:
    """With pixels and alpha in float32, in [0, 1]."""
    alpha = None if image.alpha is None else to_unit(image.alpha).contiguous()
    return dataclasses.replace(image, pixels=to_unit(image.pixels).contiguous(), alpha=alpha)


def to_array(image: RasterImage, dtype: type[np.number]) -> np.ndarray:
    """H,W,C integers (or float32), C = 1 to 4 with the alpha last; rounded, not cut off.

    What is stored so already is not copied: the array is not to be changed.
    """
    parts = [image.pixels] if image.alpha is None else [image.pixels, image.alpha]
    as_type = {np.uint8: torch.uint8, np.uint16: torch.uint16, np.float32: torch.float32}[dtype]
    if image.alpha is None and image.pixels.dtype == as_type:
        return image.pixels[0].permute(1, 2, 0).contiguous().cpu().numpy()
    out = np.empty((*image.pixels.shape[-2:], sum(part.shape[1] for part in parts)), dtype)
    for _, start, stop in bands_of(image.pixels):
        rows = [part[0, :, start:stop].detach().cpu() for part in parts]
        whole = [
            each if each.dtype == as_type else from_unit(to_unit(each), as_type) for each in rows
        ]
        out[start:stop] = np.concatenate([each.permute(1, 2, 0).numpy() for each in whole], 2)
    return out
