"""Videos of more than 8 bits, and parts of videos: what they mean stays, and where they begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from devudp_model.videos import video
from devudp_model.videos.pyav import Window, bits
from devudp_model.videos.video import restore_video
from tests.model.test_video import RATE, make_clip, read_clip

av = pytest.importorskip("av")

BT2020, HLG, LIMITED = 9, 18, 1
"""FFmpeg's numbers for primaries and matrix, transfer, and range of HDR video in HLG."""


def make_hdr_clip(path: Path, frames: int = 6, size: tuple[int, int] = (96, 64)) -> Path:
    """A slow gradient in 10 bits, which 8 bits cannot hold; every frame is a little brighter."""
    x = np.linspace(0.30, 0.36, size[0])[None, :, None]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "4"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p10le"
        coding = stream.codec_context
        coding.color_primaries = coding.colorspace = BT2020
        coding.color_trc, coding.color_range = HLG, LIMITED
        for number in range(frames):
            pixels = np.broadcast_to(x + number / 1000, (size[1], size[0], 3))
            array = np.ascontiguousarray((pixels * 65535).round().astype(np.uint16))
            made = av.VideoFrame.from_ndarray(array, format="rgb48le")
            made = made.reformat(format="yuv420p10le", dst_colorspace=BT2020)
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))
    return path


def meaning(path: Path) -> tuple[int, ...]:
    """Bits, primaries, transfer, matrix and range that a file says it has."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        coding = stream.codec_context
        names = ("color_primaries", "color_trc", "colorspace", "color_range")
        return (bits(stream), *(int(getattr(coding, name)) for name in names))


def unchanged(sample: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda frame: frame


@pytest.mark.parametrize("size", [(96, 64), (97, 63)])
def test_ten_bits_stay_ten_bits_and_mean_the_same(tmp_path: Path, size: tuple[int, int]) -> None:
    clip = make_hdr_clip(tmp_path / "a.mp4", size=(96, 64))

    def cut(sample: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda frame: frame[..., : size[1], : size[0] - 2 * (size[0] % 2)]

    restore_video(clip, tmp_path / "b.mp4", cut)
    assert meaning(tmp_path / "b.mp4") == meaning(clip) == (10, BT2020, HLG, BT2020, LIMITED)
    before, after = read_clip(clip)["pixels"], read_clip(tmp_path / "b.mp4")["pixels"]
    before = before[..., : after.shape[2], : after.shape[3]]
    assert np.abs(after - before).max() < 4 / 1023
    levels = np.unique((after[0, 1, 0] * 1023).round())
    assert len(levels) > 45, "of 61 in 10 bits; 8 bits have 16"


def test_eight_bits_stay_eight_bits(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", 4)
    restore_video(clip, tmp_path / "b.mp4", unchanged)
    assert meaning(tmp_path / "b.mp4") == meaning(clip)
    assert meaning(clip)[0] == 8


@pytest.mark.parametrize("sound", ["aac", "flac"])
@pytest.mark.parametrize("start,seconds", [(0.3, 0.5), (0.0, 0.4), (0.7, 0.0)])
def test_a_part_of_a_video(tmp_path: Path, sound: str, start: float, seconds: float) -> None:
    """Its frames, from the time 0 on, and its sound."""
    clip = make_clip(tmp_path / "a.mkv", 40, cut=15, sound=sound)
    whole = read_clip(clip)
    end = start + seconds if seconds else 1e9
    chosen = [i for i, time in enumerate(whole["times"]) if start <= time + 1e-3 < end]
    reports: list[tuple[int, int]] = []

    def note(*done: int) -> None:
        reports.append((done[0], done[1]))

    outcome = restore_video(clip, tmp_path / "b.mp4", unchanged, note, Window(start, seconds))
    assert outcome.frames == len(chosen) == reports[-1][0]
    assert reports[-1][1] == pytest.approx(len(chosen), abs=1), "estimated from its length"
    part = read_clip(tmp_path / "b.mp4")
    shift = [float(whole["times"][i]) - start for i in chosen]
    assert [float(time) for time in part["times"]] == pytest.approx(shift, abs=2e-3)
    assert np.abs(part["pixels"] - whole["pixels"][chosen]).mean() < 0.02
    seconds_of_sound = part["sound"].shape[1] / 44100
    assert seconds_of_sound == pytest.approx(len(chosen) / float(RATE), abs=0.1)


def test_a_part_is_read_frame_by_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its end nothing is read, and what is read is not kept."""
    clip = make_clip(tmp_path / "a.mp4", 60, sound=None)
    read: list[Any] = []
    find_scenes = video.find_scenes

    def noted(frames: Iterator[Any], *rest: Any) -> Iterator[Any]:
        return find_scenes((read.append(frame.pts) or frame for frame in frames), *rest)

    monkeypatch.setattr(video, "find_scenes", noted)
    restore_video(clip, tmp_path / "b.mp4", unchanged, window=Window(0.5, 0.2))
    assert len(read) == len(read_clip(tmp_path / "b.mp4")["times"]) == 6
