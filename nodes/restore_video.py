"""DEvUDP Restore Video: VIDEO in, VIDEO out, with its sound."""

from __future__ import annotations

import importlib.util
import logging
import secrets
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import folder_paths  # pyright: ignore[reportMissingImports]
from comfy_api.latest import io  # pyright: ignore[reportMissingImports]
from torch import Tensor

from ..devudp_model.engine.precision import Precision
from ..devudp_model.restorer import Scenes
from ..devudp_model.restoring.scenes import find_scenes, thumbnail
from ..devudp_model.restoring.tasks import Task
from ..devudp_model.videos.pyav import WHOLE, Window, open_video
from ..devudp_model.videos.video import restore_video
from ..devudp_model.videos.video_writer import FORMAT
from . import host
from .host import make, show_text
from .images import channels_first, channels_last, empty_like
from .inputs import (
    ALIASES,
    CATEGORY,
    SHOWS_WHAT_IT_DID,
    ChecksCheckpoint,
    checkpoint_input,
    denoise_input,
    exposure_input,
    make_options,
    precision_input,
    strength_input,
    task_input,
)
from .restore_chosen import in_two_lines
from .run_on_host import restorer_on_host

VIDEO_ALIASES = ["video", "fix video", "shaky video", "dark video"]

log = logging.getLogger("devudp")

ROOM = 2 * 2**30
"""Bytes that the host is asked for: about what a frame of 1920 by 1080 takes in fp32."""


def is_possible() -> bool:
    """True if the host has videos, and the means to read and write them."""
    return hasattr(io, "Video") and bool(host.video_types()) and has_av()


def has_av() -> bool:
    try:
        return importlib.util.find_spec("av") is not None
    except ValueError:
        return False


class DEvUDPRestoreVideo(ChecksCheckpoint, io.ComfyNode):
    """Restores a video file frame by frame, so that it may be of any length."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make(
            io.Schema,
            node_id="DEvUDPRestoreVideo",
            display_name="DEvUDP Restore Video: deblur, dark, exposure",
            category=CATEGORY,
            description=(
                "Removes blur from a video and corrects its exposure. The frames of a scene are "
                "measured together, so they do not flicker; sound and frame rate are kept. For "
                "Load Video and Save Video."
            ),
            inputs=[
                io.Video.Input("video", tooltip="The video, of any length."),
                task_input(),
                checkpoint_input(),
                strength_input(),
                exposure_input(),
                precision_input(),
                denoise_input(),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="The restored video.")],
            newer={
                "search_aliases": [*VIDEO_ALIASES, *ALIASES],
                **SHOWS_WHAT_IT_DID,
            },
        )

    @classmethod
    def execute(
        cls,
        video: Any,
        task: Task,
        checkpoint: str,
        strength: float,
        exposure: float,
        precision: Precision,
        denoise: float = 1.0,
    ) -> io.NodeOutput:
        options = make_options(task, strength, exposure, precision, "shared", denoise)
        with restorer_on_host(checkpoint, task, options, lambda *_: ROOM) as restorer:
            scenes = restorer.scenes()
            window = window_of(video)
            if window is not None:
                restored = restore_file(video, scenes, window)
            else:
                restored = restore_frames(video, scenes)
        text = scenes.reason
        text = text if "\n" in text else in_two_lines(text)
        if text:
            show_text(text)
        return io.NodeOutput(restored, ui={"text": (text,)} if text else None)


def window_of(video: Any) -> Window | None:
    """Returns the part of its file that a VIDEO is; None where frames come out of memory.

    Raises:
        VideoError: it is a file that is not to be opened.
    """
    if not hasattr(video, "get_stream_source"):
        return None
    if not isinstance(video, host.video_types()[0]):
        # Another pack's: frames would lose what HDR is told by.
        return WHOLE if host.is_hdr(video) else None
    source = video.get_stream_source()
    open_video(source).close()  # refuses what the host would open: playlists that name other files
    part = host.trim_window(video)
    return None if part is None else Window(*part)


def restore_file(video: Any, scenes: Scenes, window: Window) -> Any:
    """Restores a VIDEO that is a file; the restored one lies in the host's temporary folder."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"devudp_{secrets.token_hex(8)}.{FORMAT}"
    report = None

    def progress(done: int, total: int) -> None:
        nonlocal report
        report = report or host.progress(max(total, 1))
        report(done)

    outcome = restore_video(video.get_stream_source(), target, scenes, progress, window)
    for sentence in outcome.said:
        log.warning("DEvUDP Restore Video: %s", sentence)
    return host.video_from_file(str(target))


def restore_frames(video: Any, scenes: Scenes) -> Any:
    """Restores a VIDEO whose frames lie in memory; so do the restored ones."""
    components = video.get_components()
    images = components.images
    result, report = empty_like(images), host.progress(max(len(images), 1))
    numbers = count()

    def tensor(frame: Tensor) -> Tensor:
        return channels_first(frame[None, ..., :3]).float()

    for scene in find_scenes(iter(images), lambda frame: thumbnail(tensor(frame)), tensor):
        restore_one = scenes(scene.sample)
        for _ in range(scene.frames):
            i = next(numbers)
            result[i : i + 1, ..., :3] = channels_last(restore_one(tensor(images[i])))
            result[i : i + 1, ..., 3:] = images[i : i + 1, ..., 3:]
            report(i + 1)
    return host.video_from_frames(replace(components, images=result), video)
