"""Defines which numbers a setting may have: a `Range` stands in its annotation."""

from __future__ import annotations

from typing import NamedTuple


class ConfigError(ValueError):
    """A setting that cannot be used; the message says which one and what to do."""


class Range(NamedTuple):
    """From `low` to `high`; a bound that is `open` is not allowed itself.

    Of a pair, both values are in it, and if it is `ordered`, the smaller one comes first.
    """

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False
    ordered: bool = True

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, (int, float)) or (isinstance(value, float) and value != value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low = f"{'above' if self.open_low else 'at least'} {self.low:.10g}"
        return f"{low} and {'below' if self.open_high else 'at most'} {self.high:.10g}"


SHARE = Range(0, 1)
POSITIVE = Range(0, 1e9, open_low=True)
NOT_NEGATIVE = Range(0, 10**9)
COUNT = Range(1, 10**9)
WEIGHT = Range(0, 1e6)

SSIM_WINDOW = 11
"""Pixels of a side of the smallest image that has an SSIM (devudp_model.ops.metrics.WINDOW)."""

ALEXNET_SIDE = 31
"""Pixels of a side of the smallest image that AlexNet, LPIPS's network, has features for."""

D_SIDE = 24
"""Pixels of a side of the smallest image that D has an answer for."""
