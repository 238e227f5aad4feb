"""PyAV, by which videos are read and written: the extra `video`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

Source = str | Path | io.BytesIO


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
        raise VideoError(
            'Videos need PyAV: pip install "devudp[video]", or pip install av.'
        ) from error
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
        VideoError: there is none.
    """
    av = load_av()
    if isinstance(source, io.BytesIO):
        source = io.BytesIO(source.getvalue())  # each reader has a position of its own
    name = "the video" if isinstance(source, io.BytesIO) else str(source)
    try:
        container = av.open(source if isinstance(source, io.BytesIO) else str(source))
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{name} is no video that can be read: {error}") from error
    if not container.streams.video:
        container.close()
        raise VideoError(f"{name} has no images in it, only sound.")
    container.streams.video[0].thread_type = "AUTO"
    return container
