"""In a real ComfyUI: videos of 10 bits, HDR, and parts of videos, where it has such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.host.prompts import Builder
from tests.host.server import Server
from tests.model.test_video_depth import make_hdr_clip, meaning, read_clip

HDR = (10, 9, 18, 9, 1)
"""Bits, primaries, transfer, matrix and range of HLG."""


def knows(server: Server, node: str, name: str = "") -> bool:
    info = server.get(f"/object_info/{node.replace(' ', '%20')}").get(node, {"input": {}})
    return any(name in inputs or not name for inputs in info["input"].values())


def save(server: Server, build: Builder, video: Any, prefix: str) -> Path:
    """Runs it and returns the file."""
    build.add("SaveVideo", video=video, filename_prefix=prefix, format="auto", codec="auto")
    run = server.run(build.prompt)
    assert run.status == "success", run.error
    [saved] = (server.base / "output").glob(f"{prefix}_*.mp4")
    return saved


def test_frames_for_ten_bits_are_saved_in_ten_bits(server: Server) -> None:
    if not knows(server, "CreateVideo", "bit_depth"):
        pytest.skip("this ComfyUI makes videos of 8 bits only")
    depths = {}
    for depth in (8, 10):
        build = Builder()
        frames = build.repeat(build.load(), 3)
        made = [build.add("CreateVideo", images=frames, fps=12.0, bit_depth=depth), 0]
        restored = build.restore_video(made, strength=0.5)
        depths[depth] = meaning(save(server, build, restored, f"depth{depth}"))[0]
    assert depths == {8: 8, 10: 10}


def test_hdr_stays_hdr(server: Server) -> None:
    clip = make_hdr_clip(server.base / "input" / "hdr.mp4")
    assert meaning(clip) == HDR
    build = Builder()
    loaded = [build.add("LoadVideo", file=clip.name), 0]
    saved = save(server, build, build.restore_video(loaded, strength=0.1), "hdr")
    assert meaning(saved) == HDR
    assert len(read_clip(saved)["times"]) == 6


def test_a_part_of_an_hdr_video_stays_hdr(server: Server) -> None:
    if not knows(server, "Video Slice"):
        pytest.skip("this ComfyUI does not cut videos")
    clip = make_hdr_clip(server.base / "input" / "part.mp4", 30)
    build = Builder()
    loaded = [build.add("LoadVideo", file=clip.name), 0]
    values = {"start_time": 0.25, "duration": 0.5, "strict_duration": False}
    part = [build.add("Video Slice", video=loaded, **values), 0]
    saved = save(server, build, build.restore_video(part, strength=0.1), "part")
    times = [float(time) for time in read_clip(saved)["times"]]
    assert len(times) == 15 and 0 <= times[0] < 0.04
    if knows(server, "CreateVideo", "bit_depth"):  # and tells which part it is
        assert meaning(saved) == HDR
