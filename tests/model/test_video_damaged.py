"""Videos that are cut, damaged, or whose clock jumps: what is there is saved, the rest is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from devudp_model.videos.pyav import VideoError
from devudp_model.videos.video import VideoOutcome, restore_video
from tests.model.video_cases import FRAMES, RATE, add_tone, frames_of, write

av = pytest.importorskip("av")

HOURS = 10 * 3600 * RATE
"""In frames."""


def unchanged(sample: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda frame: frame


def restored(path: Path) -> tuple[list[float], VideoOutcome]:
    """The times of the result's frames, in frames; and what was done."""
    target = path.with_name(f"{path.stem}_restored.mp4")
    outcome = restore_video(path, target, unchanged)
    with av.open(str(target)) as container:
        frames = list(container.decode(video=0))
        times = [float(frame.pts * frame.time_base * RATE) for frame in frames]
        assert len(times) == outcome.frames
        assert not container.duration or container.duration / 1e6 < 60
    return times, outcome


def counting(count: int) -> Any:
    return pytest.approx(list(range(count)), abs=0.05)


@pytest.mark.parametrize("sound", [False, True])
def test_a_recorders_clock_becomes_no_empty_hours(tmp_path: Path, sound: bool) -> None:
    players: list[Any] = []

    def add(container: Any) -> None:
        if sound:
            players.append(add_tone(container, "aac", "mono", offset=HOURS))

    clip = write(
        tmp_path / "a.ts",
        frames_of("yuv420p"),
        offset=HOURS,
        before=add,
        after=lambda container: [play(container) for play in players],
    )
    times, outcome = restored(clip)
    assert times[0] < 1 and times[-1] - times[0] == pytest.approx(FRAMES - 1, abs=0.05)
    assert outcome.frames == FRAMES and outcome.said == []


def test_times_that_step_back_run_on(tmp_path: Path) -> None:
    """Two recordings joined: the second one's clock begins anew."""
    parts = [
        write(tmp_path / f"{offset}.ts", frames_of("yuv420p"), offset=offset).read_bytes()
        for offset in (1000, 0)
    ]
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    times, outcome = restored(tmp_path / "a.ts")
    assert times == counting(2 * FRAMES)
    assert outcome.said == ["Its times step back or jump at 1 frames: they now run on."]


def intra(count: int = FRAMES) -> Iterator[Any]:
    return frames_of("yuvj420p", count)


def damage(clip: Path, *numbers: int) -> None:
    """Makes packets of an AVI file of JPEG images unreadable."""
    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        places = [(packets[number].pos, packets[number].size) for number in numbers]
    data = bytearray(clip.read_bytes())
    for position, size in places:
        start = data.index(b"\xff\xd8", position)  # a packet begins with its chunk's head
        data[start : start + size] = bytes(size)
    clip.write_bytes(data)


def test_a_bad_packet_costs_only_itself(tmp_path: Path) -> None:
    clip = write(tmp_path / "a.avi", intra(), "mjpeg", {})
    damage(clip, 3)
    times, outcome = restored(clip)
    assert [round(time) for time in times] == [0, 1, 2, 4, 5, 6, 7]
    assert outcome.said == [
        f"It is damaged: 1 of its packets could not be read; {FRAMES - 1} of {FRAMES} frames were "
        "saved."
    ]


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    clip = write(tmp_path / "a.mkv", frames_of("yuv420p", 30), options={"crf": "4", "g": "5"})
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2])
    times, outcome = restored(clip)
    assert 5 <= outcome.frames < 30 and times == counting(outcome.frames)
    assert any(sentence.startswith("It ends early: 0.") for sentence in outcome.said)


def test_a_recording_whose_start_is_cut_off(tmp_path: Path) -> None:
    options = {"crf": "4", "g": "12", "x264-params": "scenecut=0"}
    clip = write(tmp_path / "a.ts", frames_of("yuv420p", 36), options=options)
    data = clip.read_bytes()
    clip.write_bytes(data[len(data) // 5 // 188 * 188 :])
    times, outcome = restored(clip)
    assert outcome.frames == 24 and times == counting(24)
    assert outcome.said and "It begins in the middle" in outcome.said[0]


def test_not_one_frame_is_a_failure(tmp_path: Path) -> None:
    clip = write(tmp_path / "a.avi", intra(3), "mjpeg", {})
    damage(clip, 0, 1, 2)
    with pytest.raises(VideoError, match="not one frame"):
        restore_video(clip, tmp_path / "b.mp4", unchanged)
    assert [path.name for path in tmp_path.iterdir()] == ["a.avi"]


def test_a_size_that_changes(tmp_path: Path) -> None:
    parts = [
        write(tmp_path / f"{width}.ts", frames_of("yuv420p", size=(width, 48)), offset=offset)
        for width, offset in ((64, 0), (96, FRAMES + 2))  # the first one's times begin at 2
    ]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    times, outcome = restored(tmp_path / "a.ts")
    assert times == counting(2 * FRAMES)
    assert outcome.said == [
        f"Its size changes: {FRAMES} frames of 96x48 were scaled to 64x48, that of the first."
    ]
