"""Times that rise: from the start of a video on, also where its file's times jump."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

LARGEST_STEP_BACK = Fraction(1, 2)
"""Seconds: what steps back further begins a new count; less is put after the one before."""

LARGEST_GAP = 10
"""Seconds: a larger one, in what is broadcast, is a jump of the clock and not a pause."""

BROADCAST = {"mpegts", "mpeg", "mpegvideo"}


@dataclass
class Clock:
    """Times of one stream.

    Attributes:
        base: seconds that become 0.
        step: seconds from one to the next, as far as known.
        gaps: whether large gaps are closed.
        jumps: how many times did not fit.
    """

    base: Fraction
    step: Fraction
    gaps: bool = False
    jumps: int = 0
    late: Fraction = Fraction(0)
    last: Fraction | None = None

    @classmethod
    def of(cls, stream: Any, base: Fraction) -> Clock:
        """For a stream of a container."""
        rate = getattr(stream, "average_rate", None) or getattr(stream, "guessed_rate", None)
        step = 1 / Fraction(rate) if rate else Fraction(1, 25)
        return cls(base, step, stream.container.format.name in BROADCAST)

    def shift(self, ticks: int | None, unit: Fraction) -> int:
        """Returns the time, in units, of the next frame or packet: always later than the last."""
        least = max(round(self.step / unit), 1) * unit  # one step, in whole units
        if ticks is None:
            time = Fraction(0) if self.last is None else self.last + least
        else:
            time = round((ticks * unit - self.base - self.late) / unit) * unit
        if self.last is not None and ticks is not None:
            forward = time - self.last
            if forward <= 0:
                self.jumps += 1
            if -forward > LARGEST_STEP_BACK or (self.gaps and forward > LARGEST_GAP):
                self.jumps += forward > 0
                self.late += time - (self.last + least)
                time = self.last + least
            elif forward <= 0:
                time = self.last + max(round(least / 2 / unit), 1) * unit
        self.last = time
        return round(time / unit)


def start_of(container: Any, streams: list[Any]) -> Fraction:
    """Returns when a video begins by its own clock, in seconds; 0 if that is before 0.

    Recorders let the clock run on from one recording to the next.
    """
    starts = [
        stream.start_time * stream.time_base
        for stream in streams
        if stream.start_time is not None and stream.time_base
    ]
    if not starts and container.start_time:
        starts = [Fraction(container.start_time, 1_000_000)]
    return max(min(starts, default=Fraction(0)), Fraction(0))
