"""Carries what an image file says beside its pixels from one file format to another.

EXIF blocks are patched where they lie, XMP packets corrected; what is lost is said in writing.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from PIL import ExifTags, Image, PngImagePlugin

from . import exif as blocks
from . import gain_map, png, segments, tiff_exif
from . import iptc as iim
from . import xmp as packets
from .formats import BY_NAME
from .gain_map import GainMap

log = logging.getLogger("devudp")

ORIENTATION = ExifTags.Base.Orientation
TIFF_TAGS_TO_KEEP = frozenset(
    {270, 271, 272, 274, 305, 306, 315, 316, 18246, 18249, 33432, 34665, 34853}
    | set(range(40091, 40096))
    | {33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113}  # GeoTIFF
)
"""That describe the image, and not the file's own inside."""
XMP_IN_TIFF, IPTC_IN_TIFF = 700, 33723
XMP_IN_PNG = "XML:com.adobe.xmp"

JPEG_SEGMENT = 65_000
"""A JPEG file's metadata come in segments of 64 KiB at most."""

OF_GAIN_MAP = ("gain map", "second image", "list of further parts")
"""Parts that are there where the gain map is kept."""

SAME_PART = (("gain map", "second image"), ("video", "further data behind the image"))
"""The second of each is the first."""

USUAL_DPI = (1, 72, 96)
"""Resolutions that say nothing: programs write them by themselves."""


@dataclass(frozen=True)
class Metadata:
    """Everything is empty where the file says nothing.

    Attributes:
        icc: the colour profile.
        exif: the block as it lies in the file, made upright; of TIFF as Pillow writes it.
        xmp: the XMP packet, likewise.
        text: a PNG file's text (ComfyUI keeps its workflow there), or a comment.
        dpi: across and down.
        iptc: the data sets (IIM).
        photoshop: a JPEG file's other resources of Photoshop.
        segments: a JPEG file's other segments, of cameras' makers.
        chunks: of a PNG file, those that say what its colours are, and others that are carried.
        gain_map: of a JPEG file, upright.
        parts: what else the file holds and a result does not, such as a depth map.
        lost: sentences on what else is lost.
    """

    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    text: dict[str, str] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None
    iptc: bytes = b""
    photoshop: bytes = b""
    segments: bytes = b""
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    gain_map: GainMap | None = None
    parts: tuple[str, ...] = field(default=(), compare=False)
    lost: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, image: Image.Image, file: BinaryIO | None = None) -> Metadata:
        """Returns that of an opened image, PNG fully loaded (its text may come last).

        Args:
            image: of Pillow.
            file: the one that it lies in; of TIFF, where IPTC is read.
        """
        info, is_tiff = image.info, image.format == "TIFF"
        xmp = info.get("xmp") or info.get(XMP_IN_PNG) or b""
        dpi = info.get("dpi")
        lost = _lost_of_tiff(image) if is_tiff else ()  # before all but the ones to keep go
        exif = b"" if is_tiff else info.get("exif") or b""
        return cls(
            icc=info.get("icc_profile") or b"",
            exif=exif or exif_bytes(image.getexif(), is_tiff=is_tiff),
            xmp=xmp.encode() if isinstance(xmp, str) else xmp,
            text=_text(image),
            dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
            iptc=iim.of_image(image, file),
            photoshop=iim.others_of(image),
            segments=b"".join(segments.others_of(image)),
            parts=(*segments.parts_of(image), *segments.encoders_of(image)),
            lost=lost,
        )

    def upright(self, size: tuple[int, int], *, turned: bool) -> Metadata:
        """Returns it for an image of this width and height that has been turned upright.

        Args:
            size: of the upright image.
            turned: whether it lay otherwise in the file.
        """
        exif, lost = self.exif, list(self.lost)
        try:
            exif = blocks.patched(exif, size) if exif else b""
        except ValueError:
            lost.append("its EXIF data are damaged and not kept")
            exif = b""
        stays = () if self.gain_map is None else self.gain_map.namespaces
        xmp = packets.with_size(packets.upright(self.xmp), size)
        xmp, named = packets.without_parts(xmp, stays)
        kept = OF_GAIN_MAP if self.gain_map is not None else ()
        named = [part for part in named if part not in kept]
        parts = [part for part in dict.fromkeys((*named, *self.parts)) if part not in kept]
        for part, other in SAME_PART:
            if part in parts and other in parts:
                parts.remove(other)
        if parts:
            more = ", and its XMP no longer says so" if named else ""
            lost.append(f"the file's {_joined(parts)} not kept{more}")
        if turned and any(name in xmp for name in packets.REGIONS):
            lost.append("places in the image (faces) that its XMP names are for it unturned")
        return dataclasses.replace(self, exif=exif, xmp=xmp, parts=(), lost=tuple(lost))

    def losses(self, format: str) -> list[str]:
        """Returns what a format cannot hold, in words."""
        able = BY_NAME[format]
        odd = self.dpi is not None and round(self.dpi[0]) not in USUAL_DPI
        text = {key for key in self.text if format != "jpeg" or key != "Comment"}
        too_large = "of more than 64 KiB"
        found = {
            "EXIF": self.exif and not able.exif,
            "XMP": self.xmp and not able.xmp,
            "IPTC": self.iptc and not able.iptc,
            "text": text and format != "png",
            "gain map": self.gain_map is not None and not able.gain_map,
            "Photoshop's settings": self.photoshop and format != "jpeg",
            "maker's further segments": self.segments and format != "jpeg",
            "further chunks": format != "png" and any(n not in png.COLOUR for n, _ in self.chunks),
            "resolution": odd and not self.exif and format in ("webp", "avif", "jxl"),
            f"EXIF {too_large}": format == "jpeg" and len(self.exif) > JPEG_SEGMENT,
            f"XMP {too_large}": format == "jpeg" and len(self.xmp) > JPEG_SEGMENT,
            f"IPTC {too_large}": format == "jpeg" and len(self.iptc) > JPEG_SEGMENT,
            f"Photoshop's settings {too_large}": self._is_photoshop_too_large(format),
        }
        return [name for name, missing in found.items() if missing]

    def _is_photoshop_too_large(self, format: str) -> bool:
        both = len(_segment(self.iptc)) + len(self.photoshop)
        return format == "jpeg" and bool(self.photoshop) and both > JPEG_SEGMENT

    def said_of(self, format: str) -> tuple[str, ...]:
        """Returns sentences on what is lost in a result of this format."""
        losses = self.losses(format)
        note = blocks.camera_says(self.exif, blocks.MAKER_NOTE, blocks.INTEROPERABILITY)
        sentence = (f"{format.upper()} cannot hold its {' and '.join(losses)}: left out",)
        moves = format == "tiff" and note and not tiff_exif.fits(self.exif)
        said = (*self.lost, *(laid_out_anew() if moves else ()), *(sentence if losses else ()))
        return tuple(dict.fromkeys(said))

    def save_options(self, format: str) -> dict[str, Any]:
        """Returns the arguments with which Pillow writes all of it that `format` can hold."""
        options: dict[str, Any] = {}
        if self.dpi and format in ("png", "jpeg", "tiff", "bmp"):
            options["dpi"] = self.dpi
        if self.icc and BY_NAME[format].colour:
            options["icc_profile"] = self.icc
        if format == "png":
            options.update(exif=self.exif, pnginfo=self._png_text())
        elif format == "jpeg":
            options.update(exif=_segment(self.exif), xmp=_segment(self.xmp_of_jpeg()))
            others = b"" if self._is_photoshop_too_large(format) else self.photoshop
            options["extra"] = iim.segment(_segment(self.iptc), others) + self.segments
            if self.gain_map is not None:
                options["extra"] += self.gain_map.segments + gain_map.index_segment()
            if "Comment" in self.text:
                options["comment"] = self.text["Comment"].encode()
        elif format in ("webp", "jxl"):
            options.update(exif=self.exif, xmp=self.xmp)
        elif format == "avif":  # whose writer lays out a block with an orientation anew
            options.update(exif=blocks.without_orientation(self.exif), xmp=self.xmp)
        elif format == "tiff":
            options["exif"] = self.tiff_tags()
        return {name: value for name, value in options.items() if value != b""}

    def xmp_of_jpeg(self) -> bytes:
        """Returns the XMP packet, with the gain map if there is room."""
        if self.gain_map is None or len(self.xmp) > JPEG_SEGMENT:
            return self.xmp
        described = gain_map.described(self.xmp, self.gain_map)
        return described if len(described) <= JPEG_SEGMENT else self.xmp

    def tiff_tags(self) -> bytes:
        """Returns EXIF, XMP and IPTC as the tags of a TIFF file; b"" if there are none."""
        tags = Image.Exif()
        if self.exif:
            try:
                tags.load(self.exif)
                # Pillow would keep where it lay.
                tags.get_ifd(blocks.EXIF_DIRECTORY).pop(blocks.INTEROPERABILITY, None)
                tags.tobytes()
            except Exception as error:  # whatever Pillow meets in a damaged block
                log.warning("The image's EXIF data are damaged and not kept: %s", error)
                tags = Image.Exif()
        for name, block in ((XMP_IN_TIFF, self.xmp), (IPTC_IN_TIFF, self.iptc)):
            if block:
                tags[name] = block
        return tags.tobytes() if len(tags) else b""  # an Exif object would lose its inner blocks

    def _png_text(self) -> PngImagePlugin.PngInfo:
        text = PngImagePlugin.PngInfo()
        for key, value in self.text.items():
            text.add_text(key, value)
        if self.iptc:
            text.add_text(iim.PNG_KEY, iim.as_png_text(self.iptc), zip=True)
        if self.xmp:
            text.add_itxt(XMP_IN_PNG, self.xmp.decode("utf-8", "replace"))
        return text


def _joined(parts: list[str]) -> str:
    """As the subject of "not kept"."""
    return f"{' and '.join(parts)} {'are' if len(parts) > 1 else 'is'}"


def laid_out_anew() -> tuple[str, ...]:
    """Returns what to say of an EXIF block of which only the values are kept."""
    return (
        "its EXIF is laid out anew, without its directory on interoperability, and offsets in a "
        "maker's note may be wrong",
    )


def _lost_of_tiff(image: Image.Image) -> tuple[str, ...]:
    """Says which tags of a TIFF file are lost."""
    carried = TIFF_TAGS_TO_KEEP | tiff_exif.OF_IMAGE | tiff_exif.OF_BLOCK
    others = sorted(set(image.getexif()) - carried)
    names = ", ".join(map(str, others))
    lost = (f"its own TIFF tags ({names}) are not kept",) if others else ()
    note = blocks.MAKER_NOTE in image.getexif().get_ifd(blocks.EXIF_DIRECTORY)
    return lost + (laid_out_anew() if note else ())


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
    """Returns what is kept of an image's EXIF data, laid out anew."""
    if is_tiff:
        for tag in set(exif) - TIFF_TAGS_TO_KEEP:
            del exif[tag]
        exif.get_ifd(blocks.EXIF_DIRECTORY).pop(blocks.INTEROPERABILITY, None)
        exif.bigtiff = False  # whose layout no other file has
    try:
        return exif.tobytes() if len(exif) else b""
    except Exception as error:  # whatever Pillow meets in a damaged block
        log.warning("The image's EXIF data are damaged and not kept: %s", error)
        return b""


def _text(image: Image.Image) -> dict[str, str]:
    if image.format == "PNG":
        text: dict[str, str] = image.text  # pyright: ignore[reportAttributeAccessIssue]
        # XMP, EXIF and IPTC are read from elsewhere.
        return {k: str(v) for k, v in text.items() if k != XMP_IN_PNG and "Raw profile" not in k}
    comment = image.info.get("comment") or ""
    if isinstance(comment, bytes):
        try:
            comment = comment.decode()
        except UnicodeDecodeError:  # of older programs
            comment = comment.decode("latin-1")
    return {"Comment": comment} if comment else {}


def _segment(block: bytes) -> bytes:
    """Returns the block if it fits into JPEG; `losses` says if not."""
    return block if len(block) <= JPEG_SEGMENT else b""
