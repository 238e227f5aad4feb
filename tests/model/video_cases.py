"""Small videos that have one property of what cameras, recorders and editors write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av")

WIDTH, HEIGHT, FRAMES, RATE = 64, 48, 8, 24

Step = Callable[[Any], object]


def scene(number: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """H,W,3 in [0, 1]: smooth colours that move slowly; bright at the left, red at the top."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    x = x / width + number / 200
    y = y / height
    return np.stack([1 - 0.6 * y, 0.9 - 0.6 * x, 0.3 + 0.3 * x * y], -1).clip(0, 1)


def frames_of(
    format: str,
    count: int = FRAMES,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    matrix: int | None = None,
    span: int | None = None,
) -> Iterator[Any]:
    """Frames of a pixel format; `matrix` and `span` by H.273's numbers."""
    for number in range(count):
        pixels = (scene(number, size) * 65535).round().astype(np.uint16)
        made = av.VideoFrame.from_ndarray(pixels, format="rgb48le")
        made = made.reformat(format=format, dst_colorspace=matrix, dst_color_range=span)
        made.pts, made.time_base = number, Fraction(1, RATE)
        yield made


def write(
    path: Path,
    frames: Iterable[Any],
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    set_up: Step = lambda stream: None,
    before: Step = lambda container: None,
    after: Step = lambda container: None,
    format: str | None = None,
    offset: int = 0,
) -> Path:
    """Writes a video of frames.

    Args:
        set_up: gets the stream before it is opened.
        before: gets the container before the first frame, to add further streams.
        after: gets it after the last one.
        offset: of the times, in frames.
    """
    options = {"crf": "4", "x265-params": "log-level=error"} if options is None else options
    with av.open(str(path), "w", format=format) as container:
        stream = None
        before(container)
        for frame in frames:
            if stream is None:
                stream = container.add_stream(codec, rate=RATE, options=options)
                stream.width, stream.height = frame.width, frame.height
                stream.pix_fmt = frame.format.name
                set_up(stream)
            frame.pts += offset
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
        after(container)
    return path


def tag(**numbers: int) -> Step:
    """Returns what sets colour tags of a stream."""

    def set_up(stream: Any) -> None:
        for name, number in numbers.items():
            setattr(stream.codec_context, name, number)

    return set_up


def add_tone(container: Any, codec: str, layout: str, language: str = "", offset: int = 0) -> Step:
    """Adds a track of sound that begins at a frame; returns what writes it."""
    rate = 48000
    stream = container.add_stream(codec, rate=rate, layout=layout)
    if language:
        stream.metadata["language"] = language

    def play(_: Any) -> None:
        channels = len(stream.layout.channels)
        wave = np.sin(np.arange(rate * FRAMES // RATE) * 2 * np.pi * 440 / rate) * 9000
        samples = np.repeat(wave.astype(np.int16), channels)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts = rate, offset * rate // RATE
        resampler = av.AudioResampler(stream.format.name, layout, rate)
        for part in [*resampler.resample(frame), None]:
            container.mux(stream.encode(part))

    return play
