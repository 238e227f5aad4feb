"""Videos on disk: restored frame by frame, so that memory does not grow with their length.

Every scene has statistics of its own, those of a sample of its frames, so it does not flicker, and
two scenes do not share what one of them needs. The file is read twice at once: one reader runs
ahead to the end of the scene, the other restores it. Needs PyAV: the extra `video`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..atomic import replacing
from ..frozen import SAMPLED_FRAMES, SAMPLED_PIXELS, sampled

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv")

FORMAT = "mp4"
"""Of the results: every player and ComfyUI read it."""

CODEC = {"name": "libx264", "crf": "16", "preset": "medium"}
"""Quality 16 cannot be told from the restored frames by eye."""

COPIED_SOUND = {"aac", "ac3", "alac", "eac3", "mp3"}
"""Sound that MP4 holds in every player; other sound is encoded as AAC."""

THUMBNAIL = (64, 36)
"""Width and height at which frames are compared to find cuts."""

CUT = 0.2
"""Mean difference of two thumbnails over their mean, above which a new scene may begin. A pan gives
some 0.05, a cut 0.3 and more."""

CUT_RATIO = 4.0
"""And so many times the difference of the frames before: fast motion goes on, a cut is alone."""

SHORTEST_SCENE = 6
"""Frames: a flash is no scene."""

Source = str | Path | io.BytesIO

FrameRestorer = Callable[[Tensor], Tensor]
"""1,3,H,W in [0, 1] to the same."""


class VideoError(ValueError):
    """A video cannot be read; the message says why and what to do."""


class Scene(NamedTuple):
    """Frames that belong together: how many, and a sample of them, B,3,H,W in [0, 1]."""

    frames: int
    sample: Tensor


@dataclass
class VideoOutcome:
    """What was done: frames, and where scenes begin."""

    frames: int = 0
    scenes: list[int] = field(default_factory=list)


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


def count_frames(source: Source) -> int:
    """As the file says, or estimated from its length; for progress only. 0 if nobody knows."""
    with open_video(source) as container:
        stream = container.streams.video[0]
        if stream.frames:
            return int(stream.frames)
        seconds = container.duration / 1e6 if container.duration else 0
        return round(seconds * float(stream.average_rate or 0))


def to_tensor(frame: Any) -> Tensor:
    """A frame of PyAV, upright, as 1,3,H,W in [0, 1]."""
    array = upright(frame.to_ndarray(format="rgb24", interpolation=scaler()), frame)
    pixels = torch.from_numpy(np.ascontiguousarray(array))
    return pixels.permute(2, 0, 1)[None].float().div_(255)


def upright(array: np.ndarray, frame: Any) -> np.ndarray:
    """H,W,C as a player shows it: phones film sideways and say so."""
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.rot90(array, turns) if turns else array


def thumbnail(frame: Any) -> np.ndarray:
    """Grey, small, as numbers."""
    width, height = THUMBNAIL
    small = frame.reformat(width=width, height=height, format="gray", interpolation="AREA")
    return small.to_ndarray().astype(np.float32)


class CutFinder:
    """Tells where a new scene begins, frame after frame."""

    def __init__(self) -> None:
        self.last: np.ndarray | None = None
        self.before = 0.0
        self.frames = 0

    def __call__(self, small: np.ndarray) -> bool:
        """Whether this frame, H,W, is the first of a new scene (the very first one is not)."""
        self.frames += 1
        last, self.last = self.last, small
        if last is None:
            return False
        change = float(np.abs(small - last).mean() / (0.5 * (small.mean() + last.mean()) + 1))
        before, self.before = self.before, change
        if change > CUT and change > CUT_RATIO * before and self.frames > SHORTEST_SCENE:
            self.frames, self.before = 1, 0.0
            return True
        return False


class Sampler:
    """Keeps a few frames, evenly spaced over a number that is not known before the end."""

    def __init__(self) -> None:
        self.frames: list[Tensor] = []
        self.stride, self.seen = 1, 0

    def add(self, make: Callable[[], Tensor]) -> None:
        """One frame, made only if it is to be kept."""
        if self.seen % self.stride == 0:
            frame = make()
            room = max(4, 2 * min(SAMPLED_FRAMES, SAMPLED_PIXELS // frame[0, 0].numel()))
            if len(self.frames) == room:
                self.frames = self.frames[::2]
                self.stride *= 2
            if self.seen % self.stride == 0:
                self.frames.append(frame)
        self.seen += 1

    def sample(self) -> Tensor:
        """B,3,H,W in [0, 1]."""
        first = self.frames[0]
        wanted = sampled(len(self.frames), first[0, 0].numel())
        return torch.cat([self.frames[i] for i in wanted if self.frames[i].shape == first.shape])


def find_scenes(
    frames: Iterator[Any],
    small: Callable[[Any], np.ndarray],
    tensor: Callable[[Any], Tensor],
    check: Callable[[], None] = lambda: None,
) -> Iterator[Scene]:
    """One scene after the other; what is read runs ahead to the end of the scene.

    Args:
        frames: of a video.
        small: gives a frame's thumbnail.
        tensor: gives a frame as 1,3,H,W in [0, 1].
        check: is called for each frame; may raise to stop.
    """
    cut, sampler = CutFinder(), Sampler()
    for frame in frames:
        check()
        if cut(small(frame)):
            yield Scene(sampler.seen, sampler.sample())
            sampler = Sampler()
        sampler.add(lambda frame=frame: tensor(frame))
    if sampler.seen:
        yield Scene(sampler.seen, sampler.sample())


def restore_video(
    source: Source,
    target: Path,
    make_restorer: Callable[[Tensor], FrameRestorer],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> VideoOutcome:
    """Restores a video file into an MP4 file, with its sound and the times of its frames.

    Args:
        source: a file, or its bytes.
        target: the file to write; nothing is left there if it fails or is stopped.
        make_restorer: gets a sample of each scene, B,3,H,W in [0, 1], and gives what restores its
            frames.
        progress: called with (frames done, frames in all as far as known), also with the same
            numbers again while a scene is looked through; what it raises goes through.

    Raises:
        VideoError: the source cannot be read.
        OSError: the target cannot be written.
    """
    total, outcome = count_frames(source), VideoOutcome()
    with (
        open_video(source) as ahead,
        open_video(source) as reader,
        replacing(target) as file,
        VideoWriter(file, reader) as writer,
    ):
        scenes = find_scenes(
            ahead.decode(video=0), thumbnail, to_tensor, lambda: progress(outcome.frames, total)
        )
        left, restorer = 0, None
        for frame in writer.frames():
            if not left:
                scene = next(scenes)
                left, restorer = scene.frames, make_restorer(scene.sample)
                outcome.scenes.append(outcome.frames)
            assert restorer is not None
            writer.write(restorer(to_tensor(frame)), frame)
            left -= 1
            outcome.frames += 1
            progress(outcome.frames, max(total, outcome.frames))
    if not outcome.frames:
        raise VideoError("There is not one frame in the video.")
    return outcome


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
        pixels = (restored[0].clamp(0, 1) * 255).round().to(torch.uint8)
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
