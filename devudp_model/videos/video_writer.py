"""Writes MP4 files with the times, colours and sound of another video."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ops.dtypes import from_unit
from .pyav import WHOLE, Window, bits, load_av, scaler

FORMAT = "mp4"
"""Of the results: every player and ComfyUI read it."""

CODEC = {"name": "libx264", "crf": "16", "preset": "medium"}
"""Quality 16 cannot be told from the restored frames by eye."""

COPIED_SOUND = {"aac", "ac3", "alac", "eac3", "mp3"}
"""Sound that MP4 holds in every player; other sound is encoded as AAC."""


def subsample(planes: list[np.ndarray]) -> list[np.ndarray]:
    """YUV 4:4:4, three times H,W, to 4:2:0: the last two are half as high and wide.

    H and W are even. The type stays, uint8 or uint16.

    Chroma belongs to the left one of two pixels, as MPEG has it and readers take it to be; FFmpeg
    would write it between them, and colours would move by half a pixel.
    """
    parts = planes[:1]
    for plane in planes[1:]:
        wide = np.pad(plane.astype(np.float32), ((0, 0), (1, 1)), "edge")
        rows = (wide[:, :-2:2] + 2 * wide[:, 1:-1:2] + wide[:, 2::2]) / 4
        parts.append(((rows[::2] + rows[1::2]) / 2).round().astype(plane.dtype))
    return parts


def read_planes(frame: Any, dtype: type[np.generic]) -> list[np.ndarray]:
    """Copies the planes of a planar frame, each H,W. (Not all PyAV have all formats as arrays.)"""
    size = np.dtype(dtype).itemsize
    return [
        np.frombuffer(plane, dtype)
        .reshape(plane.height, plane.line_size // size)[:, : plane.width]
        .copy()
        for plane in frame.planes
    ]


def from_planes(av: Any, parts: list[np.ndarray], format: str) -> Any:
    """Makes a frame of planes, each H,W."""
    height, width = parts[0].shape
    frame = av.VideoFrame(width, height, format)
    for plane, part in zip(frame.planes, parts, strict=True):
        rows = np.zeros((plane.height, plane.line_size // part.itemsize), part.dtype)
        rows[:, : plane.width] = part
        plane.update(rows.tobytes())
    return frame


class VideoWriter:
    """An MP4 file with the frames' times, the colours' meaning and the sound of another video.

    Args:
        file: open for writing.
        reader: container of the other video.
        window: the part of the other video that is taken.
    """

    def __init__(self, file: Any, reader: Any, window: Window = WHOLE):
        av = load_av()
        self.av, self.reader, self.window = av, reader, window
        window.seek(reader)
        self.container = av.open(file, mode="w", format=FORMAT)
        self.source = reader.streams.video[0]
        self.deep = bits(self.source) > 8
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
        ended = {stream.type: False for stream in streams}
        for packet in self.reader.demux(streams):
            if packet.stream is self.source or packet.stream.type == "video":
                for frame in packet.decode():
                    ended["video"] = ended["video"] or self.window.after(frame)
                    if not ended["video"] and not self.window.before(frame):
                        yield frame
            elif self.window.after(packet):
                ended["audio"] = True
            elif not self.window.before(packet):
                self.write_sound(packet)
            if all(ended.values()):
                break

    def write_sound(self, packet: Any) -> None:
        if self.video is None:  # the file's head is written with the first packet
            self.waiting.append(packet)
            return
        if not self.copied:
            for frame in packet.decode():
                self.shift(frame)
                self.container.mux(self.sound_out.encode(frame))
        elif packet.dts is not None:
            late = self.window.ticks(packet.time_base)
            if late:
                packet.pts, packet.dts = packet.pts - late, packet.dts - late
            packet.stream = self.sound_out
            self.container.mux(packet)

    def shift(self, frame: Any) -> None:
        """Makes the window's start the time 0."""
        if frame.pts is not None:
            frame.pts -= self.window.ticks(frame.time_base)

    def start(self, height: int, width: int) -> Any:
        """The stream of images."""
        rate = self.source.average_rate or self.source.guessed_rate or Fraction(25)
        options = {key: CODEC[key] for key in ("crf", "preset")}
        video = self.container.add_stream(CODEC["name"], rate=rate, options=options)
        video.width, video.height = width, height
        even = not (width % 2 or height % 2)
        video.pix_fmt = ("yuv420p" if even else "yuv444p") + ("10le" if self.deep else "")
        video.time_base = self.source.time_base
        ours, theirs = video.codec_context, self.source.codec_context
        ours.time_base = self.source.time_base
        for name in ("colorspace", "color_primaries", "color_trc", "color_range"):
            setattr(ours, name, getattr(theirs, name))
        return video

    def write(self, restored: Tensor, frame: Any) -> None:
        """1,3,H,W in [0, 1], at the time of `frame`."""
        number = np.uint16 if self.deep else np.uint8
        pixels = from_unit(restored[0], torch.uint16 if self.deep else torch.uint8)
        array = pixels.permute(1, 2, 0).contiguous().cpu().numpy()
        if self.video is None:
            self.video = self.start(*array.shape[:2])
            waiting, self.waiting = self.waiting, []
            for packet in waiting:
                self.write_sound(packet)
        rgb = "rgb48le" if self.deep else "rgb24"
        made = self.av.VideoFrame.from_ndarray(array, format=rgb).reformat(
            format="yuv444p10le" if self.deep else "yuv444p",
            interpolation=scaler(),
            dst_colorspace=frame.colorspace,
            dst_color_range=frame.color_range,
        )
        if self.video.pix_fmt.startswith("yuv420p"):
            parts = subsample(read_planes(made, number))
            made = from_planes(self.av, parts, self.video.pix_fmt)
        made.pts, made.time_base = frame.pts, frame.time_base
        self.shift(made)
        self.container.mux(self.video.encode(made))
