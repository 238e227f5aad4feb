"""Turning and mirroring frames as a player does: phones film sideways and say so."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from torch import Tensor


class Turn(NamedTuple):
    """From a stored frame to an upright one: first transposed, then mirrored.

    Attributes:
        transposed: rows become columns.
        across, down: mirrored left to right; upside down.
    """

    transposed: bool = False
    across: bool = False
    down: bool = False

    @classmethod
    def of(cls, frame: Any) -> Turn:
        """Returns the turn that a frame's display matrix asks for, to the nearest quarter."""
        for part in frame.side_data:
            if part.type.name == "DISPLAYMATRIX":
                a, b, _, c, d = struct.unpack("=5i", bytes(part)[:20])
                if abs(b) > abs(a):  # x' = c y, y' = b x
                    return cls(True, c < 0, b < 0)
                return cls(False, a < 0, d < 0)
        return cls()

    def __call__(self, plane: Tensor) -> Tensor:
        """Turns B,C,H,W."""
        plane = plane.transpose(-1, -2) if self.transposed else plane
        axes = [axis for axis, flip in ((-1, self.across), (-2, self.down)) if flip]
        return plane.flip(axes) if axes else plane
