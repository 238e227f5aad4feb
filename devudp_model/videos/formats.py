"""The table of video formats: what is opened, and by which suffixes it is known.

`tools/make_formats.py` makes the documents' table of it.
"""

from __future__ import annotations

from typing import NamedTuple


class Container(NamedTuple):
    """A kind of video file.

    Attributes:
        label: for people.
        suffixes: of its files; without any, it is opened but not looked for.
        names: FFmpeg's.
        note: what is particular about it.
    """

    label: str
    suffixes: tuple[str, ...]
    names: tuple[str, ...]
    note: str = ""


TABLE = (
    Container(
        "MP4, QuickTime, 3GP",
        (".mp4", ".mov", ".m4v", ".3gp", ".3g2", ".f4v"),
        ("mov,mp4,m4a,3gp,3g2,mj2", "m4v"),
    ),
    Container(
        "Matroska, WebM",
        (".mkv", ".webm"),
        ("matroska,webm",),
        "attached files (fonts) are left out and reported",
    ),
    Container("AVI", (".avi",), ("avi",)),
    Container(
        "MPEG program stream, DVD",
        (".mpg", ".mpeg", ".vob", ".m2v"),
        ("mpeg", "mpegvideo"),
        "subtitles that are images are left out and reported",
    ),
    Container(
        "MPEG transport stream, AVCHD",
        (".ts", ".mts", ".m2ts", ".m2t"),
        ("mpegts",),
        "the recorder's clock begins at 0",
    ),
    Container("Windows Media", (".wmv", ".asf"), ("asf",)),
    Container("Flash Video", (".flv",), ("flv",)),
    Container("Ogg", (".ogv",), ("ogg",)),
    Container("GIF", (), ("gif",), "only where another suffix hides it"),
)

SUFFIXES = tuple(suffix for each in TABLE for suffix in each.suffixes)

NAMES = tuple(name for each in TABLE for name in each.names)
"""FFmpeg's names of the containers that are opened. A closed list: others, such as playlists, name
files to be read in their place, whatever their own name ends in."""
