"""PyAV, by which videos are read and written: the extra `video`."""

from __future__ import annotations

import errno
import io
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

Source = str | Path | io.BytesIO

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpeg", "mpegvideo", "mpegts", "m4v", "asf",
    "flv", "ogg", "gif",
)  # fmt: skip
"""FFmpeg's names of the containers that are opened. A closed list: others, such as playlists, name
files to be read in their place, whatever their own name ends in."""


class Window(NamedTuple):
    """The part of a video to take, in seconds of its own times; by default all of it.

    Attributes:
        start: of the first frame, at the earliest.
        seconds: how long; 0: to the end.
    """

    start: float = 0.0
    seconds: float = 0.0

    def before(self, part: Any) -> bool:
        """True if a frame or packet comes before the window."""
        return self.start > 0 and part.pts is not None and part.pts < self.ticks(part.time_base)

    def after(self, part: Any) -> bool:
        """True if a frame or packet comes after the window."""
        end = int((self.start + self.seconds) / part.time_base)
        return self.seconds > 0 and part.pts is not None and part.pts >= end

    def ticks(self, time_base: Fraction) -> int:
        """Returns the start in units of a stream's times."""
        return int(self.start / time_base)

    def seek(self, container: Any) -> None:
        """Goes to the last frame before the window from which a video can be read."""
        stream = container.streams.video[0]
        if self.start > 0:
            container.seek(self.ticks(stream.time_base), stream=stream)


WHOLE = Window()


def bits(frame: Any) -> int:
    """Returns how many bits a channel of a frame or of a stream of images has; 8 if unknown."""
    parts = frame.format.components if frame.format else ()
    return max((part.bits for part in parts), default=8)


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
