"""Videos on disk: restored frame by frame, so that memory does not grow with their length.

Every scene has statistics of its own, those of a sample of its frames, so it does not flicker, and
two scenes do not share what one of them needs. The file is read twice at once: one reader runs
ahead to the end of the scene, the other restores it. Needs PyAV: the extra `video`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..images.writing import copy_file
from ..restoring.scenes import THUMBNAIL, find_scenes
from ..system.atomic import replacing
from .carried import left_out, sentences
from .formats import SUFFIXES as SUFFIXES
from .frame_colours import YCGCO, FrameImage, seen
from .planes import Layout
from .pyav import WHOLE, Source, VideoError, Window, open_video, video_stream
from .reader import VideoReader
from .video_writer import FORMAT, VideoWriter

FrameRestorer = Callable[[Tensor], Tensor]
"""1,3,H,W in [0, 1] to the same."""


class Planned(NamedTuple):
    """A scene: how many frames, what restores them, whether nothing is to be done."""

    frames: int
    restore: FrameRestorer
    unchanged: bool


@dataclass
class VideoOutcome:
    """Says what was done.

    Attributes:
        frames: how many.
        scenes: where they begin.
        unchanged: nothing was to be done in any scene.
        said: a sentence for each thing that was converted, left out or damaged.
        path: the file that was written.
    """

    path: Path | None = None
    frames: int = 0
    scenes: list[int] = field(default_factory=list)
    unchanged: bool = False
    said: list[str] = field(default_factory=list)


def count_frames(source: Source, window: Window = WHOLE) -> int:
    """As the file says, or estimated from its length; for progress only. 0 if nobody knows."""
    with open_video(source) as container:
        stream = video_stream(container)
        if stream.frames and window == WHOLE:
            return int(stream.frames)
        seconds = container.duration / 1e6 if container.duration else 0
        seconds = max(seconds - window.start, 0)
        if window.seconds:
            seconds = min(seconds, window.seconds)
        return round(seconds * float(stream.average_rate or 0))


def thumbnail_of(frame: Any) -> np.ndarray:
    """Grey, small, as numbers."""
    width, height = THUMBNAIL
    # Not a matrix that the scaler does not know: luma is luma, also without it.
    matrix = "ITU709" if int(frame.colorspace) == YCGCO else None
    small = frame.reformat(width, height, "gray", matrix, interpolation="AREA")
    return small.to_ndarray().astype(np.float32)


@contextmanager
def explained(source: Source) -> Iterator[None]:
    """Names the file in what is raised about its colours."""
    try:
        yield
    except VideoError as error:
        name = "" if isinstance(source, io.BytesIO) else f"{source}: "
        raise VideoError(f"{name}{error}") from error


def restore_video(
    source: Source,
    target: Path,
    make_restorer: Callable[[Tensor], FrameRestorer],
    progress: Callable[[int, int], None] = lambda done, total: None,
    window: Window = WHOLE,
    *,
    unchanged: Callable[[], bool] = lambda: False,
    overwrite: bool = True,
    copy_as: Path | None = None,
) -> VideoOutcome:
    """Restores a video file into an MP4 file, with its tracks, its colours and its frames' times.

    The result has 10 bits where the source has more than 8, and chroma no coarser than its. A
    video in which nothing is to be done is copied, byte for byte, if it is an MP4 file already or
    there is a name for the copy.

    Args:
        source: a file, or its bytes.
        target: the file to write; nothing is left there if it fails or is stopped.
        make_restorer: gets a sample of each scene, B,3,H,W in [0, 1], and gives what restores its
            frames.
        progress: called with (frames done, frames in all as far as known), also with the same
            numbers again while a scene is looked through; what it raises goes through.
        window: the part of the source to restore; its start becomes 0 in the result.
        unchanged: asked after `make_restorer`: True if nothing is to be done in that scene.
        overwrite: whether a file that is there already may be replaced.
        copy_as: the file to write in the place of `target` if nothing is to be done and the source
            is not MP4.

    Raises:
        VideoError: the source cannot be read, or there is not one frame in it.
        OSError: the target cannot be written.
    """
    total, outcome = count_frames(source, window), VideoOutcome()

    def check() -> None:
        progress(outcome.frames, total)

    with explained(source), open_video(source) as ahead:
        looking = VideoReader(ahead, window)
        scenes = plan(looking, make_restorer, unchanged, check)
        first: list[Planned] = []
        for scene in scenes:  # nothing is written before something is to be done
            first.append(scene)
            if not scene.unchanged or window != WHOLE:
                break
        if not first:
            raise VideoError(looking.beginning.why_nothing())
        outcome.unchanged = all(scene.unchanged for scene in first)
        copied = target if is_mp4(source) else copy_as
        if outcome.unchanged and window == WHOLE and copied is not None:
            copy(source, copied, overwrite)
            outcome.frames = sum(scene.frames for scene in first)
            *outcome.scenes, _ = accumulate((scene.frames for scene in first), initial=0)
            outcome.path = copied
            progress(outcome.frames, max(total, outcome.frames))
            return outcome
        with (
            replacing(target, overwrite=overwrite) as file,
            open_video(source) as reader,
            VideoWriter(file, reader, window) as writer,
        ):
            write_frames(writer, chain(first, scenes), outcome, total, progress)
            outcome.said += left_out(reader) + writer.said
            if writer.lost:
                outcome.said.append(f"{writer.lost} packets of sound or text could not be taken.")
    outcome.path = target
    return outcome


def plan(
    reader: VideoReader,
    make_restorer: Callable[[Tensor], FrameRestorer],
    unchanged: Callable[[], bool],
    check: Callable[[], None],
) -> Iterator[Planned]:
    """Gives the scenes, with what restores them."""
    for scene in find_scenes(reader.frames(), thumbnail_of, seen, check):
        restore = make_restorer(scene.sample)
        yield Planned(scene.frames, restore, unchanged())


def write_frames(
    writer: VideoWriter,
    scenes: Iterator[Planned],
    outcome: VideoOutcome,
    total: int,
    progress: Callable[[int, int], None],
) -> None:
    """Restores and writes all frames; what is to be said of them is added to the outcome."""
    left, scene, layout = 0, None, None
    for frame in writer.frames():
        if not left:
            # A damaged file may give a frame more the second time: it belongs to the last scene.
            following = next(scenes, None)
            if following is not None:
                outcome.unchanged &= following.unchanged
                outcome.scenes.append(outcome.frames)
            scene = following or scene
            left = scene.frames if following is not None and scene is not None else 1
        if scene is None:
            break
        layout = layout or Layout.of(frame.format)
        image = FrameImage(frame, writer.reader.colours, writer.reader.turn)
        restored = image.seen if scene.unchanged else scene.restore(image.seen)
        writer.write(restored, frame, image)
        left -= 1
        outcome.frames += 1
        progress(outcome.frames, max(total, outcome.frames))
    if layout is None:
        raise VideoError(writer.reader.beginning.why_nothing())
    stated = int(writer.source.frames or 0) if writer.window == WHOLE else 0
    outcome.said += sentences(writer.reader, layout, outcome.frames, stated)
    if writer.clock.jumps:
        times = writer.clock.jumps
        outcome.said.append(f"Its times step back or jump at {times} frames: they now run on.")


def is_mp4(source: Source) -> bool:
    """True if a file is what results are: then it may be copied."""
    if not isinstance(source, io.BytesIO):
        return Path(source).suffix.lower() == f".{FORMAT}"
    with open_video(source) as container:
        return "mp4" in container.format.name and "qt" not in container.metadata.get(
            "major_brand", "qt"
        )


def copy(source: Source, target: Path, overwrite: bool) -> None:
    """Writes the same bytes."""
    if not isinstance(source, io.BytesIO):
        copy_file(source, target, overwrite=overwrite)
        return
    with replacing(target, overwrite=overwrite) as file:
        file.write(source.getvalue())
