"""Image files to tensors and back, with their metadata.

    image = read_image("IMG_0001.jpg")
    restored = restore(image.pixels, generator)
    write_image("out/IMG_0001.png", replace(image, pixels=restored))

8-bit images go through Pillow, those of 16 bits and more through `high_bit_depth.py`.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from ..atomic import replacing
from . import high_bit_depth
from .metadata import ORIENTATION, Metadata

log = logging.getLogger("devudp")

READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
"""Pillow's names. Not what else it reads: some of that runs other programs (EPS: Ghostscript)."""

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

SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 4},  # in half the time of the default, files 2 % larger
    "jpeg": {"quality": 95, "subsampling": "4:4:4"},
    "webp": {"quality": 95, "exact": True},
    "tiff": {},  # not compressed: Pillow's compressing writer cannot keep EXIF
    "bmp": {},
}

MAX_PIXELS = 500_000_000
"""More than any camera's: a header that claims more is damaged, or an attack."""

THUMBNAIL = 254
"""TIFF's NewSubfileType; bit 0 marks a small version of another page."""


class ImageError(ValueError):
    """A file cannot be read or written as an image; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class RasterImage:
    """A decoded image file, turned upright.

    Attributes:
        pixels: 1,C,H,W float32 in [0, 1], C = 1 (grey) or 3, in the file's own colour space.
        alpha: 1,1,H,W float32 in [0, 1], or None.
        bits: 8 or 16, what it takes to write it without loss.
        metadata: what else the file says.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    bits: int = 8
    metadata: Metadata = dataclasses.field(default_factory=Metadata)


def read_image(path: str | os.PathLike[str]) -> RasterImage:
    """Reads PNG, JPEG, WebP, TIFF, BMP, and GIF that does not move.

    Raises:
        ImageError: there is no such file, it is damaged, too large, no image, or several.
    """
    path = Path(path)
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where it may not look)
        raise ImageError(f"{path} is a folder, not an image.")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes). Copy or download it again.")
        with warnings.catch_warnings(), path.open("rb") as file:
            # Pillow's limit is for servers; MAX_PIXELS is for people's own photographs.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return _read(file, path)
    except (ImageError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist.") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path} is not an image of a kind that can be read (PNG, JPEG, WebP, TIFF, BMP, "
            "GIF), whatever its name says. Convert it to one of these."
        ) from error
    except Exception as error:  # decoders raise almost anything when they meet damaged data
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(
                f"{path} cannot be read: {error.strerror}. Check its permissions and its disk."
            ) from error
        raise ImageError(
            f"{path} is damaged and cannot be read: {error}. Copy or download it again."
        ) from error


def _read(file: BinaryIO, path: Path) -> RasterImage:
    try:
        image = Image.open(file, formats=READABLE)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} is too large: {error} Cut it into parts.") from error
    except UnidentifiedImageError:
        if high_bit_depth.is_tiff(file):  # of whose many layouts Pillow knows some
            return _read_high_bit_depth(path, None)
        raise
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(
                f"{path} says it is {width}x{height} pixels, which is more than {MAX_PIXELS:,}. "
                "Cut it into parts."
            )
        _refuse_several(count_pages(image), path)
        if high_bit_depth.is_high_bit_depth(file, image):
            return _read_high_bit_depth(path, image)
        try:
            return _read_8_bit(image)
        except ImageError as error:
            raise ImageError(f"{path} {error}") from error


def count_pages(image: Image.Image) -> int:
    """How many images the file holds, not counting small versions of another."""
    pages = getattr(image, "n_frames", 1)
    if pages == 1 or image.format == "MPO":  # a camera's previews and depth maps
        return 1
    if image.format != "TIFF":
        return pages
    full = 0
    for page in range(pages):
        image.seek(page)
        full += not image.tag_v2.get(THUMBNAIL, 0) & 1  # pyright: ignore[reportAttributeAccessIssue]
    image.seek(0)
    return full


def _refuse_several(pages: int, path: Path) -> None:
    if pages > 1:
        raise ImageError(
            f"{path} holds {pages} images (an animation, or pages), and restoring would lose all "
            "but one. Take it apart, for instance with 'mkdir frames' and "
            f"'ffmpeg -i {path.name} frames/%05d.png', and restore the folder frames."
        )


def _read_8_bit(image: Image.Image) -> RasterImage:
    image.load()
    orientation = image.getexif().get(ORIENTATION, 1)  # after load, which turns TIFF itself
    metadata = Metadata.of(image)
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if image.mode in ("1", "L", "LA", "La"):
        image = image.convert("LA") if image.mode == "La" else image
        mode = "LA" if has_alpha else "L"
    elif image.mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK"):
        image = cmyk_to_rgb(image) if image.mode == "CMYK" else image
        mode = "RGBA" if has_alpha else "RGB"
    else:
        raise ImageError(
            f"has colours of a kind ({image.mode}) that cannot be restored. Convert it to RGB."
        )
    pixels = np.asarray(image.convert(mode)).reshape(image.height, image.width, -1)
    return _from_array(pixels, has_alpha, orientation, 8, metadata)


def _read_high_bit_depth(path: Path, image: Image.Image | None) -> RasterImage:
    try:
        found = high_bit_depth.read(path)
    except high_bit_depth.HighBitDepthError as error:
        raise ImageError(f"{path} {error}") from error
    if image is None:
        _refuse_several(found.pages, path)
        return _from_array(found.pixels, found.has_alpha, found.orientation, 16, found.metadata)
    orientation = image.getexif().get(ORIENTATION, 1)
    if image.format == "PNG":
        image.load()  # text may come after the pixels
    return _from_array(found.pixels, found.has_alpha, orientation, 16, Metadata.of(image))


def _from_array(
    pixels: np.ndarray, has_alpha: bool, orientation: int, bits: int, metadata: Metadata
) -> RasterImage:
    """H,W,C whole numbers, or floats in [0, 1], to a `RasterImage`."""
    pixels = upright(pixels, orientation)
    top = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    values = np.ascontiguousarray(np.moveaxis(pixels, 2, 0), dtype=np.float32)
    channels = torch.from_numpy(values).div_(top)[None]
    colours = channels[:, :-1] if has_alpha else channels
    # A profile's header says what pixels it is for. One for others (CMYK that was converted,
    # RGB's in a grey image) would mislead.
    if metadata.icc[16:20] != (b"GRAY" if colours.shape[1] == 1 else b"RGB "):
        metadata = dataclasses.replace(metadata, icc=b"")
    return RasterImage(colours, channels[:, -1:] if has_alpha else None, bits, metadata)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """H,W,C as EXIF's orientation (1 to 8) wants it shown."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


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


def check_format(image: RasterImage, format: str) -> None:
    """Checks that `format` can hold the image, before the work is done.

    Raises:
        ImageError: it is unknown, or cannot hold transparency.
    """
    if format not in FORMATS:
        raise ImageError(f"Unknown format {format!r}: choose one of {', '.join(FORMATS)}.")
    if image.alpha is not None and format in ("jpeg", "bmp"):
        raise ImageError(f"{format.upper()} cannot hold transparency. Use png, webp or tiff.")


def write_image(path: str | os.PathLike[str], image: RasterImage, format: str = "png") -> None:
    """Writes an image with its metadata; the file is complete or not there.

    PNG and TIFF keep 16 bits. An existing file is replaced.

    Args:
        path: the file; its suffix is not looked at.
        image: as read, usually with other pixels.
        format: one of `FORMATS`.

    Raises:
        ImageError: the format cannot hold it, or 16 bits need a library that is missing.
        OSError: the folder cannot be written to, or the disk is full.
    """
    check_format(image, format)
    if image.bits > 8 and format in ("png", "tiff"):
        try:
            content = high_bit_depth.encode(to_array(image, np.uint16), image.metadata, format)
        except high_bit_depth.HighBitDepthError as error:
            raise ImageError(f"{path} {error}") from error
        with replacing(path) as file:
            file.write(content)
        return
    if image.bits > 8:
        log.warning("%s has 8 bits a channel, as %s does; png and tiff keep 16.", path, format)
    array = to_array(image, np.uint8)
    pillow = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    with replacing(path) as file:
        options = image.metadata.save_options(format)
        pillow.save(file, format, **SAVE_OPTIONS[format], **options)


def to_array(image: RasterImage, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """H,W,C whole numbers, C = 1 to 4 with the alpha last; rounded, not cut off."""
    top = np.iinfo(dtype).max
    parts = [image.pixels] if image.alpha is None else [image.pixels, image.alpha]
    channels = [channel for part in parts for channel in part[0]]
    out = np.empty((*image.pixels.shape[-2:], len(channels)), dtype)
    for index, channel in enumerate(channels):
        values = channel.detach().float().cpu().clamp(0, 1).mul_(top).round_()
        out[:, :, index] = values.numpy().astype(dtype)
    return out
