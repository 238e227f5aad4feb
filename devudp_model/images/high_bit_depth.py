"""Images with 16 bits a channel and more, which Pillow would silently reduce to 8.

Their pixels go through libvips (`pip install "pyvips[binary]"`, part of the extra `standalone`),
loaded when the first such image comes.
"""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from . import colour, eight_bit, heif, iptc, png, tiff
from .checks import Tags, refuse_several
from .formats import Unreadable
from .isobmff import Container
from .metadata import ORIENTATION, Metadata, exif_of_tiff
from .raster import RasterImage, from_array

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Either byte order; the last two are BigTIFF's."""

BITS_PER_SAMPLE = 258
"""The TIFF tag."""

INTERPRETATIONS = ("grey16", "rgb16", "b-w", "rgb", "srgb", "scrgb", "multiband")
"""libvips' names of what can be restored: grey, RGB, and what says nothing of its colours."""


@dataclasses.dataclass(frozen=True, eq=False)
class HighBitDepthPixels:
    """Holds what libvips finds in a file.

    Attributes:
        pixels: H,W,C in uint16 (or uint8), or float32, finite; not turned by the orientation.
        has_alpha: whether the last channel is alpha.
        orientation: as in EXIF, 1 to 8.
        pages: how many images the file holds.
        metadata: the colour profile and XMP.
    """

    pixels: np.ndarray
    has_alpha: bool
    orientation: int
    pages: int
    metadata: Metadata


def load_vips() -> Any:
    """Returns the pyvips module."""
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise Unreadable(
            "has 16 bits a channel, and the library that keeps them is missing. Install it with "
            "'pip install \"pyvips[binary]\"', or convert the image to 8 bits."
        ) from error
    return pyvips


def first_bytes(file: BinaryIO, count: int) -> bytes:
    position = file.tell()
    file.seek(0)
    start = file.read(count)
    file.seek(position)
    return start


def is_tiff(file: BinaryIO) -> bool:
    """By its first bytes."""
    return first_bytes(file, 4) in TIFF_STARTS


def is_high_bit_depth(file: BinaryIO, image: Image.Image) -> bool:
    """True if an opened image has more than 8 bits a channel.

    Asked of the file, since Pillow opens 16-bit colour as if it had 8.
    """
    header = first_bytes(file, png.DEPTH_AT + 1)
    if header.startswith(png.SIGNATURE):
        return header[png.DEPTH_AT] > 8
    if image.format == "TIFF":
        tags = image.tag_v2  # pyright: ignore[reportAttributeAccessIssue]
        return max(tags.get(BITS_PER_SAMPLE, (1,))) > 8
    return False


UNSUPPORTED = (
    "not supported", "not configured", "unsupported", "not implemented", "samples out of range",
    "whole number of bytes",
)  # fmt: skip
"""What libvips and libtiff say of a file that is sound but beyond them."""


def source_of(path: Path) -> Any:
    """Returns the file for libvips, its name taken as it is: brackets in it are no options."""
    name = str(path) if os.name == "nt" else os.fsencode(path)
    return load_vips().Source.new_from_file(name)


def decode(path: Path, kind: str, layout: str = "") -> HighBitDepthPixels:
    """Decodes a PNG, TIFF or AVIF file.

    Args:
        path: the file.
        kind: "PNG", "TIFF" or "AVIF".
        layout: of the pixels in the file, in words, for the messages.

    Raises:
        Unreadable: pyvips is missing, the file is damaged, or its pixel type is not
            supported.
    """
    pyvips = load_vips()
    loaders = {"PNG": "pngload_source", "TIFF": "tiffload_source", "AVIF": "heifload_source"}
    # "error" does for others; of TIFF, libvips fills the tiles that it cannot read with black.
    strict = {"access": "sequential", "fail_on": "warning" if kind == "TIFF" else "error"}
    try:
        image = getattr(pyvips.Image, loaders[kind])(source_of(path), **strict)
        if image.interpretation not in INTERPRETATIONS or image.bands > 4:
            raise Unreadable(
                f"has {image.bands} channels of a kind ({image.interpretation}) that cannot be "
                "restored. Convert it to RGB."
            )
        pixels = image.numpy().reshape(image.height, image.width, image.bands)
    except pyvips.Error as error:
        reason = " ".join(str(error).split()).replace(f"{path}: ", "")
        if any(words in reason for words in UNSUPPORTED):
            raise Unreadable(
                f"is stored in a way that is not supported ({layout or reason}). Save it again, "
                "for instance as TIFF without compression."
            ) from error
        raise Unreadable(f"is damaged and cannot be read: {reason}. Copy it again.") from error
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise Unreadable(
                "has pixels that are NaN or infinite. Replace them, for instance by 0."
            )
        pixels = pixels.astype(np.float32, copy=False)
    elif pixels.dtype not in (np.uint8, np.uint16):
        raise Unreadable(f"has an unsupported pixel type ({pixels.dtype}). Convert it to 16 bits.")

    def field(name: str, default: Any) -> Any:
        return image.get(name) if image.get_typeof(name) else default

    return HighBitDepthPixels(
        pixels=pixels,
        has_alpha=image.bands in (2, 4),
        orientation=field("orientation", 1),
        pages=field("n-pages", 1),
        metadata=Metadata(
            icc=bytes(field("icc-profile-data", b"")),
            xmp=bytes(field("xmp-data", b"")),
            iptc=iptc.of_tiff_tags(bytes(field("iptc-data", b"")), b""),
        ),
    )


def read(file: BinaryIO, path: Path, image: Image.Image | None, tags: Tags) -> RasterImage:
    """PNG and TIFF; `image` is None where Pillow cannot open it."""
    kind = "PNG" if image is not None and image.format == "PNG" else "TIFF"
    decoded = decode(path, kind, tiff.describe_layout(tags))
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
        load_vips()
    except Unreadable:
        return None
    decoded = decode(path, "AVIF")
    refuse_several(decoded.pages, path)
    metadata, space = heif.described(container)
    pixels = heif.scaled(decoded.pixels, container.image.bits)
    return from_array(pixels, decoded.has_alpha, 1, 16, metadata, space)


def encode(pixels: np.ndarray, metadata: Metadata, format: str) -> bytes:
    """Makes a whole PNG or TIFF file of H,W,C uint16, or TIFF of float32.

    PNG and TIFF hold the colour profile, EXIF, XMP, IPTC and the resolution; PNG also the text.

    Raises:
        Unreadable: the library is missing.
    """
    pyvips = load_vips()
    grey = pixels.shape[2] < 3
    kinds = {"u": ("rgb16", "grey16"), "f": ("scrgb", "b-w")}[pixels.dtype.kind]
    image = pyvips.Image.new_from_array(pixels, interpretation=kinds[grey])
    if format == "png":
        return _with_metadata(image.pngsave_buffer(compression=4, keep="none"), metadata)
    if metadata.icc:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", metadata.icc)
    across, down = metadata.dpi or (72, 72)  # TIFF has to say something
    content = image.tiffsave_buffer(
        compression="deflate",
        predictor="none" if pixels.dtype.kind == "f" else "horizontal",  # not all read the other
        resunit="inch",
        xres=across / 25.4,  # pixels a millimetre
        yres=down / 25.4,
    )
    tags = metadata.tiff_tags()
    return tiff.with_exif(content, tags) if tags else content


def _with_metadata(content: bytes, metadata: Metadata) -> bytes:
    """The PNG file with the chunks that Pillow writes for the metadata of a one-pixel image."""
    small = io.BytesIO()
    mode = "L" if metadata.icc[16:20] == b"GRAY" else "RGB"
    Image.new(mode, (1, 1)).save(small, "PNG", **metadata.save_options("png"))
    own = (b"IHDR", b"IDAT", b"IEND")
    header, *pixels = [chunk for chunk in png.split(content) if chunk[4:8] in own]
    about = [chunk for chunk in png.split(small.getvalue()) if chunk[4:8] not in own]
    return b"".join([png.SIGNATURE, header, png.as_bytes(metadata.chunks), *about, *pixels])


def decoder_warning(path: Path) -> str:
    """Returns what a JPEG file's decoder complains of; Pillow does not pass it on.

    "" where there is nothing, or where pyvips is missing.
    """
    try:
        pyvips = load_vips()
    except Unreadable:
        return ""
    try:
        strict = {"access": "sequential", "fail_on": "warning"}
        pyvips.Image.jpegload_source(source_of(path), **strict).avg()
    except pyvips.Error as error:
        return " ".join(str(error).split())
    return ""
