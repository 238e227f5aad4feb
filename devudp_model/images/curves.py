"""Transfer curves: from a file's numbers to linear light and back.

Linear light is 1 where a display shows white; PQ and HLG go beyond it. All take and give tensors of
float32 of any shape.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..ops.dtypes import LARGEST

REFERENCE_WHITE = 203.0
"""Candela a square metre of what PQ and HLG call white (ITU-R BT.2408)."""

HLG_PEAK, HLG_GAMMA = 1000.0, 1.2
"""Of the display that HLG is made for (ITU-R BT.2100)."""


MAX_TABLES = 32
"""That are kept, of numbers in linear light."""


class Curve(Protocol):
    """One channel's curve."""

    def decode(self, x: Tensor) -> Tensor:
        """Turns the file's numbers, in [0, 1], into linear light."""
        ...

    def encode(self, light: Tensor) -> Tensor:
        """Turns linear light into the file's numbers; what is below 0 becomes 0."""
        ...


def decode(curve: Curve, rows: Tensor) -> Tensor:
    """Turns numbers of any image type into linear light; whole ones by a table."""
    if rows.dtype not in LARGEST:
        return curve.decode(rows.float())
    return _table(curve, rows.dtype)[rows.to(torch.int32)]


@functools.lru_cache(MAX_TABLES)
def _table(curve: Curve, dtype: torch.dtype) -> Tensor:
    return curve.decode(torch.arange(LARGEST[dtype] + 1) / LARGEST[dtype])


@dataclass(frozen=True)
class Parametric:
    """ICC's parametric curve: (a x + b)^g + e from d on, c x + f below."""

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0

    def decode(self, x: Tensor) -> Tensor:
        curved = (self.a * x + self.b).clamp_(min=0).pow_(self.g).add_(self.e)
        return torch.where(x >= self.d, curved, self.c * x + self.f) if self.d > 0 else curved

    def encode(self, light: Tensor) -> Tensor:
        curved = (light - self.e).clamp_(min=0).pow_(1 / self.g).sub_(self.b).div_(self.a)
        if self.d <= 0 or self.c <= 0:
            return curved.clamp_(min=0)
        straight = (light - self.f) / self.c
        return torch.where(light >= self.c * self.d + self.f, curved, straight).clamp_(min=0)


SRGB = Parametric(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


class Linear:
    """Numbers that are linear light, also above 1."""

    def decode(self, x: Tensor) -> Tensor:
        return x

    def encode(self, light: Tensor) -> Tensor:
        return light


class Sampled:
    """A table over [0, 1]; where it does not rise, the first of several numbers is taken."""

    def __init__(self, values: Tensor):
        self.values = values.float()
        self.rising = self.values.cummax(0).values

    def decode(self, x: Tensor) -> Tensor:
        position = x.clamp(0, 1) * (len(self.values) - 1)
        low = position.long().clamp_(max=len(self.values) - 2)
        return torch.lerp(self.values[low], self.values[low + 1], position - low)

    def encode(self, light: Tensor) -> Tensor:
        light = light.clamp(0, 1).contiguous()
        high = torch.searchsorted(self.rising, light).clamp_(1, len(self.rising) - 1)
        below, above = self.rising[high - 1], self.rising[high]
        share = (light - below) / (above - below).clamp_(min=1e-9)
        return (high - 1 + share.clamp_(0, 1)) / (len(self.rising) - 1)


class Pq:
    """SMPTE ST 2084."""

    M1, M2, C1, C2, C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128

    def decode(self, x: Tensor) -> Tensor:
        power = x.clamp(0, 1).pow_(1 / self.M2)
        light = ((power - self.C1).clamp_(min=0) / (self.C2 - self.C3 * power)).pow_(1 / self.M1)
        return light * (10_000 / REFERENCE_WHITE)

    def encode(self, light: Tensor) -> Tensor:
        power = (light * (REFERENCE_WHITE / 10_000)).clamp_(0, 1).pow_(self.M1)
        return ((self.C1 + self.C2 * power) / (1 + self.C3 * power)).pow_(self.M2)


class Hlg:
    """ITU-R BT.2100's curve of the scene's light; `Space` adds what the display does."""

    A, B, C = 0.17883277, 0.28466892, 0.55991073

    def decode(self, x: Tensor) -> Tensor:
        x = x.clamp(0, 1)
        return torch.where(x <= 0.5, x * x / 3, (((x - self.C) / self.A).exp() + self.B) / 12)

    def encode(self, light: Tensor) -> Tensor:
        light = light.clamp(0, 1)
        high = self.A * (12 * light - self.B).clamp(min=1e-9).log() + self.C
        return torch.where(light <= 1 / 12, (3 * light).sqrt(), high)


def hlg_to_display(scene: Tensor, luminance: Tensor) -> Tensor:
    """Turns the scene's light, B,C,H,W with its luminance B,1,H,W, into the display's."""
    return scene * luminance.clamp(min=1e-6).pow(HLG_GAMMA - 1) * (HLG_PEAK / REFERENCE_WHITE)


def hlg_to_scene(display: Tensor, luminance: Tensor) -> Tensor:
    """Undoes `hlg_to_display`."""
    share = REFERENCE_WHITE / HLG_PEAK
    scene_luminance = (luminance * share).clamp(min=1e-7).pow(1 / HLG_GAMMA)
    return display * share / scene_luminance.pow(HLG_GAMMA - 1)
