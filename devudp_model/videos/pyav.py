"""PyAV, by which videos are read and written: the extra `video`."""

from __future__ import annotations

import errno
import io
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from .formats import NAMES

Source = str | Path | io.BytesIO


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
        end = int((self.start + self.seconds) / part.time_base) if self.seconds > 0 else 0
        return self.seconds > 0 and part.pts is not None and part.pts >= end

    def ticks(self, time_base: Fraction) -> int:
        """Returns the start in units of a stream's times."""
        return int(self.start / time_base)

    def seek(self, container: Any) -> None:
        """Goes to the last frame before the window from which a video can be read."""
        if self.start > 0:
            stream = video_stream(container)
            container.seek(self.ticks(stream.time_base), stream=stream)


WHOLE = Window()


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
    """Makes FFmpeg change between RGB and YUV well: by default it halves chroma's resolution and
    rounds down, which makes colours darker by a level or two each way."""
    kinds = load_av().video.reformatter.Interpolation
    try:
        exact = kinds.ACCURATE_RND | kinds.FULL_CHR_H_INT | kinds.FULL_CHR_H_INP
        return kinds.BICUBIC | exact
    except (AttributeError, TypeError):  # older than PyAV 16
        return "BICUBIC"


ATTACHED_PIC = 1 << 10
"""FFmpeg's mark of a stream that is one image, such as a cover."""


def disposition_of(stream: Any) -> int:
    """Returns FFmpeg's marks of a stream: default, forced, for the deaf, a cover, ..."""
    marks = getattr(stream, "disposition", 0) or 0
    return int(getattr(marks, "value", marks))


def is_cover(stream: Any) -> bool:
    """True if a stream is a file's cover and no video."""
    return bool(disposition_of(stream) & ATTACHED_PIC)


def video_stream(container: Any) -> Any:
    """Returns the first stream of moving images; None if there is none."""
    return next((each for each in container.streams.video if not is_cover(each)), None)


def bits(frame: Any) -> int:
    """Returns how many bits a channel of a frame or of a stream of images has; 8 if unknown."""
    parts = frame.format.components if frame.format else ()
    return max((part.bits for part in parts), default=8)


def why_no_images(kinds: set[str]) -> str:
    """Why a file with streams of these kinds is no video; goes on after its name."""
    if not kinds:
        return "is empty: there are neither images nor sound in it. Give the whole recording."
    what = "only sound" if "audio" in kinds else "nothing that moves"
    return f"has no images in it, {what}. Give a file with images."


def open_video(source: Source) -> Any:
    """Returns a container of PyAV, with at least one video stream.

    Raises:
        VideoError: there is none, or it is of a format that is not in the table.
    """
    av = load_av()
    options = {"format_whitelist": ",".join(NAMES), "protocol_whitelist": "file"}
    if isinstance(source, io.BytesIO):
        name, address = "the video", io.BytesIO(source.getvalue())  # with a position of its own
    else:
        name, address = str(source), f"file:{source}"  # a name with a colon is no protocol
    try:
        container = av.open(address, container_options=options)
    except (av.FFmpegError, OSError) as error:
        reason = f"{error.strerror or error}."
        if error.errno == errno.EINVAL:
            reason = "its format is none of those that are opened (playlists never are)."
        raise VideoError(
            f"{name} is no video that can be read: {reason} Give a whole MP4, MOV, MKV, WebM, AVI, "
            "MPEG or WMV file."
        ) from error
    stream = video_stream(container)
    if stream is None:
        kinds = {each.type for each in container.streams}
        container.close()
        raise VideoError(f"{name} {why_no_images(kinds)}")
    stream.thread_type = "AUTO"
    return container
