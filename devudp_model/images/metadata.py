"""What an image file says beside its pixels, carried from one file format to another."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from PIL import ExifTags, Image, PngImagePlugin

log = logging.getLogger("devudp")

ORIENTATION = ExifTags.Base.Orientation

# A TIFF file's tags describe the image and the file's own inside; these describe the image.
TIFF_TAGS_TO_KEEP = frozenset(
    {270, 271, 272, 274, 305, 306, 315, 316, 18246, 18249, 33432, 34665, 34853}
    | set(range(40091, 40096))
)
XMP_IN_TIFF = 700
XMP_IN_PNG = "XML:com.adobe.xmp"

JPEG_SEGMENT = 65_000
"""A JPEG file's metadata come in segments of 64 KiB at most."""


@dataclass(frozen=True)
class Metadata:
    """Everything is empty where the file says nothing.

    Attributes:
        icc: the colour profile.
        exif: as Pillow writes it, the orientation set back to upright.
        xmp: the XMP packet, likewise.
        text: a PNG file's text (ComfyUI keeps its workflow there), or a comment.
        dpi: across and down.
    """

    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    text: dict[str, str] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None

    @classmethod
    def of(cls, image: Image.Image) -> Metadata:
        """Of an opened image, PNG fully loaded (its text may come last)."""
        info = image.info
        xmp = info.get("xmp") or info.get(XMP_IN_PNG) or b""
        dpi = info.get("dpi")
        return cls(
            icc=info.get("icc_profile") or b"",
            exif=exif_bytes(image.getexif(), is_tiff=image.format == "TIFF"),
            xmp=upright_xmp(xmp.encode() if isinstance(xmp, str) else xmp),
            text=_text(image),
            dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
        )

    def save_options(self, format: str) -> dict[str, Any]:
        """The arguments with which Pillow writes all of it that `format` can hold."""
        options: dict[str, Any] = {}
        if self.dpi and format != "webp":
            options["dpi"] = self.dpi
        if self.icc and format != "bmp":
            options["icc_profile"] = self.icc
        if format == "png":
            options.update(exif=self.exif, pnginfo=self._png_text())
        elif format == "jpeg":
            options.update(exif=_segment(self.exif, "EXIF"), xmp=_segment(self.xmp, "XMP"))
            if "Comment" in self.text:
                options["comment"] = self.text["Comment"].encode()
        elif format == "webp":
            options.update(exif=self.exif, xmp=self.xmp)
        elif format == "tiff":
            tags = Image.Exif()
            if self.exif:
                tags.load(self.exif)
            if self.xmp:
                tags[XMP_IN_TIFF] = self.xmp
            options["exif"] = tags.tobytes()  # an Exif object would lose its inner blocks
        return {name: value for name, value in options.items() if value != b""}

    def _png_text(self) -> PngImagePlugin.PngInfo:
        text = PngImagePlugin.PngInfo()
        for key, value in self.text.items():
            text.add_text(key, value)
        if self.xmp:
            text.add_itxt(XMP_IN_PNG, self.xmp.decode("utf-8", "replace"))
        return text


def upright_xmp(xmp: bytes) -> bytes:
    """The packet with its orientation, if it has one, set to 1."""
    return re.sub(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))\d", rb"\g<1>1", xmp)


def exif_of_tiff(file: BinaryIO) -> bytes:
    """As `Metadata.exif`, of a TIFF file whose pixels Pillow cannot read; b"" if damaged."""
    exif = Image.Exif()
    file.seek(0)
    try:
        exif.load_from_fp(file)  # pyright: ignore[reportArgumentType]
    except Exception as error:  # whatever Pillow meets in a damaged block
        log.warning("The image's EXIF data are damaged and not kept: %s", error)
        return b""
    return exif_bytes(exif, is_tiff=True)


def exif_bytes(exif: Image.Exif, *, is_tiff: bool) -> bytes:
    """What is kept of an image's EXIF data, upright."""
    if is_tiff:
        for tag in set(exif) - TIFF_TAGS_TO_KEEP:
            del exif[tag]
        exif.bigtiff = False  # whose layout no other file has
    if ORIENTATION in exif:
        exif[ORIENTATION] = 1
    try:
        return exif.tobytes() if len(exif) else b""
    except Exception as error:  # whatever Pillow meets in a damaged block
        log.warning("The image's EXIF data are damaged and not kept: %s", error)
        return b""


def _text(image: Image.Image) -> dict[str, str]:
    if image.format == "PNG":
        text: dict[str, str] = image.text  # pyright: ignore[reportAttributeAccessIssue]
        # XMP and EXIF have their own places.
        return {k: str(v) for k, v in text.items() if k != XMP_IN_PNG and "Raw profile" not in k}
    comment = image.info.get("comment") or ""
    comment = comment.decode("utf-8", "replace") if isinstance(comment, bytes) else comment
    return {"Comment": comment} if comment else {}


def _segment(block: bytes, name: str) -> bytes:
    if len(block) <= JPEG_SEGMENT:
        return block
    log.warning("The %s data, larger than 64 KiB, do not fit into JPEG and are left out.", name)
    return b""
