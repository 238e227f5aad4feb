"""Planes of frames: from every format to floating point and back, with the chroma's resolution.

Luma is in [0, 1], chroma in [-0.5, 0.5], black and white being 0 and 1. What a file has beyond them
(brighter than white) stays beyond them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .pyav import bits, load_av, scaler

SUBSAMPLED = {
    (1, 1): "444",
    (2, 1): "422",
    (2, 2): "420",
    (4, 1): "411",
    (4, 4): "410",
    (1, 2): "440",
}
"""Luma samples to a chroma sample, across and down."""

FULL = 2
"""FFmpeg's number of the range that uses all values."""


class Layout(NamedTuple):
    """Describes the planes of a frame.

    Attributes:
        rgb: they are red, green and blue, not luma and chroma.
        grey: there is luma only.
        across, down: luma samples to a chroma sample.
        bits: of a sample.
        alpha: there is transparency too.
    """

    rgb: bool
    grey: bool
    across: int
    down: int
    bits: int
    alpha: bool

    @classmethod
    def of(cls, format: Any) -> Layout:
        """From a format of PyAV."""
        named = format.name
        grey = named.startswith(("gray", "ya", "mono"))
        rgb = not grey and (format.is_rgb or named.startswith(("xyz", "pal", "bayer")))
        depth = max((part.bits for part in format.components), default=8)
        parts = len(format.components)
        alpha = any(part.is_alpha for part in format.components) or (grey and parts == 2)
        if rgb or grey:
            return cls(rgb, grey, 1, 1, depth, alpha)
        across, down = -(-64 // format.chroma_width(64)), -(-64 // format.chroma_height(64))
        return cls(False, False, across, down, depth, alpha)

    @property
    def planar(self) -> str:
        """Returns the format that has these planes one by one, without loss."""
        deep = next((n for n in (9, 10, 12, 14, 16) if n >= self.bits > 8), 8)
        if self.rgb:
            return "rgb24" if deep == 8 else "rgb48le"
        if self.grey:
            return "gray" if deep == 8 else "gray16le"
        return f"yuv{SUBSAMPLED[self.across, self.down]}p" + (f"{deep}le" if deep > 8 else "")


def read_planes(frame: Any, full: bool) -> tuple[list[Tensor], Layout]:
    """Returns a frame's planes in floating point, each 1,1,h,w: luma and chroma, or RGB.

    Args:
        frame: of PyAV, in any format.
        full: whether all values are used, and not 16 to 235.
    """
    layout = Layout.of(frame.format)
    named = frame.format.name.replace("yuvj", "yuv")
    if named != layout.planar and not named.startswith(layout.planar.replace("yuv", "yuva")):
        frame = frame.reformat(format=layout.planar, interpolation=scaler())
    depth = bits(frame)
    kind = np.uint8 if depth == 8 else np.uint16
    if layout.rgb:
        array = samples(frame.planes[0], kind, 3)
        pixels = torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1)[None]
        return list(pixels.div_(2**depth - 1).split(1, 1)), layout
    parts = [samples(plane, kind)[..., 0] for plane in frame.planes[: 1 if layout.grey else 3]]
    found = [torch.from_numpy(part.astype(np.float32))[None, None] for part in parts]
    luma = [to_signal(part, depth, full, chroma=i > 0) for i, part in enumerate(found)]
    return (luma if len(luma) == 3 else [*luma, *[torch.zeros_like(luma[0])] * 2]), layout


def samples(plane: Any, kind: Any, channels: int = 1) -> np.ndarray:
    """Returns H,W,C: a plane's samples without what its rows end with."""
    rows = np.frombuffer(plane, kind).reshape(plane.height, -1)
    return rows[:, : plane.width * channels].reshape(plane.height, plane.width, channels)


def to_signal(codes: Tensor, depth: int, full: bool, chroma: bool) -> Tensor:
    """Turns a file's numbers into luma or chroma; in place."""
    zero, scale = zero_and_scale(depth, full, chroma)
    return codes.sub_(zero).div_(scale)


def zero_and_scale(depth: int, full: bool, chroma: bool) -> tuple[float, float]:
    """Returns the number that means 0, and how many mean 1 (ITU-T H.273, 8.3)."""
    if full:
        return (2 ** (depth - 1) if chroma else 0), 2**depth - 1
    step = 2 ** (depth - 8)
    return (128 * step, 224 * step) if chroma else (16 * step, 219 * step)


def make_frame(planes: list[Tensor], format: str, full: bool) -> Any:
    """Makes a frame of PyAV of luma and chroma, each 1,1,h,w."""
    height, width = planes[0].shape[-2:]
    frame = load_av().VideoFrame(width, height, format)
    depth = bits(frame)
    kind = np.uint8 if depth == 8 else np.uint16
    for i, (plane, part) in enumerate(zip(frame.planes, planes, strict=True)):
        zero, scale = zero_and_scale(depth, full, i > 0)
        codes = part[0, 0].mul(scale).add_(zero).round_().clamp_(0, 2**depth - 1)
        rows = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
        rows[:, : plane.width] = codes.cpu().numpy().astype(kind)
        plane.update(rows.tobytes())
    return frame


def upsample(chroma: Tensor, across: int, down: int, size: tuple[int, int]) -> Tensor:
    """1,1,h,w to 1,1,H,W. Chroma belongs to the left one of two pixels, as MPEG has it."""
    if across > 1:
        right = torch.cat([chroma[..., 1:], chroma[..., -1:]], -1)
        steps = [torch.lerp(chroma, right, k / across) for k in range(across)]
        chroma = torch.stack(steps, -1).flatten(-2)
    if down > 1:
        scale = (float(down), 1.0)
        chroma = F.interpolate(chroma, scale_factor=scale, mode="bilinear", align_corners=False)
    return chroma[..., : size[0], : size[1]]


def subsample(plane: Tensor, across: int, down: int) -> Tensor:
    """1,1,H,W to the resolution of chroma: `across` and `down` are 1 or 2, and divide the sides.

    FFmpeg would put chroma between two pixels, and colours would move by half a pixel.
    """
    if across == 2:
        wide = F.pad(plane, (1, 1, 0, 0), "replicate")
        plane = (wide[..., :-2:2] + 2 * wide[..., 1:-1:2] + wide[..., 2::2]) / 4
    if down == 2:
        plane = (plane[..., ::2, :] + plane[..., 1::2, :]) / 2
    return plane
