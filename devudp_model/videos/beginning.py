"""Finds where a video's images begin: at the first frame that can be shown.

A recording that was cut anywhere begins with frames that build on missing ones. Most decoders keep
those back; some give grey with remains of movement.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

GUESSING = {
    "mpeg4", "h261", "h263", "h263i", "h263p", "flv", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1",
    "wmv2", "rv10", "rv20", "svq1",
}  # fmt: skip
"""Decoders of FFmpeg that also give frames whose beginning is missing."""

LONGEST_WAIT = 300
"""Frames; without a key frame by then, there is none, and the image has built up piece by piece."""


class Beginning:
    """All that comes before the first frame that is shown.

    Attributes:
        is_key: whether the first packet holds a whole image; None before there was one.
        keyed: whether any did.
        packets: how many there were.
        failures: how many could not be decoded.
        first: when the first frame is shown, in seconds.
    """

    def __init__(self, decoder: str, whole: bool):
        self.guesses, self.whole = decoder in GUESSING, whole
        self.is_key: bool | None = None
        self.keyed, self.packets, self.failures, self.passed = False, 0, 0, 0
        self.times: list[Fraction] = []
        self.first: Fraction | None = None
        self.ended = False

    def note(self, packet: Any, time: Fraction | None) -> None:
        """Notes a packet of images, whose time may be unknown."""
        if self.ended or not packet.size or getattr(packet, "is_discard", False):
            return  # an edit list hides the latter
        self.packets += 1
        key = bool(packet.is_keyframe)
        self.keyed |= key
        if self.is_key is None:
            self.is_key = key
        if time is not None:
            self.times.append(time)

    def note_failure(self) -> None:
        """Notes a packet that cannot be decoded."""
        self.failures += not self.ended

    def shows(self, frame: Any) -> bool:
        """True if a decoded frame is whole: the first one that is ends the beginning."""
        if self.ended:
            return True
        self.passed += 1
        whole = frame.key_frame or not self.guesses or self.is_key or self.passed > LONGEST_WAIT
        if whole:
            self.ended = True
            if frame.pts is not None and frame.time_base:
                self.first = frame.pts * frame.time_base
        return bool(whole)

    @property
    def forgiven(self) -> int:
        """Failures that are no damage: what is undecodable without its beginning."""
        return 0 if self.is_key else self.failures

    @property
    def lost(self) -> list[Fraction]:
        """Returns the times of the frames that cannot be shown."""
        if not self.whole or self.first is None:
            return []
        return sorted(time for time in self.times if time < self.first)

    def sentence(self) -> str:
        """Says what is missing; "" if nothing is."""
        lost, first = self.lost, self.first
        if not lost or first is None:
            return ""
        many = f"first {len(lost)} frames" if len(lost) > 1 else "first frame"
        what = f"its {many} ({float(first - lost[0]):.1f} s) cannot be shown"
        if self.is_key and self.failures:
            return f"{what[0].upper()}{what[1:]}: what they build on is damaged."
        return f"It begins in the middle: {what}."

    def why_nothing(self) -> str:
        """Says why there is not one frame, and what to do."""
        none = "There is not one frame in the video"
        if not self.packets:
            return f"{none}: nothing was recorded, or all of it is hidden. Give a whole file."
        if self.keyed:
            return f"{none} that can be decoded ({self.packets} are damaged). Copy it again."
        return (
            f"{none} that can be shown: it begins in the middle, and none of its {self.packets} "
            "frames is a key frame, on which others could build. Give the whole recording."
        )
