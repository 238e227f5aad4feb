"""Writes MP4 files with the times, colours and sound of another video."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ops.dtypes import from_unit
from .pyav import load_av, scaler

FORMAT = "mp4"
"""Of the results: every player and ComfyUI read it."""

CODEC = {"name": "libx264", "crf": "16", "preset": "medium"}
"""Quality 16 cannot be told from the restored frames by eye."""

COPIED_SOUND = {"aac", "ac3", "alac", "eac3", "mp3"}
"""Sound that MP4 holds in every player; other sound is encoded as AAC."""


def subsample(planes: np.ndarray) -> np.ndarray:
    """YUV 4:4:4, 3,H,W, to 4:2:0, 3 H / 2,W; H and W are even.

    Chroma belongs to the left one of two pixels, as MPEG has it and readers take it to be; FFmpeg
    would write it between them, and colours would move by half a pixel.
    """
    parts = [planes[0].reshape(-1)]
    for plane in planes[1:]:
        wide = np.pad(plane.astype(np.float32), ((0, 0), (1, 1)), "edge")
        rows = (wide[:, :-2:2] + 2 * wide[:, 1:-1:2] + wide[:, 2::2]) / 4
        parts.append(((rows[::2] + rows[1::2]) / 2).round().astype(np.uint8).reshape(-1))
    return np.concatenate(parts).reshape(-1, planes.shape[2])


class VideoWriter:
    """An MP4 file with the frames' times, the colours' meaning and the sound of another video.

    Args:
        file: open for writing.
        reader: container of the other video.
    """

    def __init__(self, file: Any, reader: Any):
        av = load_av()
        self.av, self.reader = av, reader
        self.container = av.open(file, mode="w", format=FORMAT)
        self.source = reader.streams.video[0]
        self.video: Any = None  # made with the first frame, which tells the size
        self.sound = reader.streams.audio[0] if reader.streams.audio else None
        self.sound_out: Any = None
        self.waiting: list[Any] = []  # sound before the first image
        if self.sound is not None:
            copied = self.sound.codec_context.name in COPIED_SOUND
            add = self.container.add_stream_from_template
            self.sound_out = (
                add(self.sound)
                if copied
                else self.container.add_stream("aac", rate=self.sound.codec_context.sample_rate)
            )
            self.copied = copied

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None and self.video is not None:
            self.container.mux(self.video.encode(None))
            if self.sound is not None and not self.copied:
                self.container.mux(self.sound_out.encode(None))
        self.container.close()

    def frames(self) -> Iterator[Any]:
        """The frames to restore; sound goes over in between."""
        streams = [s for s in (self.source, self.sound) if s is not None]
        for packet in self.reader.demux(streams):
            if packet.stream is self.source or packet.stream.type == "video":
                yield from packet.decode()
            else:
                self.write_sound(packet)

    def write_sound(self, packet: Any) -> None:
        if self.video is None:  # the file's head is written with the first packet
            self.waiting.append(packet)
            return
        if not self.copied:
            for frame in packet.decode():
                self.container.mux(self.sound_out.encode(frame))
        elif packet.dts is not None:
            packet.stream = self.sound_out
            self.container.mux(packet)

    def start(self, height: int, width: int) -> Any:
        """The stream of images."""
        rate = self.source.average_rate or self.source.guessed_rate or Fraction(25)
        options = {key: CODEC[key] for key in ("crf", "preset")}
        video = self.container.add_stream(CODEC["name"], rate=rate, options=options)
        video.width, video.height = width, height
        even = not (width % 2 or height % 2)
        video.pix_fmt = "yuv420p" if even else "yuv444p"
        video.time_base = self.source.time_base
        ours, theirs = video.codec_context, self.source.codec_context
        ours.time_base = self.source.time_base
        for name in ("colorspace", "color_primaries", "color_trc", "color_range"):
            setattr(ours, name, getattr(theirs, name))
        return video

    def write(self, restored: Tensor, frame: Any) -> None:
        """1,3,H,W in [0, 1], at the time of `frame`."""
        pixels = from_unit(restored[0], torch.uint8)
        array = pixels.permute(1, 2, 0).contiguous().cpu().numpy()
        if self.video is None:
            self.video = self.start(*array.shape[:2])
            waiting, self.waiting = self.waiting, []
            for packet in waiting:
                self.write_sound(packet)
        made = self.av.VideoFrame.from_ndarray(array, format="rgb24").reformat(
            format="yuv444p",
            interpolation=scaler(),
            dst_colorspace=frame.colorspace,
            dst_color_range=frame.color_range,
        )
        if self.video.pix_fmt == "yuv420p":
            made = self.av.VideoFrame.from_ndarray(subsample(made.to_ndarray()), format="yuv420p")
        made.pts, made.time_base = frame.pts, frame.time_base
        self.container.mux(self.video.encode(made))
