"""Writes MP4 files with the times, colours, sound and texts of another video."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from fractions import Fraction
from typing import Any

from torch import Tensor

from .carried import copy_chapters, metadata_of, options_for
from .clock import Clock, start_of
from .frame_colours import FrameImage
from .hdr import x265_parameters
from .pyav import WHOLE, Window, is_cover, load_av
from .reader import VideoReader
from .tracks import Track, add_tracks

FORMAT = "mp4"
"""Of the results: every player and ComfyUI read it."""

CODEC = {"name": "libx264", "crf": "16", "preset": "medium"}
"""Quality 16 cannot be told from the restored frames by eye."""

DEEP_CODEC = {"name": "libx265", "crf": "16", "preset": "medium"}
"""For more than 8 bits, which H.264 has too, but few players of it."""

SMALLEST_DEEP = 64
"""Sides of a block of H.265: what is smaller is H.264."""


class VideoWriter(AbstractContextManager["VideoWriter"]):
    """An MP4 file with the frames' times, the colours' meaning and all tracks of another video.

    Args:
        file: open for writing.
        reader: container of the other video.
        window: the part of the other video that is taken.

    Attributes:
        said: a sentence for each kind of track that is converted or left out.
    """

    def __init__(self, file: Any, reader: Any, window: Window = WHOLE):
        av = load_av()
        self.av, self.window = av, window
        self.reader = VideoReader(reader, window, strict=True)
        self.source = self.reader.video
        timed = [s for s in reader.streams if s.type == "audio" or s is self.source]
        whole = window.start <= 0
        base = start_of(reader, timed) if whole else Fraction(window.start).limit_denominator(10**6)
        metadata = metadata_of(reader)
        options = options_for(metadata)
        self.container = av.open(file, mode="w", format=FORMAT, options=options)
        self.container.metadata.update(metadata)
        self.video: Any = None  # made with the first frame, which tells the size
        self.steps, self.sub = (1, 1), "444"
        self.clock = Clock.of(self.source, base)
        self.waiting: list[tuple[Track, Any]] = []  # sound before the first image
        self.tracks, self.said = add_tracks(self.container, reader, base)
        copy_chapters(reader, self.container, base, window.seconds)

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None and self.video is not None:
            self.container.mux(self.video.encode(None))
            for track in self.tracks.values():
                track.finish()
        self.container.close()

    @property
    def lost(self) -> int:
        """Counts the packets of sound and text that could not be taken."""
        return sum(track.lost for track in self.tracks.values())

    def frames(self) -> Iterator[Any]:
        """Gives the frames to restore; sound and texts go over in between."""
        others = [track.source for track in self.tracks.values()]
        yield from self.reader.frames(others, self.pass_on)

    def pass_on(self, packet: Any) -> None:
        """Writes a packet of a track, once the file's head can be written."""
        track = self.tracks[packet.stream.index]
        if is_cover(track.source) and packet.pts is None:
            packet.pts = packet.dts = 0
        if self.video is None:
            self.waiting.append((track, packet))
        else:
            track.write(packet)

    def start(self, height: int, width: int, image: FrameImage) -> Any:
        """Makes the stream of images."""
        self.choose_chroma(height, width, image)
        deep, colours = image.layout.bits > 8, image.colours
        codec = DEEP_CODEC if deep and min(height, width) >= SMALLEST_DEEP else CODEC
        options = {key: codec[key] for key in ("crf", "preset")}
        if codec is DEEP_CODEC:
            words = ["log-level=error", "repeat-headers=1", x265_parameters(self.reader.said)]
            options["x265-params"] = ":".join(filter(None, words))
        rate = self.source.average_rate or self.source.guessed_rate or Fraction(25)
        video = self.container.add_stream(codec["name"], rate=rate, options=options)
        video.width, video.height = width, height
        video.pix_fmt = f"yuv{self.sub}p{'10le' if deep else ''}"
        coding = video.codec_context
        video.time_base = coding.time_base = self.source.time_base
        coding.colorspace, coding.color_range = colours.written, colours.range
        coding.color_primaries, coding.color_trc = colours.primaries, colours.transfer
        if codec is DEEP_CODEC:
            coding.codec_tag = "hvc1"  # without it Apple's players show nothing
        shape = self.source.sample_aspect_ratio
        if shape:
            coding.sample_aspect_ratio = 1 / shape if image.turn.transposed else shape
        for key in ("language", "title"):
            if self.source.metadata.get(key):
                video.metadata[key] = self.source.metadata[key]
        return video

    def begin(self, frame: Any, unit: Fraction) -> None:
        """Lets the first image be the start, if nothing else has begun before it."""
        if frame.pts is None or self.window != WHOLE:
            return
        missing = frame.pts * unit - self.clock.base
        sound = [each for each in self.tracks.values() if not is_cover(each.source)]
        if missing > 0 and not sound:
            self.clock.base += missing

    def choose_chroma(self, height: int, width: int, image: FrameImage) -> None:
        """Chooses the chroma's resolution: no worse than the source's, in what players know."""
        layout = image.layout
        steps = layout.across, layout.down
        if layout.grey or steps in ((2, 2), (4, 4)):
            steps = (2, 2)
        elif layout.rgb or steps[0] == 1 or image.turn.transposed:
            steps = (1, 1)
        else:
            steps = (2, 1)
        fits = not (width % steps[0] or height % steps[1])
        self.steps = steps if fits else (1, 1)
        self.sub = {(2, 2): "420", (2, 1): "422", (1, 1): "444"}[self.steps]

    def write(self, restored: Tensor, frame: Any, image: FrameImage) -> None:
        """Writes an image at the time of a frame.

        Args:
            restored: 1,3,H,W in [0, 1].
            frame: of PyAV, of the source.
            image: made of `frame`.
        """
        if self.video is None:
            height, width = restored.shape[-2:]
            self.video = self.start(height, width, image)
            waiting, self.waiting = self.waiting, []
            for track, packet in waiting:
                track.write(packet)
        result = image.with_change(restored, self.video.pix_fmt, self.steps)
        unit = frame.time_base or self.source.time_base
        if self.clock.last is None:
            self.begin(frame, unit)
        result.pts, result.time_base = self.clock.shift(frame.pts, unit), unit
        if getattr(frame, "duration", None):
            with suppress(AttributeError):  # PyAV before 15
                result.duration = frame.duration
        self.container.mux(self.video.encode(result))
