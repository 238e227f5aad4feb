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
import time
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from ..atomic import replacing
from ..untrusted import UntrustedFileError, check_claim, check_regular
from . import high_bit_depth, tiff
from .metadata import ORIENTATION, Metadata, exif_of_tiff

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

LONGEST_SIDES = {"webp": 16_383, "jpeg": 65_500}
"""Pixels that a side of an image may have in a format; the others have no such limit."""

FLOAT_COPIES = 2
"""The input and the result, float32, are in memory beside what the decoder gives."""

MOST_PIXELS = 4096
"""In a byte of a JPEG file: even a block without contrast, 64 pixels, takes a bit or two."""

COUNTING_SECONDS = 0.5
"""How long the frames of an animation are counted; one too many is enough."""

UNSUPPORTED = ("raw mode", "not supported", "unsupported")
"""In Pillow's messages on files that are sound but beyond it."""

TOO_LARGE_TEXT = "MAX_TEXT"
"""In Pillow's message on a profile or text beyond its limits."""


Tags = dict[int, tuple[int, ...]]
"""Of a TIFF file: see `tiff.read_tags`; {} of others."""


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
        size = check_regular(path)
        if size == 0:
            raise ImageError(f"{path} is empty (0 bytes). Copy or download it again.")
        with warnings.catch_warnings(record=True) as said, path.open("rb") as file:
            warnings.simplefilter("always")
            # Pillow's limit is for servers; here the memory is the limit.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = _read(file, path, size)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise almost anything when they meet damaged data
        raise ImageError(f"{path} {_explain(error)}") from error
    for text in dict.fromkeys(" ".join(str(each.message).split()) for each in said):
        log.warning("%s: %s The result may not be whole.", path, text)
    return image


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


def _read(file: BinaryIO, path: Path, size: int) -> RasterImage:
    tags: Tags = {}
    if high_bit_depth.is_tiff(file):  # of whose many layouts Pillow knows some
        tags = tiff.read_tags(file)
        if tags:
            _check_tiff(tags, size)
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
        _check_size(*image.size, channels, channels, size)
        _refuse_several(count_pages(image, file), path)
        if high_bit_depth.is_high_bit_depth(file, image):
            return _read_high_bit_depth(file, path, image, tags)
        if image.format == "JPEG" and MOST_PIXELS * size < image.width * image.height:
            raise ImageError(
                f"{path} is damaged (cut off?): {size:,} bytes cannot hold "
                f"{image.width}x{image.height} pixels. Copy or download it again."
            )
        if image.format == "JPEG" and (warning := high_bit_depth.decoder_warning(path)):
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


def _check_tiff(tags: Tags, size: int) -> None:
    if tiff.WIDTH in tags and tiff.HEIGHT in tags:
        [width], [height] = tags[tiff.WIDTH][:1], tags[tiff.HEIGHT][:1]
        [channels] = tags.get(tiff.SAMPLES, (1,))[:1]
        _check_size(width, height, channels, -(-tiff.bits_per_pixel(tags) // 8), size)
    tiff.check_complete(tags, size)


def _check_size(width: int, height: int, channels: int, decoded: int, size: int) -> None:
    """Whether an image fits into memory; `decoded`: bytes a pixel as the decoder gives them."""
    needed = width * height * (decoded + 4 * FLOAT_COPIES * channels)
    what = f"claims to be {width}x{height} pixels"
    check_claim(needed, size, what, "Cut it into parts, or")


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
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    return _from_array(pixels, has_alpha, orientation, 8, metadata)


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
        return _from_array(found.pixels, found.has_alpha, found.orientation, 16, metadata)
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
    # Copied in any case: turned arrays may have negative strides, which torch does not know.
    values = np.array(np.moveaxis(pixels, 2, 0), dtype=np.float32, order="C")
    channels = torch.from_numpy(values).div_(top)[None]
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
        ImageError: it is unknown, or cannot hold transparency or an image as long.
    """
    if format not in FORMATS:
        raise ImageError(f"Unknown format {format!r}: choose one of {', '.join(FORMATS)}.")
    if image.alpha is not None and format in ("jpeg", "bmp"):
        raise ImageError(f"{format.upper()} cannot hold transparency. Use png, webp or tiff.")
    longest = max(image.pixels.shape[-2:])
    if longest > LONGEST_SIDES.get(format, longest):
        raise ImageError(
            f"{format.upper()} holds at most {LONGEST_SIDES[format]} pixels a side, and this image "
            f"has {longest}. Use png or tiff."
        )


def write_image(
    path: str | os.PathLike[str],
    image: RasterImage,
    format: str = "png",
    *,
    overwrite: bool = True,
) -> None:
    """Writes an image with its metadata; the file is complete or not there.

    PNG and TIFF keep 16 bits.

    Args:
        path: the file; its suffix is not looked at.
        image: as read, usually with other pixels.
        format: one of `FORMATS`.
        overwrite: whether an existing file is replaced.

    Raises:
        FileExistsError: there is one, and it must not be replaced.
        ImageError: the format cannot hold it, or 16 bits need a library that is missing.
        OSError: the folder cannot be written to, or the disk is full.
    """
    check_format(image, format)
    if image.bits > 8 and format in ("png", "tiff"):
        try:
            content = high_bit_depth.encode(to_array(image, np.uint16), image.metadata, format)
        except high_bit_depth.HighBitDepthError as error:
            raise ImageError(f"{path} {error}") from error
        with replacing(path, overwrite=overwrite) as file:
            file.write(content)
        return
    if image.bits > 8:
        log.warning("%s has 8 bits a channel, as %s does; png and tiff keep 16.", path, format)
    array = to_array(image, np.uint8)
    pillow = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    with replacing(path, overwrite=overwrite) as file:
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
