"""Reads image files. 8-bit images go through Pillow, those of 16 bits and more through
`high_bit_depth.py`."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from ..system.interrupts import Cancelled
from ..system.thread_logging import warnings_of_this_thread
from ..system.untrusted import UntrustedFileError, check_claim, check_regular
from . import high_bit_depth, tiff
from .metadata import ORIENTATION, Metadata, exif_of_tiff
from .raster import ImageError, RasterImage, as_numbers, from_array

log = logging.getLogger("devudp")

READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
"""Pillow's names. Not what else it reads: some of that runs other programs (EPS: Ghostscript)."""

FLOAT_COPIES = 2
"""The input and the result, float32, are in memory beside what the decoder gives."""

MOST_PIXELS = 4096
"""In a byte of a JPEG file: even a block without contrast, 64 pixels, takes a bit or two."""

COUNTING_SECONDS = 0.5
"""How long the frames of an animation are counted; one too many is enough."""

UNSUPPORTED = ("raw mode", "not supported", "unsupported")
"""In Pillow's messages on files that are sound but beyond it."""

BAND_BYTES = 2**22
"""Of the bands in which pixels are taken over from Pillow."""

TOO_LARGE_TEXT = "MAX_TEXT"
"""In Pillow's message on a profile or text beyond its limits."""


Tags = dict[int, tuple[int, ...]]
"""Of a TIFF file: see `tiff.read_tags`; {} of others."""


def read_image(path: str | os.PathLike[str]) -> RasterImage:
    """Reads PNG, JPEG, WebP, TIFF, BMP, and GIF without animation.

    Raises:
        ImageError: there is no such file, it is damaged, too large, no image, or several.
    """
    return as_numbers(read_stored(path))


def read_stored(
    path: str | os.PathLike[str],
    reserve: Callable[[int], None] = lambda nbytes: None,
    *,
    warn: bool = True,
) -> RasterImage:
    """`read_image`, with the pixels as they are stored, which takes less memory.

    Args:
        path: the file.
        reserve: gets the bytes of the pixels before they are decoded; what it raises goes through.
        warn: say what is damaged in a JPEG file that can be decoded all the same, for which it is
            decoded twice.
    """
    path = Path(path)
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where it may not look)
        raise ImageError(f"{path} is a folder, not an image.")
    try:
        size = check_regular(path)
        if size == 0:
            raise ImageError(f"{path} is empty (0 bytes). Copy or download it again.")
        with warnings_of_this_thread() as said, path.open("rb") as file:
            image = _read(file, path, size, once(reserve), warn)
    except (ImageError, MemoryError, Cancelled):
        raise
    except Exception as error:  # decoders raise almost anything when they meet damaged data
        raise ImageError(f"{path} {_explain(error)}") from error
    # Pillow's limit on sizes is for servers; here the memory is the limit.
    texts = (each for each in said if not isinstance(each, Image.DecompressionBombWarning))
    for text in dict.fromkeys(" ".join(str(each).split()) for each in texts):
        log.warning("%s: %s The result may not be whole.", path, text)
    return image


def once(reserve: Callable[[int], None]) -> Callable[[int], None]:
    """`reserve`, for the first of several sizes that a file's parts name."""
    called = []

    def first(nbytes: int) -> None:
        if not called:
            called.append(nbytes)
            reserve(nbytes)

    return first


def _explain(error: Exception) -> str:
    """Why a file is not read; goes on after its name."""
    if isinstance(error, (UntrustedFileError, tiff.TiffError, high_bit_depth.HighBitDepthError)):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "does not exist."
    if isinstance(error, UnidentifiedImageError):
        return (
            "is not an image of a kind that can be read (PNG, JPEG, WebP, TIFF, BMP, GIF), "
            "whatever its name says. Convert it to one of these."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {error.strerror}. Check its permissions and its disk."
    if TOO_LARGE_TEXT in str(error):
        return (
            "has a colour profile or text of more than 1 MB, which is not supported. Save it "
            "again without it."
        )
    if any(words in str(error).lower() for words in UNSUPPORTED):
        return f"is stored in a way that is not supported ({error}). Save it again as PNG."
    return f"is damaged and cannot be read: {error}. Copy or download it again."


def _read(
    file: BinaryIO, path: Path, size: int, reserve: Callable[[int], None], warn: bool
) -> RasterImage:
    tags: Tags = {}
    if high_bit_depth.is_tiff(file):  # of whose many layouts Pillow knows some
        tags = tiff.read_tags(file)
        if tags:
            _check_tiff(tags, size, reserve)
        if tiff.is_big(file, "big"):  # which Pillow takes for something else
            return _read_high_bit_depth(file, path, None, tags)
        file.seek(0)
    try:
        image = Image.open(file, formats=READABLE)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} is too large: {error} Cut it into parts.") from error
    except UnidentifiedImageError:
        if not high_bit_depth.is_tiff(file):
            raise
        return _read_high_bit_depth(file, path, None, tags)
    with image:
        channels = max(len(image.getbands()), 3 if image.mode in ("P", "PA", "CMYK") else 1)
        _check_size(*image.size, channels, channels, size, reserve)
        _refuse_several(count_pages(image, file), path)
        if high_bit_depth.is_high_bit_depth(file, image):
            return _read_high_bit_depth(file, path, image, tags)
        if image.format == "JPEG" and MOST_PIXELS * size < image.width * image.height:
            raise ImageError(
                f"{path} is damaged (cut off?): {size:,} bytes cannot hold "
                f"{image.width}x{image.height} pixels. Copy or download it again."
            )
        is_jpeg = image.format == "JPEG"
        if is_jpeg and warn and (warning := high_bit_depth.decoder_warning(path)):
            log.warning("%s is damaged, and so the result will be: %s", path, warning)
        try:
            return _read_8_bit(image)
        except ImageError as error:
            raise ImageError(f"{path} {error}") from error
        except OSError as error:
            if error.errno is None and tags.get(tiff.COMPRESSION, (1,))[0] in tiff.RARE:
                raise ImageError(
                    f"{path} cannot be decoded ({tiff.describe_layout(tags)}): it is damaged, or "
                    "stored in a way that is not supported here. Save it again, for instance as "
                    "TIFF without compression."
                ) from error
            raise


def _check_tiff(tags: Tags, size: int, reserve: Callable[[int], None]) -> None:
    if tiff.WIDTH in tags and tiff.HEIGHT in tags:
        [width], [height] = tags[tiff.WIDTH][:1], tags[tiff.HEIGHT][:1]
        [channels] = tags.get(tiff.SAMPLES, (1,))[:1]
        decoded = -(-tiff.bits_per_pixel(tags) // 8)
        _check_size(width, height, channels, decoded, size, reserve)
    tiff.check_complete(tags, size)


def _check_size(
    width: int,
    height: int,
    channels: int,
    decoded: int,
    size: int,
    reserve: Callable[[int], None],
) -> None:
    """Whether an image fits into memory; `decoded`: bytes a pixel as the decoder gives them."""
    needed = width * height * (decoded + 4 * FLOAT_COPIES * channels)
    what = f"claims to be {width}x{height} pixels"
    check_claim(needed, size, what, "Cut it into parts, or")
    reserve(width * height * decoded)


def count_pages(image: Image.Image, file: BinaryIO) -> int:
    """How many images the file holds, not counting small versions of another."""
    if image.format == "MPO":  # a camera's previews and depth maps
        return 1
    if image.format == "TIFF":
        position = file.tell()
        pages = tiff.count_pages(file)
        file.seek(position)
        return pages
    if image.format != "GIF":
        return getattr(image, "n_frames", 1)
    pages, until = 1, time.monotonic() + COUNTING_SECONDS
    try:
        while time.monotonic() < until:  # Pillow decodes every frame on the way
            image.seek(pages)
            pages += 1
    except EOFError:
        pass
    image.seek(0)
    return pages


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
    image = image if image.mode == mode else image.convert(mode)
    return from_array(to_numpy(image), has_alpha, orientation, 8, metadata)


def to_numpy(image: Image.Image) -> np.ndarray:
    """H,W,C of a loaded image, made in bands: Pillow would hold all of it three times."""
    array = np.empty((image.height, image.width, len(image.getbands())), np.uint8)
    rows = max(1, BAND_BYTES // (array[:1].nbytes or 1))
    for start in range(0, image.height, rows):
        band = image.crop((0, start, image.width, min(start + rows, image.height)))
        array[start : start + rows] = np.asarray(band).reshape(-1, *array.shape[1:])
    return array


def _read_high_bit_depth(
    file: BinaryIO, path: Path, image: Image.Image | None, tags: Tags
) -> RasterImage:
    layout = tiff.describe_layout(tags)
    is_png = image is not None and image.format == "PNG"
    found = high_bit_depth.read(path, is_png=is_png, layout=layout)
    if image is None:
        _refuse_several(tiff.count_pages(file), path)
        if tiff.is_big(file):  # Pillow reads no EXIF of such files
            if any(tag in tags for tag in tiff.EXIF_DIRECTORIES):
                log.warning("%s: the EXIF data of such a BigTIFF file are not kept.", path)
            metadata = found.metadata
        else:
            metadata = dataclasses.replace(found.metadata, exif=exif_of_tiff(file))
        return from_array(found.pixels, found.has_alpha, found.orientation, 16, metadata)
    orientation = image.getexif().get(ORIENTATION, 1)
    if image.format == "PNG":
        image.load()  # text may come after the pixels
    return from_array(found.pixels, found.has_alpha, orientation, 16, Metadata.of(image))


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
