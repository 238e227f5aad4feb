"""Turns the planes of a video's frames into what the network sees, and back.

What is written is what was stored plus what the restoration changed. So what is not changed stays
as it was: chroma, light that is brighter than white, colours that sRGB does not have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..images.colour import HDR, UNSPECIFIED, ColourError, Space, space_of_cicp
from .hdr import from_view, to_view
from .planes import FULL, Layout, make_frame, read_planes, subsample, upsample
from .pyav import VideoError
from .turns import Turn

BT709, BT601, YCGCO = 1, 6, 8

WEIGHTS = {  # ITU-T H.273, table 4: of red and blue in luma
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}

UNKNOWN_MATRICES = {
    10: "BT.2020 with constant luminance",
    11: "SMPTE ST 2085 (Y'D'zD'x)",
    12: "a matrix derived from its primaries",
    13: "a matrix derived from its primaries, with constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}

USUAL_PRIMARIES = {0, 1, 2, 3, 5, 6, 7}
"""Too near to sRGB's for a difference to be seen."""


def rgb_to_yuv(weights: tuple[float, float]) -> Tensor:
    """Returns the matrix for the weights of red and blue."""
    red, blue = weights
    luma = torch.tensor([red, 1 - red - blue, blue], dtype=torch.float64)
    chroma = [(torch.eye(3, dtype=torch.float64)[i] - luma) / (2 * (1 - luma[i])) for i in (2, 0)]
    return torch.stack([luma, *chroma])


YCGCO_MATRIX = torch.tensor([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0, -0.5]]).double()


def times(matrix: Tensor, planes: Tensor) -> Tensor:
    """Multiplies 1,3,H,W by a matrix at each pixel."""
    return torch.einsum("ij,bjhw->bihw", matrix.to(planes.dtype), planes)


def stated(name: str, unknown: int, *sources: Any) -> int:
    """Returns the first number that is said."""
    numbers = (int(getattr(source, name, unknown)) for source in sources if source is not None)
    return next((number for number in numbers if number != unknown), unknown)


@dataclass(frozen=True, eq=False)
class Colours:
    """Describes the colours of a video's frames by H.273's numbers.

    Attributes:
        matrix, primaries, transfer, range: as the frames say.
        inner: the matrix that is computed with.
        space: what the numbers mean where that is not about sRGB.
        full: all values are used, and not 16 to 235.
    """

    matrix: int
    primaries: int
    transfer: int
    range: int
    inner: Tensor
    space: Space | None
    full: bool
    recoded: str = ""

    @classmethod
    def of(cls, frame: Any, stream: Any = None) -> Colours:
        """From the first frame; what it does not say, its stream may say.

        Raises:
            VideoError: its colours are coded in a way that is not known.
        """
        matrix, primaries, transfer = (
            stated(name, UNSPECIFIED, frame, stream)
            for name in ("colorspace", "color_primaries", "color_trc")
        )
        span, layout = stated("color_range", 0, frame, stream), Layout.of(frame.format)
        if matrix in UNKNOWN_MATRICES and not layout.rgb:
            raise VideoError(
                f"Its colours are coded as {UNKNOWN_MATRICES[matrix]}, which cannot be converted. "
                "Convert it to BT.709 or BT.2020 with the program that it comes from."
            )
        space = cls.find_space(primaries, transfer)
        if layout.rgb:
            bt709 = rgb_to_yuv(WEIGHTS[BT709])
            primaries, transfer = (BT709 if n == UNSPECIFIED else n for n in (primaries, transfer))
            return cls(BT709, primaries, transfer, 1, bt709, space, False, "RGB")
        inner = YCGCO_MATRIX if matrix == YCGCO else rgb_to_yuv(cls.weights(matrix, frame))
        named_full = frame.format.name.startswith("yuvj") or (layout.grey and not span)
        full = span == FULL or named_full
        colours = cls(matrix, primaries, transfer, FULL if full else span, inner, space, full)
        return replace(colours, recoded="YCgCo") if matrix == YCGCO else colours

    @staticmethod
    def weights(matrix: int, frame: Any) -> tuple[float, float]:
        """Returns those of a matrix; of none, what players take: BT.709 of large frames."""
        large = frame.height > 576 or frame.width > 1024
        return WEIGHTS.get(matrix, WEIGHTS[BT709 if large else BT601])

    @staticmethod
    def find_space(primaries: int, transfer: int) -> Space | None:
        """Returns the space where it is not about sRGB's; None too where nothing is known of it."""
        if transfer not in (*HDR, 8) and primaries in USUAL_PRIMARIES:
            return None
        try:
            return space_of_cicp(UNSPECIFIED if primaries in (0, 3) else primaries, transfer)
        except ColourError:
            return None

    @property
    def written(self) -> int:
        """Returns the matrix of the result."""
        return BT709 if self.recoded else self.matrix

    def back(self) -> Tensor:
        """Returns the matrix from RGB to the luma and chroma of the result."""
        return rgb_to_yuv(WEIGHTS[BT709]) if self.recoded else self.inner

    def to_seen(self, rgb: Tensor) -> Tensor:
        """Turns RGB numbers into what the network sees."""
        return rgb.clamp(0, 1) if self.space is None else to_view(rgb, self.space)

    def from_seen(self, seen: Tensor) -> Tensor:
        """Turns what the network made into RGB numbers."""
        return seen.clamp(0, 1) if self.space is None else from_view(seen, self.space)


class FrameImage:
    """A frame as an image, and the image as a frame.

    Attributes:
        seen: 1,3,H,W, upright, sRGB in [0, 1], float32.
    """

    def __init__(self, frame: Any, colours: Colours | None = None, turn: Turn | None = None):
        self.colours = colours or Colours.of(frame)
        self.turn = Turn.of(frame) if turn is None else turn
        self.stored, self.layout = read_planes(frame, self.colours.full)
        height, width = self.stored[0].shape[-2:]
        steps = self.layout.across, self.layout.down
        self.whole = torch.cat(
            [
                self.stored[0],
                *[upsample(part, *steps, (height, width)) for part in self.stored[1:]],
            ],
            1,
        )
        rgb = self.whole if self.layout.rgb else times(self.colours.inner.inverse(), self.whole)
        if self.layout.rgb or self.colours.recoded:
            self.whole = times(self.colours.back(), rgb)
        self.seen = self.turn(self.colours.to_seen(rgb)).contiguous()

    def with_change(self, restored: Tensor, format: str, steps: tuple[int, int]) -> Any:
        """Makes a frame of PyAV that has what the restoration changed.

        Args:
            restored: 1,3,H,W, sRGB in [0, 1]. Another size than `seen` is taken as it is.
            format: with luma and chroma in planes.
            steps: luma samples to a chroma sample of `format`.
        """
        result, full = self.planes(restored, steps), self.colours.full
        return make_frame(result, format, full)

    def planes(self, restored: Tensor, steps: tuple[int, int]) -> list[Tensor]:
        """Returns luma and chroma of the result, each 1,1,h,w."""
        matrix, same = self.colours.back(), restored is self.seen
        restored = restored.detach().float().cpu()
        as_stored = self.turn == Turn() and not (self.layout.rgb or self.colours.recoded)
        as_stored = as_stored and steps == (self.layout.across, self.layout.down)
        if restored.shape != self.seen.shape:
            result = times(matrix, self.colours.from_seen(restored))
            as_stored = False
        elif same:
            result = torch.zeros_like(self.whole) if as_stored else self.turn(self.whole)
        else:
            after, before = (self.colours.from_seen(x) for x in (restored, self.seen))
            result = times(matrix, after - before)
            result = result if as_stored else self.turn(self.whole) + result
        luma, *chroma = result.split(1, 1)
        parts = [luma, *[subsample(part, *steps) for part in chroma]]
        return [a + b for a, b in zip(self.stored, parts, strict=True)] if as_stored else parts


def seen(frame: Any) -> Tensor:
    """Returns a frame of PyAV as the network sees it: 1,3,H,W, upright, in [0, 1]."""
    return FrameImage(frame).seen
