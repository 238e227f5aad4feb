"""The one table of image formats: what is read, what is written, and what each keeps.

Reading, writing, the command line's choices, what a folder is searched for and docs/formats.md are
all made from it. Nothing heavy is imported here.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

ICC, CICP, GAMMA, FLOAT, DCF = "ICC", "cICP", "gAMA/cHRM", "float", "EXIF"
"""The ways in which a file says what its numbers mean; float is linear light, also above 1, EXIF a
camera's mark of Adobe RGB."""


class Unreadable(ValueError):
    """Why a file is not read or written; the message goes on after the file's name."""


@dataclass(frozen=True)
class Format:
    """A kind of image file.

    Attributes:
        name: as after `--format`.
        label: for people.
        suffixes: the usual one first.
        writes: whether results can have it.
        package: the module that decodes it, beside Pillow; "" for none.
        extra: the extra of this project that installs the package.
        read_bits, write_bits: of a channel, at most.
        colour: the descriptions of colour that a result keeps; others are converted to sRGB.
        exif, iptc, xmp, alpha, gain_map: whether a result keeps them.
        note: what else is to be known.
        longest: pixels that a side may have; 0 for no such limit.
    """

    name: str
    label: str
    suffixes: tuple[str, ...]
    writes: bool = True
    package: str = ""
    extra: str = ""
    read_bits: int = 8
    write_bits: int = 8
    colour: tuple[str, ...] = ()
    exif: bool = False
    iptc: bool = False
    xmp: bool = False
    alpha: bool = False
    gain_map: bool = False
    note: str = ""
    longest: int = 0


RAW_SUFFIXES = tuple(
    f".{name}"
    for name in (
        *("dng", "nef", "nrw", "cr2", "cr3", "arw", "srf", "sr2", "raf", "orf", "rw2", "pef"),
        *("srw", "3fr", "iiq", "erf", "mef", "mos", "rwl", "kdc", "dcr", "x3f", "mrw", "crw"),
        *("fff", "cap", "dcs", "gpr"),
    )
)

TABLE = (
    Format(
        "png", "PNG", (".png",), read_bits=16, write_bits=16, colour=(ICC, CICP, GAMMA),
        exif=True, iptc=True, xmp=True, alpha=True, note="text (ComfyUI's workflow) is kept",
    ),
    Format(
        "jpeg", "JPEG, MPO, Ultra HDR", (".jpg", ".jpeg", ".jfif", ".jpe", ".mpo"),
        colour=(ICC, DCF), exif=True, iptc=True, xmp=True, longest=65_500, gain_map=True,
        note="makers' segments are kept; a second image that is no gain map is left out, reported",
    ),
    Format(
        "webp", "WebP", (".webp",), colour=(ICC,), exif=True, xmp=True, alpha=True,
        longest=16_383,
    ),
    Format(
        "tiff", "TIFF, BigTIFF", (".tif", ".tiff"), read_bits=32, write_bits=32,
        colour=(ICC, FLOAT), exif=True, iptc=True, xmp=True, alpha=True,
        note="32 bits are floating point; values above 1 are kept",
    ),
    Format("bmp", "BMP", (".bmp",), longest=65_535),
    Format(
        "avif", "AVIF", (".avif",), read_bits=16, colour=(ICC,), exif=True, xmp=True, alpha=True,
        longest=65_535, note="needs Pillow 11.3; 10 and 12 bits are read with pyvips",
    ),
    Format(
        "jxl", "JPEG XL", (".jxl",), package="pillow_jxl", extra="formats", exif=True, xmp=True,
        alpha=True, read_bits=16,
        note="more than 8 bits are read with imagecodecs, else 8, which is reported; 8 are written",
    ),
    Format(
        "heic", "HEIC, HEIF", (".heic", ".heif", ".hif"), writes=False, package="pillow_heif",
        extra="formats", read_bits=16, colour=(ICC,), exif=True, xmp=True, alpha=True,
    ),
    Format("gif", "GIF without animation", (".gif",), writes=False),
    Format(
        "raw", "raw: DNG, NEF, CR2, CR3, ARW, RAF, ORF, RW2, ...", RAW_SUFFIXES, writes=False,
        package="rawpy", extra="raw", read_bits=16, exif=True, iptc=True, xmp=True,
        note="developed with the camera's white balance, no automatic brightness",
    ),
)  # fmt: skip

BY_NAME = {format.name: format for format in TABLE}

WRITABLE = {format.name: format.suffixes for format in TABLE if format.writes}
"""What can be written, and the suffixes of each, the usual one first."""

NOT_IN_FOLDERS = {
    ".gif": "may be animations. Name the file itself, or convert it to PNG.",
    **dict.fromkeys(
        (
            *(".jp2", ".j2k", ".jxr", ".exr", ".hdr", ".psd", ".psb", ".xcf", ".svg", ".tga"),
            *(".ppm", ".pgm", ".pnm", ".pcx", ".ico"),
        ),
        "this kind is not supported. Convert them to PNG or TIFF.",
    ),
}
"""Suffixes of images that are not taken from a folder, and why."""


def of_suffix(suffix: str) -> Format | None:
    """Returns the format of files with this suffix, in any case; None if there is none."""
    return next((each for each in TABLE if suffix.lower() in each.suffixes), None)


def is_installed(format: Format) -> bool:
    """Returns whether what decodes it is there."""
    return not format.package or importlib.util.find_spec(format.package) is not None


def advice(format: Format) -> str:
    """Returns what to do where its package is missing; goes on after a full stop."""
    return (
        f"Install what reads it with 'pip install \"devudp[{format.extra}]\"' "
        f"({format.package.replace('_', '-')}), or convert it to PNG or TIFF first."
    )


def readable_names() -> str:
    """Returns all formats that can be read, for messages."""
    return ", ".join(each.label.split(",")[0].split(":")[0] for each in TABLE)


SUFFIXES = tuple(
    suffix for each in TABLE for suffix in each.suffixes if suffix not in NOT_IN_FOLDERS
)
"""Suffixes of the image files in a folder."""
