"""Frames of a video file as they are to be shown: whole, of one size, and on past damaged parts."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from .beginning import Beginning
from .frame_colours import Colours
from .hdr import side_data
from .pyav import WHOLE, Window, load_av, video_stream
from .silent_damage import SilentDamage
from .turns import Turn

SHORTEST_MISSING = 0.25
"""Seconds at the end, for something to be said of them."""

LOOKED_AT = 4
"""Frames whose side data are read: in PyAV a frame that was asked for them stays in memory until
Python looks for circles."""

MAX_FAILURES = 50
"""Times in a row that a file cannot be read on, until it counts as ended."""


class VideoReader:
    """Frames of a container, one after the other.

    Args:
        container: of PyAV.
        window: which frames.
        strict: look for damage that the decoder does not tell of.

    Attributes:
        counts: of `packets` that could not be decoded, `frames` that the decoder has mended,
            `deinterlaced` and `scaled` frames.
        beginning: what comes before the first frame.
        last_time: in seconds, by the file's own clock.
        colours, turn, said: of the first frame: its colours, how it is turned, its side data.
        size: width and height as stored, of the first frame; others are scaled to it.
    """

    def __init__(self, container: Any, window: Window = WHOLE, *, strict: bool = False):
        self.container, self.window = container, window
        self.av = load_av()
        self.video = video_stream(container)
        self.counts: Counter[str] = Counter()
        self.colours: Colours | None = None
        self.turn, self.size = Turn(), (0, 0)
        self.said: dict[str, bytes] = {}
        self.looked = 0
        self.other_size = (0, 0)
        self.graph: Deinterlacer | None = None
        self.ended = False
        coding = self.video.codec_context
        self.beginning = Beginning(coding.name if coding else "", window.start <= 0)
        self.is_damaged = SilentDamage(self.video) if strict else lambda packet: False
        self.last_time = Fraction(0)
        window.seek(container)

    def frames(
        self, others: list[Any] | None = None, pass_on: Callable[[Any], None] = lambda packet: None
    ) -> Iterator[Any]:
        """Gives the frames of the window.

        Args:
            others: further streams to read.
            pass_on: gets their packets, as they come between the frames.
        """
        others = others or []
        ended = dict.fromkeys((stream.index for stream in others), False)
        for packet in self.packets([self.video, *others]):
            if packet.stream.index == self.video.index:
                yield from self.in_window(self.decode(packet))
            elif self.window.after(packet):
                ended[packet.stream.index] = True
            elif not self.window.before(packet):
                pass_on(packet)
            if self.ended and all(ended.values()):
                break
        yield from self.in_window(self.prepare(None))

    def packets(self, streams: list[Any]) -> Iterator[Any]:
        """Gives packets to the end, also past what cannot be read."""
        failures = 0
        while failures < MAX_FAILURES:
            try:
                for packet in self.container.demux(streams):
                    failures = 0
                    self.note_time(packet)
                    yield packet
                return
            except (self.av.FFmpegError, OSError):
                failures += 1
                self.counts["packets"] += 1

    def note_time(self, packet: Any) -> None:
        """Notes where the images begin, and where everything ends."""
        ticks = packet.pts if packet.pts is not None else packet.dts
        time = ticks * packet.time_base if ticks is not None and packet.time_base else None
        if packet.stream.index == self.video.index:
            self.beginning.note(packet, time)
        if time is not None:
            end = time + (packet.duration or 0) * packet.time_base
            self.last_time = max(self.last_time, end)

    @property
    def missing_end(self) -> tuple[float, float]:
        """Seconds that are there, and that there should be; (0, 0) if all are."""
        length = (self.container.duration or 0) / 1e6
        there = float(self.last_time)
        if "matroska" not in self.container.format.name:  # which may count from 0
            there -= max((self.container.start_time or 0) / 1e6, 0)
        least = max(SHORTEST_MISSING, 0.02 * length)
        return (there, length) if self.window == WHOLE and length - there > least else (0.0, 0.0)

    def decode(self, packet: Any) -> Iterator[Any]:
        """Gives the frames that a packet completes."""
        try:
            frames = packet.decode()
        except (self.av.FFmpegError, OSError):
            self.counts["packets"] += 1
            self.beginning.note_failure()
            return
        self.counts["frames"] += self.is_damaged(packet)
        for frame in frames:
            if not self.beginning.shows(frame):
                continue
            self.counts["frames"] += bool(getattr(frame, "is_corrupt", False))
            yield from self.prepare(frame)

    def in_window(self, frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            self.ended = self.ended or self.window.after(frame)
            if not self.ended and not self.window.before(frame):
                yield frame

    def prepare(self, frame: Any) -> Iterator[Any]:
        """Gives frames without fields, and of one size; None ends them."""
        if frame is not None and self.colours is None:
            self.colours, self.turn = Colours.of(frame, self.video.codec_context), Turn.of(frame)
            self.size = frame.width, frame.height
        if frame is not None and self.looked < LOOKED_AT:
            self.looked += 1
            self.said.update(side_data(frame))
        if self.graph and (frame is None or not self.graph.fits(frame)):
            yield from map(self.scale, self.graph.rest())
            self.graph = None
        if frame is None:
            return
        if self.graph is None and not frame.interlaced_frame:
            yield self.scale(frame)
            return
        self.counts["deinterlaced"] += bool(frame.interlaced_frame)
        self.graph = self.graph or Deinterlacer(self.av, frame, self.video.time_base)
        yield from map(self.scale, self.graph(frame))

    def scale(self, frame: Any) -> Any:
        """Returns a frame of the first one's size."""
        if (frame.width, frame.height) == self.size:
            return frame
        self.counts["scaled"] += 1
        self.other_size = frame.width, frame.height
        pts, unit = frame.pts, frame.time_base
        frame = frame.reformat(*self.size, interpolation="BICUBIC")
        frame.pts, frame.time_base = pts, unit
        return frame


class Deinterlacer:
    """FFmpeg's filter bwdif: two fields, taken one after the other, become one whole frame.

    Frames that are whole go through it as they are.
    """

    def __init__(self, av: Any, frame: Any, time_base: Any):
        self.av, self.like = av, self.kind(frame)
        self.graph = av.filter.Graph()
        source = self.graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or time_base,
        )
        bwdif = self.graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        sink = self.graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        self.graph.configure()
        self.times: deque[tuple[Any, Any]] = deque()

    @staticmethod
    def kind(frame: Any) -> tuple[int, int, str]:
        return frame.width, frame.height, frame.format.name

    def fits(self, frame: Any) -> bool:
        """True if a frame is of the size and format that this was made for."""
        return self.kind(frame) == self.like

    def __call__(self, frame: Any) -> Iterator[Any]:
        """Gives the frames that are ready; one is held back."""
        self.times.append((frame.pts, frame.time_base))
        self.graph.push(frame)
        yield from self.ready()

    def rest(self) -> Iterator[Any]:
        """Gives the last frames."""
        self.graph.push(None)
        yield from self.ready()

    def ready(self) -> Iterator[Any]:
        while True:
            try:
                frame = self.graph.pull()
            except (self.av.BlockingIOError, self.av.EOFError):
                return
            if self.times:
                frame.pts, frame.time_base = self.times.popleft()
            yield frame
