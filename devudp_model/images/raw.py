"""Cameras' raw files, developed by rawpy (LibRaw; the extra `raw`), loaded when one comes.

White balance as the camera set it, no automatic brightness, 16 bits, upright, sRGB.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping
from typing import BinaryIO

import numpy as np
from PIL import Image

from . import exif, iptc, isobmff, tiff
from .formats import RAW_SUFFIXES, Unreadable
from .metadata import XMP_IN_TIFF, Metadata, exif_bytes, laid_out_anew
from .raster import RasterImage, decoder, from_array

CFA, LINEAR_RAW = 32803, 34892
"""Photometric interpretations of pixels as a sensor gives them."""

STARTS = (
    b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FOVb", b"\0MRM",
    b"II\x1a\0\0\0HEAPCCDR",
)  # fmt: skip
"""Of RAF, RW2, ORF, X3F, MRW and CRW; others begin as TIFF does."""

INSIDE_TIFF = (b"CR\2", b"IIII", b"MMMM")
"""Behind the head of TIFF, of CR2 and IIQ: the first directory is a preview and does not say so."""

OTHERS = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")
"""Of images that somebody has given a raw file's name."""

SRGB_GAMMA = (2.4, 12.92)
"""LibRaw's numbers for sRGB's curve; its own are BT.709's."""


def is_raw(start: bytes, suffix: str, tags: Mapping[int, tuple[int, ...]]) -> bool:
    """Returns whether a file is one, by how it begins, its name, and the tags of TIFF.

    The first directory of a raw file is often a small preview: whoever takes it for the image
    restores a stamp.
    """
    if start.startswith(STARTS) or any(b in isobmff.RAW_BRANDS for b in isobmff.brands(start)):
        return True
    if start.startswith(OTHERS):
        return False
    if start[8:].startswith(INSIDE_TIFF) and start.startswith((b"II*\0", b"MM\0*")):
        return True
    if suffix.lower() in RAW_SUFFIXES:
        return True
    [photometric] = tags.get(tiff.PHOTOMETRIC, (0,))[:1]
    [subfile] = tags.get(tiff.SUBFILE, (0,))[:1]
    preview = bool(subfile & 1) and tiff.SUB_DIRECTORIES in tags
    return tiff.DNG_VERSION in tags or photometric in (CFA, LINEAR_RAW) or preview


def read(file: BinaryIO, check_size: Callable[[int, int], None]) -> RasterImage:
    """Develops a raw file.

    Args:
        file: opened.
        check_size: gets width and height before anything is decoded.

    Raises:
        MissingPackage: rawpy is not installed.
        Unreadable: LibRaw cannot read it.
    """
    rawpy = decoder("raw")
    file.seek(0)
    try:
        with rawpy.imread(file) as raw:
            check_size(raw.sizes.width, raw.sizes.height)
            # LibRaw turns the image as the camera held it.
            pixels = raw.postprocess(
                use_camera_wb=True, no_auto_bright=True, output_bps=16, gamma=SRGB_GAMMA
            )
    except rawpy.LibRawError as error:
        raise Unreadable(
            f"is a raw file that cannot be read ({_words(error)}). Update rawpy, or develop it to "
            "16-bit TIFF with your camera's program."
        ) from error
    return from_array(np.asarray(pixels), False, 1, 16, _metadata(file))


def _words(error: Exception) -> str:
    [content] = error.args[:1] or [""]
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)


def _metadata(file: BinaryIO) -> Metadata:
    """EXIF, XMP and IPTC of files built as TIFF, and of Fujifilm's, which hold a JPEG file."""
    file.seek(0)
    start = file.read(92)
    lost = "EXIF of such a raw file is not kept"
    if start.startswith(STARTS[0]):
        file.seek(int.from_bytes(start[84:88], "big"))
        try:
            with Image.open(io.BytesIO(file.read(int.from_bytes(start[88:92], "big")))) as image:
                return Metadata(exif=image.info.get("exif", b""), xmp=image.info.get("xmp", b""))
        except Exception:  # whatever Pillow meets in a damaged preview
            return Metadata(lost=(lost,))
    if start[:2] not in (b"II", b"MM"):
        return Metadata(lost=(lost,))
    file.seek(0)
    order = b"II*\0" if start[:2] == b"II" else b"MM\0*"
    tags = Image.Exif()
    try:
        tags.load_from_fp(io.BytesIO(order + file.read()[4:]))  # pyright: ignore[reportArgumentType]
        block = exif_bytes(tags, is_tiff=True)
    except Exception:  # whatever Pillow meets in a damaged block
        return Metadata(lost=(lost,))
    note = exif.camera_says(block, exif.MAKER_NOTE)
    found = Metadata(exif=block, lost=laid_out_anew() if note else ())
    if start[2:4] not in (b"*\0", b"\0*"):
        return found
    xmp = tiff.block(file, XMP_IN_TIFF).strip(b"\0")
    own, others = (tiff.block(file, tag) for tag in (iptc.IN_TIFF, iptc.RESOURCES_IN_TIFF))
    return dataclasses.replace(found, xmp=xmp, iptc=iptc.of_tiff_tags(own, others))
