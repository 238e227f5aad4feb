"""What goes with a video's images: sound, texts, covers, dates; what MP4 cannot hold is said."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from devudp_model.videos.pyav import ATTACHED_PIC, VideoError, is_cover, open_video, video_stream
from devudp_model.videos.video import VideoOutcome, restore_video
from tests.model.video_cases import FRAMES, RATE, add_tone, frames_of, write

av = pytest.importorskip("av")

LENGTH = FRAMES / RATE

STYLES = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Bold, Italic, Underline, Alignment
Style: Default,Arial,16,&Hffffff,0,0,0,2

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def unchanged(sample: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda frame: frame


def restored(path: Path, **options: Any) -> tuple[Path, VideoOutcome]:
    target = path.with_name(f"{path.stem}_restored.mp4")
    return target, restore_video(path, target, unchanged, **options)


def make(path: Path, *adders: Callable[[Any], Any], format: str = "yuv420p", **more: Any) -> Path:
    """A video with further streams: each adder gives what writes its stream."""
    writers: list[Any] = []
    return write(
        path,
        frames_of(format),
        before=lambda container: writers.extend(add(container) for add in adders),
        after=lambda container: [finish(container) for finish in writers if finish],
        **more,
    )


def streams(path: Path, kind: str) -> list[Any]:
    """Codec, channels, layout and language of the streams of a kind."""
    with av.open(str(path)) as container:
        found = [stream for stream in container.streams if stream.type == kind]
        return [
            (
                stream.codec_context.name,
                *((stream.layout.nb_channels, stream.layout.name) if kind == "audio" else ()),
                stream.metadata.get("language", "und"),
            )
            for stream in found
        ]


def sound(path: Path, number: int) -> np.ndarray:
    """Channels, samples of a track."""
    with av.open(str(path)) as container:
        return np.concatenate([f.to_ndarray() for f in container.decode(audio=number)], 1)


def test_every_sound_track_with_its_language(tmp_path: Path) -> None:
    clip = make(
        tmp_path / "a.mp4",
        lambda c: add_tone(c, "aac", "stereo", "eng"),
        lambda c: add_tone(c, "aac", "5.1", "deu"),
    )
    target, outcome = restored(clip)
    assert streams(target, "audio") == streams(clip, "audio")
    assert streams(target, "audio") == [("aac", 2, "stereo", "eng"), ("aac", 6, "5.1", "deu")]
    assert np.array_equal(sound(target, 1), sound(clip, 1)), "copied, not encoded anew"
    assert outcome.said == []


@pytest.mark.parametrize(
    "codec, suffix",
    [("aac", "mkv"), ("mp3", "avi"), ("mp3", "mkv"), ("ac3", "ts"), ("alac", "mov")],
)
def test_sound_that_mp4_holds_is_copied(tmp_path: Path, codec: str, suffix: str) -> None:
    """Whatever the decoder's own name is: that of MP3 is mp3float."""
    names = {"mp3": "libmp3lame"}
    images: dict[str, Any] = {"codec": "mpeg4", "options": {}} if suffix == "avi" else {}
    sound = names.get(codec, codec)
    clip = make(tmp_path / f"a.{suffix}", lambda c: add_tone(c, sound, "stereo"), **images)
    target, outcome = restored(clip)
    assert outcome.said == []
    packets = []
    for path in (clip, target):
        with av.open(str(path)) as container:
            track = container.streams.audio[0]
            assert track.codec_context.codec.canonical_name == codec
            packets.append([bytes(packet) for packet in container.demux(track) if packet.size])
    assert packets[0] == packets[1]


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1", "7.1"])
def test_sound_that_is_converted_keeps_its_channels(tmp_path: Path, layout: str) -> None:
    clip = make(tmp_path / "a.mkv", lambda c: add_tone(c, "pcm_s16le", layout, "fra"))
    target, outcome = restored(clip)
    [(codec, channels, found, language)] = streams(target, "audio")
    assert (codec, found, language) == ("aac", layout, "fra")
    with av.open(str(target)) as container:
        lengths = [frame.samples / frame.sample_rate for frame in container.decode(audio=0)]
    assert sum(lengths) == pytest.approx(LENGTH, abs=0.06)
    assert outcome.said == ["Its sound (PCM) is converted to AAC."]
    if channels > 6:  # not every PyAV can make an array of so many
        return
    played = sound(target, 0)
    assert len(played) == channels
    assert 0.2 < np.abs(played[0, 4800:9600]).max() < 0.35


def add_subtitles(codec: str) -> Callable[[Any], Any]:
    def add(container: Any) -> Any:
        stream = container.add_stream(codec)
        stream.metadata["language"] = "deu"
        stream.codec_context.subtitle_header = STYLES

        def finish(container: Any) -> None:
            text = b"0,0,Default,,0,0,0,,Hello there"
            made = import_module("av.subtitles.subtitle").SubtitleSet.create(text, 0, 150)
            packet = stream.codec_context.encode_subtitle(made)
            packet.time_base, packet.stream = Fraction(1, 1000), stream
            packet.pts = packet.dts = 100
            packet.duration = 150
            container.mux(packet)

        return finish

    return add


def texts(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        [stream] = container.streams.subtitles
        return [
            (float(packet.pts * packet.time_base), part.dialogue)
            for packet in container.demux(stream)
            if packet.size > 2
            for part in stream.decode(packet)
        ]


@pytest.mark.parametrize("codec, suffix", [("mov_text", "mp4"), ("srt", "mkv"), ("ass", "mkv")])
def test_subtitles(tmp_path: Path, codec: str, suffix: str) -> None:
    codecs = pytest.importorskip("av.subtitles.codeccontext")
    if not hasattr(codecs.SubtitleCodecContext, "encode_subtitle"):
        pytest.skip("PyAV cannot write subtitles")
    clip = make(tmp_path / f"a.{suffix}", add_subtitles(codec))
    target, outcome = restored(clip)
    assert streams(target, "subtitle") == [("mov_text", "deu")]
    assert texts(target) == [(pytest.approx(0.1, abs=0.002), b"Hello there")]
    assert len(outcome.said) == (codec != "mov_text")
    assert all("subtitles" in sentence for sentence in outcome.said)


@pytest.mark.skipif(
    not hasattr(av.container.OutputContainer, "set_chapters"), reason="an older PyAV"
)
def test_chapters_title_date_place_and_timecode(tmp_path: Path) -> None:
    def state(container: Any) -> None:
        container.metadata.update(
            title="Our garden",
            creation_time="2020-01-02T03:04:05.000000Z",
            location="+48.8584+002.2945/",
            timecode="01:00:00:00",
        )
        unit = Fraction(1, 1000)
        parts = [(0, 100, "First"), (100, 333, "Zweitens")]
        chapters = [
            {"id": i, "start": a, "end": b, "time_base": unit, "metadata": {"title": title}}
            for i, (a, b, title) in enumerate(parts)
        ]
        container.set_chapters(chapters)

    clip = make(tmp_path / "a.mp4", state, lambda c: add_tone(c, "aac", "mono"))
    target, outcome = restored(clip)
    with av.open(str(clip)) as before, av.open(str(target)) as after:
        assert after.chapters() == before.chapters() and len(after.chapters()) == 2
        for key in ("title", "creation_time", "location"):
            assert after.metadata[key] == before.metadata[key]
        assert after.streams.video[0].metadata["timecode"] == "01:00:00:00"
    assert outcome.said == []


def test_what_a_phone_says_of_itself(tmp_path: Path) -> None:
    key, value = "com.apple.quicktime.make", "Some"
    clip = make(
        tmp_path / "a.mov", lambda c: c.metadata.update({key: value, "title": "Our garden"})
    )
    with av.open(str(clip), "r") as container:
        known = key in container.metadata
    clip = clip if known else make_with_keys(tmp_path / "b.mp4", {key: value})
    target, _ = restored(clip)
    with av.open(str(target)) as after:
        assert after.metadata[key] == value


def make_with_keys(path: Path, keys: dict[str, str]) -> Path:
    options = {"movflags": "use_metadata_tags"}
    with av.open(str(path), "w", options=options) as container:
        container.metadata.update(keys)
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in frames_of("yuv420p"):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def add_cover(container: Any) -> Any:
    stream = container.add_stream("mjpeg", rate=1)
    stream.width = stream.height = 32
    stream.pix_fmt = "yuvj420p"
    stream.disposition = ATTACHED_PIC

    def finish(container: Any) -> None:
        [frame] = frames_of("yuvj420p", 1, (32, 32))
        container.mux([*stream.encode(frame), *stream.encode(None)])

    return finish


def test_a_cover_is_not_the_video_and_stays(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4", add_cover)
    with open_video(clip) as container:
        assert video_stream(container).codec_context.name == "h264"
    target, outcome = restored(clip)
    assert outcome.frames == FRAMES and outcome.said == []
    covers = []
    for path in (clip, target):
        with av.open(str(path)) as container:
            [cover] = filter(is_cover, container.streams.video)
            covers.append([bytes(p) for p in container.demux(cover) if p.size])
    assert covers[0] == covers[1] and covers[0]


def test_only_a_cover_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        play, finish = add_tone(container, "aac", "mono"), add_cover(container)
        finish(container)
        play(container)
    with pytest.raises(VideoError, match="only sound"):
        restored(tmp_path / "a.mp4")


@pytest.mark.skipif(
    not hasattr(av.container.OutputContainer, "add_attachment"), reason="an older PyAV"
)
def test_what_mp4_cannot_hold_is_said(tmp_path: Path) -> None:
    clip = make(
        tmp_path / "a.mkv",
        lambda c: c.add_attachment("font.ttf", "font/ttf", b"a font") and None,
        format="yuva420p",
        codec="ffv1",
        options={},
    )
    _, outcome = restored(clip)
    assert sorted(outcome.said) == [
        "1 attached file (such as fonts) left out.",
        "Its transparency is left out: MP4 has none.",
    ]


def test_a_video_that_needs_nothing_is_the_same_file(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4", lambda c: add_tone(c, "aac", "mono"))
    target, outcome = restored(clip, unchanged=lambda: True)
    assert outcome.unchanged and outcome.frames == FRAMES and outcome.scenes == [0]
    assert target.read_bytes() == clip.read_bytes()
    target, outcome = restored(clip, unchanged=lambda: False)
    assert not outcome.unchanged and target.read_bytes() != clip.read_bytes()
    other = make(tmp_path / "b.mkv")
    target, outcome = restored(other, unchanged=lambda: True)
    assert outcome.unchanged and outcome.frames == FRAMES
    with av.open(str(target)) as container:
        assert "mp4" in container.format.name
