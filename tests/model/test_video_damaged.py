"""Videos that are cut, damaged, or whose clock jumps: what is there is saved, the rest is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from devudp_model.videos.pyav import VideoError
from devudp_model.videos.silent_damage import has_gap
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


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4"])
def test_a_file_that_begins_late_is_whole(tmp_path: Path, suffix: str) -> None:
    """Ten seconds after 0, as a part that was cut out of a longer video."""
    clip = write(tmp_path / f"a{suffix}", frames_of("yuv420p", 30), offset=240)
    times, outcome = restored(clip)
    assert len(times) == 30 and not outcome.said


def without_start(clip: Path, packets: int) -> Path:
    """The same packets without the first ones."""
    target = clip.with_name(f"cut{clip.suffix}")
    with av.open(str(clip)) as container, av.open(str(target), "w") as out:
        source = container.streams.video[0]
        stream = out.add_stream_from_template(source)
        for number, packet in enumerate(container.demux(source)):
            if number >= packets and packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return target


@pytest.mark.parametrize(
    "codec, suffix, options",
    [
        ("mpeg4", ".avi", {"bf": "2"}),  # whose decoder would show grey with remains of movement
        ("flv", ".flv", {}),
        ("libx264", ".mkv", {"x264-params": "scenecut=0"}),
        ("libvpx", ".webm", {"keyint_min": "12"}),
        ("mpeg2video", ".ts", {}),
    ],
)
def test_a_cut_video_begins_with_its_first_whole_frame(
    tmp_path: Path, codec: str, suffix: str, options: dict[str, str]
) -> None:
    clip = write(
        tmp_path / f"a{suffix}",
        frames_of("yuv420p", 30),
        codec,
        {"g": "12", "b": "2000000", **options},
    )
    whole, _ = restored(clip)
    assert len(whole) == 30
    times, outcome = restored(without_start(clip, 5))
    assert outcome.frames == 18 and times == counting(18)
    assert len(outcome.said) == 1
    assert outcome.said[0].startswith("It begins in the middle: its first 7 frames (0.")


def test_a_video_without_any_key_frame_says_so(tmp_path: Path) -> None:
    options = {"crf": "4", "g": "99", "x264-params": "scenecut=0"}
    clip = write(tmp_path / "a.ts", frames_of("yuv420p", 36), options=options)
    data = clip.read_bytes()
    clip.write_bytes(data[len(data) // 3 // 188 * 188 :])
    with pytest.raises(VideoError, match=r"begins in the middle.*frames is a key frame.*Give the"):
        restored(clip)


def test_a_file_of_nothing_is_not_taken_for_sound(tmp_path: Path) -> None:
    """As a tool leaves it that was to cut out a part in which no key frame is."""
    header = bytes(12) + (1000).to_bytes(4, "big") + bytes(84)
    parts = b"\0\0\0\x10ftypisom\0\0\0\0", b"\0\0\0\x74moov\0\0\0\x6cmvhd" + header
    (tmp_path / "a.mp4").write_bytes(b"".join(parts))
    with pytest.raises(VideoError, match=r"a\.mp4 is empty: there are neither images nor sound"):
        restored(tmp_path / "a.mp4")


@pytest.mark.parametrize("codec, format", [("mjpeg", "yuvj420p"), ("ffv1", "yuv420p")])
def test_damage_that_the_decoder_does_not_tell_of(tmp_path: Path, codec: str, format: str) -> None:
    """A part of one frame has become zeros, as of a sector that could not be read."""
    options = {"level": "3", "slicecrc": "1"} if codec == "ffv1" else {}
    clip = write(tmp_path / "a.avi", frames_of(format, size=(256, 192)), codec, options)
    assert restored(clip)[1].said == []
    with av.open(str(clip)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][3]
        data = bytearray(clip.read_bytes())
        middle = data.index(bytes(packet)) + packet.size * 2 // 3
    data[middle : middle + 200] = bytes(200)
    clip.write_bytes(data)
    times, outcome = restored(clip)
    assert len(times) == FRAMES
    assert outcome.said == [f"It is damaged: 1 frame is damaged; {FRAMES} frames were saved."]


def test_zeros_in_jpeg_that_are_no_damage(tmp_path: Path) -> None:
    """One colour, which may be coded in zeros; and what fills a chunk up behind the image."""
    plain = [frame.reformat(format="yuvj420p") for frame in frames_of("gray", 3, (256, 192))]
    for frame in plain:
        for plane in frame.planes:
            plane.update(bytes([128]) * (plane.line_size * plane.height))
    clip = write(tmp_path / "a.avi", plain, "mjpeg", {})
    assert restored(clip)[1].said == []
    with av.open(str(clip)) as container:
        jpeg = bytes(next(container.demux(video=0)))
    assert not has_gap(jpeg + bytes(500))


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
