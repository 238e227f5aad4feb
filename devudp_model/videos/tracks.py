"""Copies or converts for MP4 what goes with the images: all sound, text and the cover."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import Any

from .clock import Clock
from .pyav import disposition_of, is_cover, load_av

COPIED_SOUND = {"aac", "ac3", "alac", "eac3", "mp3"}
"""Sound that MP4 holds in every player; other sound is encoded as AAC."""

TEXT = {"subrip", "srt", "ass", "ssa", "webvtt", "text"}
"""Subtitles that are text, and become MP4's own kind."""

COVERS = {"mjpeg", "png", "bmp"}

RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
"""That AAC has."""

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""Names of FFmpeg, by the number of channels, where a file does not say which they are."""

SHORTEST_PAUSE = Fraction(1, 20)
"""Seconds: what is shorter is a rounded time."""

BITS_A_CHANNEL = 64_000
"""A second, of AAC."""


class Track:
    """A stream that is copied.

    Attributes:
        source, out: streams of the two containers.
        lost: packets that could not be taken.
    """

    def __init__(self, container: Any, source: Any, base: Fraction, out: Any = None):
        self.container, self.source = container, source
        self.clock = Clock.of(source, base)
        self.clock.step = Fraction(1, 1000)
        self.out = out or container.add_stream_from_template(source)
        self.lost = 0
        for key in ("language", "title", "handler_name"):
            if source.metadata.get(key):
                self.out.metadata[key] = source.metadata[key]
        with suppress(AttributeError):  # older PyAV only reads it
            self.out.disposition = disposition_of(source)

    def write(self, packet: Any) -> None:
        """Writes a packet of the source, which is lost if it cannot be taken."""
        av = load_av()
        try:
            self.pass_on(packet)
        except (av.FFmpegError, ValueError):
            self.lost += 1

    def pass_on(self, packet: Any) -> None:
        if packet.dts is None and packet.pts is None:
            return
        decoded = packet.pts if packet.dts is None else packet.dts
        ahead = 0 if packet.pts is None else max(packet.pts - decoded, 0)
        packet.dts = self.clock.shift(decoded, packet.time_base)
        packet.pts = packet.dts + ahead
        packet.stream = self.out
        self.container.mux(packet)

    def finish(self) -> None:
        """Writes what is left."""


class ConvertedSound(Track):
    """Sound as AAC, with as many channels."""

    def __init__(self, container: Any, source: Any, base: Fraction):
        coding = source.codec_context
        self.layout = self.layout_of(coding)
        rate = coding.sample_rate
        self.rate = rate if rate in RATES else 96000 if rate > 96000 else 48000
        out = container.add_stream("aac", rate=self.rate, layout=self.layout)
        out.bit_rate = BITS_A_CHANNEL * coding.channels
        super().__init__(container, source, base, out)
        self.resampler: Any = None
        self.clock.step = Fraction(1, self.rate)

    @staticmethod
    def layout_of(coding: Any) -> str:
        """Returns the layout to write: the source's where AAC has it."""
        named = coding.layout.name.replace("(side)", "").replace("(back)", "")
        return named if named in LAYOUTS.values() else LAYOUTS.get(coding.channels, "stereo")

    def pass_on(self, packet: Any) -> None:
        for frame in packet.decode():
            self.time(frame, frame.time_base or packet.time_base)
            self.encode(frame)

    def time(self, frame: Any, unit: Fraction) -> None:
        """Gives a frame its time: right after the last one, unless there is a pause.

        Containers round times, some to milliseconds, and between samples is no place for a gap.
        """
        stated, clock = frame.pts, self.clock
        following = clock.last + clock.step if clock.last is not None else None
        time = clock.shift(stated, unit) * unit
        if following is not None and time - following < SHORTEST_PAUSE:
            time = following
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = round(time / frame.time_base)
        clock.last = time + Fraction(frame.samples, frame.sample_rate) - clock.step

    def encode(self, frame: Any) -> None:
        av = load_av()
        if self.resampler is None:
            self.resampler = av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)
        try:
            parts = self.resampler.resample(frame)
        except ValueError:  # its layout changes on the way
            self.resampler = None
            return self.encode(frame)
        for part in parts:
            self.container.mux(self.out.encode(part))

    def finish(self) -> None:
        if self.resampler is not None:
            for part in self.resampler.resample(None):
                self.container.mux(self.out.encode(part))
            self.container.mux(self.out.encode(None))


class ConvertedText(Track):
    """Subtitles as MP4 has them."""

    def __init__(self, container: Any, source: Any, base: Fraction):
        out = container.add_stream("mov_text")
        source.codec_context.open(strict=False)  # it then knows the header
        out.codec_context.subtitle_header = source.codec_context.subtitle_header
        super().__init__(container, source, base, out)

    def pass_on(self, packet: Any) -> None:
        if packet.pts is None or not packet.size:
            return
        subtitle = self.source.codec_context.decode2(packet)
        if subtitle is None:
            return
        encoded = self.out.codec_context.encode_subtitle(subtitle)
        encoded.time_base, encoded.duration = packet.time_base, packet.duration
        encoded.pts = encoded.dts = self.clock.shift(packet.pts, packet.time_base)
        encoded.stream = self.out
        self.container.mux(encoded)


def codec_name(coding: Any) -> str:
    """Returns the codec's name, and not that of one of its decoders, such as mp3float."""
    codec = getattr(coding, "codec", None)
    return getattr(codec, "canonical_name", "") or coding.name.removesuffix("float")


def add_tracks(container: Any, reader: Any, base: Fraction) -> tuple[dict[int, Track], list[str]]:
    """Adds all streams beside the images to the result.

    Returns:
        Tracks by their source's index, and a sentence for each kind that is converted or left out.
    """
    tracks: dict[int, Track] = {}
    said: list[str] = []
    for stream in reader.streams:
        try:
            track, sentence = add_track(container, stream, base)
        except (load_av().FFmpegError, ValueError) as error:
            track, sentence = None, f"A track ({stream.type}) is left out: {error}"
        if track is not None:
            tracks[stream.index] = track
        if sentence and sentence not in said:
            said.append(sentence)
    return tracks, said


def add_track(container: Any, stream: Any, base: Fraction) -> tuple[Track | None, str]:
    """Adds one stream; with what there is to be said of it."""
    coding = getattr(stream, "codec_context", None)
    name = codec_name(coding) if coding is not None else ""
    if stream.type == "audio":
        if coding is None:
            return None, "A sound track is left out: there is no decoder for it."
        if name in COPIED_SOUND:
            return Track(container, stream, base), ""
        kind = "PCM" if name.startswith("pcm_") else name
        return ConvertedSound(container, stream, base), f"Its sound ({kind}) is converted to AAC."
    if stream.type == "subtitle":
        return add_subtitles(container, stream, base, name)
    if stream.type == "video" and is_cover(stream):
        if name in COVERS:
            return Track(container, stream, base), ""
        return None, f"Its cover ({name}) is left out: MP4 holds JPEG and PNG."
    return None, ""


def add_subtitles(
    container: Any, stream: Any, base: Fraction, name: str
) -> tuple[Track | None, str]:
    if name == "mov_text":
        return Track(container, stream, base), ""
    if name in TEXT and hasattr(stream.codec_context, "encode_subtitle"):
        looks = ", without their styles" if name in ("ass", "ssa") else ""
        sentence = f"Its subtitles ({name}) are converted to MP4's text{looks}."
        return ConvertedText(container, stream, base), sentence
    return None, f"Its subtitles ({name or 'unknown'}) are left out: MP4 holds text only."
