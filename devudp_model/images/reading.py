"""Reads image files. 8-bit images go through Pillow, those of 16 bits and more through libvips,
raw files, HEIC and JPEG XL through packages of their own: `formats.py` has the table."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
from functools import partial
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError, features

from ..system.interrupts import Cancelled
from ..system.thread_logging import warnings_of_this_thread
from ..system.untrusted import UntrustedFileError, check_regular
from . import eight_bit, heif, high_bit_depth, isobmff, jpeg_xl, raw, tiff
from .checks import OnSizeKnown, Tags, check_size, check_tiff, count_pages, refuse_several
from .formats import Unreadable, readable_names
from .raster import ImageError, RasterImage, as_numbers

log = logging.getLogger("devudp")

NAMES = {
    "PNG": "png", "JPEG": "jpeg", "MPO": "jpeg", "WEBP": "webp", "TIFF": "tiff", "BMP": "bmp",
    "GIF": "gif", "AVIF": "avif",
}  # fmt: skip
"""Ours, by Pillow's."""

READABLE = tuple(name for name in NAMES if name not in ("MPO", "AVIF"))
"""Pillow's names. Not what else it reads: some of that runs other programs (EPS: Ghostscript)."""

MAX_PIXELS = 4096
"""In a byte of a JPEG file: even a block without contrast, 64 pixels, takes a bit or two."""

RAW_BYTES = 14
"""A pixel while a raw file is developed: the sensor's, four colours, and the result."""

UNSUPPORTED = ("raw mode", "not supported", "unsupported")
"""In Pillow's messages on files that are sound but beyond it."""

JPEG_START = b"\xff\xd8\xff"

ABOUT_TAGS = "Metadata Warning"
"""Of Pillow, on TIFF tags that it does not use."""

TOO_LARGE_TEXT = "MAX_TEXT"
"""In Pillow's message on a profile or text beyond its limits."""


def read_image(path: str | os.PathLike[str]) -> RasterImage:
    """Reads an image file of any kind in `formats.py`; the pixels are sRGB, upright.

    Raises:
        ImageError: there is no such file, it is damaged, too large, no image, or several.
    """
    return as_numbers(read_stored(path))


def read_stored(
    path: str | os.PathLike[str],
    on_size_known: OnSizeKnown = lambda nbytes: None,
    *,
    warn: bool = True,
) -> RasterImage:
    """`read_image`, with the pixels as they are stored, which takes less memory.

    Args:
        path: the file.
        on_size_known: gets the bytes of the pixels before they are decoded; what it raises
            goes through.
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
            image = _read(file, path, size, once(on_size_known), warn)
    except (ImageError, MemoryError, Cancelled):
        raise
    except Exception as error:  # decoders raise almost anything when they meet damaged data
        raise ImageError(f"{path} {_explain(error)}") from error
    # Pillow's limit on sizes is for servers; here the memory is the limit.
    bomb = Image.DecompressionBombWarning
    other = (bomb, ResourceWarning)  # the latter is of what else runs in the process
    texts = (e for e in said if not isinstance(e, other) and not str(e).startswith(ABOUT_TAGS))
    for text in dict.fromkeys(" ".join(str(each).split()) for each in texts):
        log.warning("%s: %s The result may not be whole.", path, text)
    return image


def once(on_size_known: OnSizeKnown) -> OnSizeKnown:
    """`on_size_known`, for the first of several sizes that a file's parts name."""
    called = []

    def first(nbytes: int) -> None:
        if not called:
            called.append(nbytes)
            on_size_known(nbytes)

    return first


def _explain(error: Exception) -> str:
    """Why a file is not read; goes on after its name."""
    if isinstance(error, (Unreadable, UntrustedFileError)):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "does not exist."
    if isinstance(error, UnidentifiedImageError):
        return (
            f"is not an image of a kind that can be read ({readable_names()}), whatever its name "
            "says. Convert it to one of these."
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
    reason = " ".join(str(error).split())
    return f"is damaged and cannot be read: {reason}. Copy or download it again."


def _read(
    file: BinaryIO, path: Path, size: int, on_size_known: OnSizeKnown, warn: bool
) -> RasterImage:
    start = high_bit_depth.first_bytes(file, 64)
    brands = isobmff.brands(start)
    tags: Tags = {}
    if high_bit_depth.is_tiff(file):  # of whose many layouts Pillow knows some
        tags = tiff.read_tags(file)
    if raw.is_raw(start, path.suffix, tags):
        if tags:
            tiff.check_not_cut_off(file, size)
        check = partial(
            check_size, channels=3, decoded=RAW_BYTES, size=size, on_size_known=on_size_known
        )
        return _named("raw", raw.read(file, check))
    if start.startswith(jpeg_xl.STARTS):
        return _named("jxl", _read_jpeg_xl(file, size, on_size_known))
    if any(brand in isobmff.AVIF_BRANDS + isobmff.HEIF_BRANDS for brand in brands):
        return _read_isobmff(file, path, size, brands, on_size_known)
    if tags:
        check_tiff(tags, size, on_size_known)
        _refuse_ycbcr(tags, by_pillow=not tiff.is_big(file, "big"))
        if tiff.is_big(file, "big"):  # which Pillow takes for something else
            return _named("tiff", high_bit_depth.read(file, path, None, tags))
    file.seek(0)
    return _read_by_pillow(file, path, size, tags, on_size_known, warn)


def _refuse_ycbcr(tags: Tags, *, by_pillow: bool) -> None:
    if tiff.is_mistaken_ycbcr(tags, by_pillow=by_pillow):
        raise Unreadable(
            "is stored in a way that is not supported (YCbCr that is no JPEG). Save it again as "
            "RGB, for instance as PNG."
        )


def _named(format: str, image: RasterImage) -> RasterImage:
    """With the name of the format that it was read from."""
    return dataclasses.replace(image, format=format)


def _read_jpeg_xl(file: BinaryIO, size: int, on_size_known: OnSizeKnown) -> RasterImage:
    file.seek(0)
    content = file.read()
    header = jpeg_xl.header(content)
    check_size(header.width, header.height, 4, 16 if header.bits > 8 else 4, size, on_size_known)
    decoded = jpeg_xl.read(content, header)
    if isinstance(decoded, RasterImage):
        return decoded
    with Image.open(io.BytesIO(decoded), formats=["JPEG"]) as image:
        return eight_bit.read(image)


def _read_isobmff(
    file: BinaryIO, path: Path, size: int, brands: tuple[bytes, ...], on_size_known: OnSizeKnown
) -> RasterImage:
    """AVIF and HEIC."""
    file.seek(0)
    container = isobmff.read(file.read())
    check_size(*container.image.size, 4, 8, size, on_size_known)
    if not any(brand in isobmff.AVIF_BRANDS for brand in brands):
        return _named("heic", heif.read(file, container))
    decoded = high_bit_depth.read_avif(path, container)
    if decoded is not None:
        return _named("avif", decoded)
    if not features.check("avif"):
        raise Unreadable("is AVIF, which needs Pillow 11.3 or newer. Update Pillow, or convert it.")
    file.seek(0)
    metadata, space = heif.described(container)
    if container.image.bits > 8:
        lost = f"it has {container.image.bits} bits a channel, of which 8 are read without pyvips"
        metadata = dataclasses.replace(metadata, lost=(*metadata.lost, lost))
    with Image.open(file, formats=["AVIF"]) as image:
        refuse_several(count_pages(image, file), path)
        return _named("avif", eight_bit.read(image, described=(metadata, space)))


def _read_by_pillow(
    file: BinaryIO, path: Path, size: int, tags: Tags, on_size_known: OnSizeKnown, warn: bool
) -> RasterImage:
    """Reads all others; those of 16 bits only if Pillow opens them."""
    try:
        image = Image.open(file, formats=READABLE)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} is too large: {error} Cut it into parts.") from error
    except UnidentifiedImageError as error:
        if high_bit_depth.first_bytes(file, 3) == JPEG_START:
            raise Unreadable(
                "is a JPEG file that cannot be decoded: it is damaged, or of a rare kind (12 bits "
                "a channel, JPEG-LS). Copy it again, or save it as PNG."
            ) from error
        if not high_bit_depth.is_tiff(file):
            raise
        _refuse_ycbcr(tags, by_pillow=False)
        return _named("tiff", high_bit_depth.read(file, path, None, tags))
    with image:
        name = NAMES[image.format or ""]
        channels = max(len(image.getbands()), 3 if image.mode in ("P", "PA", "CMYK") else 1)
        check_size(*image.size, channels, channels, size, on_size_known)
        refuse_several(count_pages(image, file), path)
        if high_bit_depth.is_high_bit_depth(file, image):
            return _named(name, high_bit_depth.read(file, path, image, tags))
        if image.format == "JPEG" and MAX_PIXELS * size < image.width * image.height:
            raise ImageError(
                f"{path} is damaged (cut off?): {size:,} bytes cannot hold "
                f"{image.width}x{image.height} pixels. Copy or download it again."
            )
        try:
            decoded = _named(name, eight_bit.read(image, file))
        except OSError as error:
            if error.errno is None and tags.get(tiff.COMPRESSION, (1,))[0] in tiff.RARE:
                raise ImageError(
                    f"{path} cannot be decoded ({tiff.describe_layout(tags)}): it is damaged, or "
                    "stored in a way that is not supported here. Save it again, for instance as "
                    "TIFF without compression."
                ) from error
            raise
    if name == "jpeg" and warn and (warning := high_bit_depth.decoder_warning(path)):
        log.warning("%s is damaged, and so the result will be: %s", path, warning)
    return decoded
