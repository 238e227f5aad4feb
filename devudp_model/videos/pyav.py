"""PyAV, by which videos are read and written: the extra `video`."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

Source = str | Path | io.BytesIO

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpeg", "mpegvideo", "mpegts", "m4v", "asf",
    "flv", "ogg", "gif",
)  # fmt: skip
"""FFmpeg's names of the containers that are opened. A closed list: others, such as playlists, name
files to be read in their place, whatever their own name ends in."""


class VideoError(ValueError):
    """A video cannot be read; the message says why and what to do."""


def load_av() -> Any:
    """PyAV.

    Raises:
        VideoError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise VideoError("Videos need PyAV: pip install av.") from error
    return av


def scaler() -> Any:
    """How FFmpeg is to change between RGB and YUV: by default it halves the chroma's resolution and
    rounds down, which makes colours darker by a level or two each way."""
    kinds = load_av().video.reformatter.Interpolation
    try:
        exact = kinds.ACCURATE_RND | kinds.FULL_CHR_H_INT | kinds.FULL_CHR_H_INP
        return kinds.BICUBIC | exact
    except (AttributeError, TypeError):  # older than PyAV 16
        return "BICUBIC"


def open_video(source: Source) -> Any:
    """A container of PyAV, with at least one video stream.

    Raises:
        VideoError: there is none, or it is of a format that is not in `FORMATS`.
    """
    av = load_av()
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    if isinstance(source, io.BytesIO):
        name, place = "the video", io.BytesIO(source.getvalue())  # each reader has its own position
    else:
        name, place = str(source), f"file:{source}"  # a name with a colon is no protocol
    try:
        container = av.open(place, container_options=options)
    except (av.FFmpegError, OSError) as error:
        reason = f"{error.strerror or error}."
        if error.errno == errno.EINVAL:
            reason = "its format is none of those that are opened (playlists never are)."
        raise VideoError(
            f"{name} is no video that can be read: {reason} Give a whole MP4, MOV, MKV, WebM, AVI, "
            "MPEG or WMV file."
        ) from error
    if not container.streams.video:
        container.close()
        raise VideoError(f"{name} has no images in it, only sound. Give a file with images.")
    container.streams.video[0].thread_type = "AUTO"
    return container
