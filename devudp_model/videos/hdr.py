"""HDR: what the network sees of it, and what a file says of the display that it was made on."""

from __future__ import annotations

import struct
from typing import Any

from torch import Tensor

from ..images.colour import Space
from ..images.curves import SRGB

PEAK = 2.0
"""Light, white being 1, that is the brightest for the network; beyond it, what is stored stays.
With a higher one the curve gets so steep that a small error of one channel colours the lights."""

KNEE = 0.5
"""Light below it stays as it is."""

MASTERING, LIGHT = "MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"

DYNAMIC = {
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
}
"""Side data that say how each frame is to be shown, and no longer fit a restored one."""


def compress(light: Tensor) -> Tensor:
    """Linear light in [0, PEAK] to [0, 1]: below the knee as it is, above bent (Reinhard's curve
    with a white point), with one slope at the knee."""
    peak = (PEAK - KNEE) / (1 - KNEE)
    over = ((light - KNEE) / (1 - KNEE)).clamp(0, peak)
    bent = over * (1 + over / peak**2) / (1 + over)
    return light.clamp(0, KNEE) + bent * (1 - KNEE)


def expand(seen: Tensor) -> Tensor:
    """Undoes `compress`."""
    peak = (PEAK - KNEE) / (1 - KNEE)
    bent = ((seen - KNEE) / (1 - KNEE)).clamp(0, 1)
    over = ((bent - 1) + ((1 - bent) ** 2 + 4 * bent / peak**2).sqrt()) * peak**2 / 2
    return seen.clamp(0, KNEE) + over * (1 - KNEE)


def to_view(numbers: Tensor, space: Space) -> Tensor:
    """Turns a frame's RGB numbers, 1,3,H,W, into what the network sees: sRGB in [0, 1]."""
    light = space.light(numbers.clamp(0, 1)).clamp(min=0)
    return SRGB.encode(compress(light) if space.hdr else light.clamp(max=1)).clamp_(0, 1)


def from_view(view: Tensor, space: Space) -> Tensor:
    """Turns what the network saw or made into a frame's RGB numbers."""
    light = SRGB.decode(view.clamp(0, 1))
    return space.numbers(expand(light) if space.hdr else light)


def side_data(frame: Any) -> dict[str, bytes]:
    """Returns what a frame says beside its pixels, by FFmpeg's names."""
    return {part.type.name: bytes(part) for part in frame.side_data}


def x265_parameters(said: dict[str, bytes]) -> str:
    """Returns x265's parameters for the display and the light that a source was made for."""
    words = []
    if len(said.get(MASTERING, b"")) >= 88:
        numbers = struct.unpack("=22i", said[MASTERING][:88])
        pairs = zip(numbers[:20:2], numbers[1:20:2], strict=True)
        values = [top / bottom if bottom else 0.0 for top, bottom in pairs]
        xy = [round(value * 50_000) for value in values[:8]]
        red, green, blue, white = (f"({x},{y})" for x, y in zip(xy[::2], xy[1::2], strict=True))
        low, high = (round(value * 10_000) for value in values[8:])
        words.append(f"master-display=G{green}B{blue}R{red}WP{white}L({high},{low})")
    if len(said.get(LIGHT, b"")) >= 8:
        most, average = struct.unpack("=2I", said[LIGHT][:8])
        words.append(f"max-cll={most},{average}")
    return ":".join(words)
