"""Videos on disk: restored frame by frame, so that memory does not grow with their length.

Every scene has statistics of its own, those of a sample of its frames, so it does not flicker, and
two scenes do not share what one of them needs. The file is read twice at once: one reader runs
ahead to the end of the scene, the other restores it. Needs PyAV: the extra `video`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ops.dtypes import to_unit
from ..restoring.scenes import THUMBNAIL, find_scenes
from ..system.atomic import replacing
from .pyav import WHOLE, Source, VideoError, Window, bits, open_video, scaler
from .video_writer import VideoWriter

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv")

FrameRestorer = Callable[[Tensor], Tensor]
"""1,3,H,W in [0, 1] to the same."""


@dataclass
class VideoOutcome:
    """What was done: frames, and where scenes begin."""

    frames: int = 0
    scenes: list[int] = field(default_factory=list)


def count_frames(source: Source, window: Window = WHOLE) -> int:
    """As the file says, or estimated from its length; for progress only. 0 if nobody knows."""
    with open_video(source) as container:
        stream = container.streams.video[0]
        if stream.frames and window == WHOLE:
            return int(stream.frames)
        seconds = container.duration / 1e6 if container.duration else 0
        seconds = max(seconds - window.start, 0)
        if window.seconds:
            seconds = min(seconds, window.seconds)
        return round(seconds * float(stream.average_rate or 0))


def frames_in(container: Any, window: Window) -> Iterator[Any]:
    """Yields the frames of a window, decoded one by one."""
    window.seek(container)
    for frame in container.decode(video=0):
        if window.after(frame):
            return
        if not window.before(frame):
            yield frame


def to_tensor(frame: Any) -> Tensor:
    """A frame of PyAV, upright, as 1,3,H,W in [0, 1]; more than 8 bits are read as 16."""
    format = "rgb48le" if bits(frame) > 8 else "rgb24"
    array = upright(frame.to_ndarray(format=format, interpolation=scaler()), frame)
    pixels = torch.from_numpy(np.ascontiguousarray(array))
    return to_unit(pixels.permute(2, 0, 1)[None])


def upright(array: np.ndarray, frame: Any) -> np.ndarray:
    """H,W,C as a player shows it: phones film sideways and say so."""
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.rot90(array, turns) if turns else array


def thumbnail_of(frame: Any) -> np.ndarray:
    """Grey, small, as numbers."""
    width, height = THUMBNAIL
    small = frame.reformat(width=width, height=height, format="gray", interpolation="AREA")
    return small.to_ndarray().astype(np.float32)


def restore_video(
    source: Source,
    target: Path,
    make_restorer: Callable[[Tensor], FrameRestorer],
    progress: Callable[[int, int], None] = lambda done, total: None,
    window: Window = WHOLE,
) -> VideoOutcome:
    """Restores a video file into an MP4 file, with its sound and the times of its frames.

    The result has 10 bits where the source has more than 8, and says of its colours what that says.

    Args:
        source: a file, or its bytes.
        target: the file to write; nothing is left there if it fails or is stopped.
        make_restorer: gets a sample of each scene, B,3,H,W in [0, 1], and gives what restores its
            frames.
        progress: called with (frames done, frames in all as far as known), also with the same
            numbers again while a scene is looked through; what it raises goes through.
        window: the part of the source to restore; its start becomes 0 in the result.

    Raises:
        VideoError: the source cannot be read.
        OSError: the target cannot be written.
    """
    total, outcome = count_frames(source, window), VideoOutcome()
    with (
        open_video(source) as ahead,
        open_video(source) as reader,
        replacing(target) as file,
        VideoWriter(file, reader, window) as writer,
    ):
        frames = frames_in(ahead, window)
        scenes = find_scenes(
            frames, thumbnail_of, to_tensor, lambda: progress(outcome.frames, total)
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
