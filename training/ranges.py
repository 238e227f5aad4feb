"""Which values a setting may have, and which settings go together: checked before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from devudp_model.restoring.tasks import TASKS

from .config import Config, ConfigError

SSIM_WINDOW = 11
"""Pixels of a side of the smallest image that has an SSIM (devudp_model.ops.metrics.WINDOW)."""

ALEXNET_SIDE = 31
"""Pixels of a side of the smallest image that AlexNet, LPIPS's network, has features for."""

D_SIDE = 24
"""Pixels of a side of the smallest image that D has an answer for."""


class Range(NamedTuple):
    """From `low` to `high`; a bound that is `open` is not allowed itself."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

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

RANGES: dict[str, Range] = {
    "seed": Range(0, 2**31 - 1),
    "batch": Range(1, 4096),
    "ema": Range(0, 1, open_high=True),
    "pool": Range(0, 100_000),
    "model.width": Range(1, 1024),
    "model.depth": Range(1, 64),
    "model.G_inv_width": Range(1, 1024),
    "model.D_width": Range(1, 1024),
    "data.held_out": NOT_NEGATIVE,
    "data.synthetic_blur_share": SHARE,
    "data.frames_share": SHARE,
    "data.frames_window": Range(1, 1000),
    "data.crop": Range(D_SIDE, 4096),
    "data.short_side": Range(1, 100_000),
    "data.blur_length": Range(0, 500),
    "data.straight_share": SHARE,
    "data.sweep_share": SHARE,
    "data.directions": Range(0, 10_000),
    "data.highlights": Range(0, 1000),
    "data.curve": Range(0.1, 20),
    "data.reblur_length": Range(0, 500),
    "data.reblur_scale": Range(0.05, 1),
    "data.noise": Range(0, 10),
    "data.noise_share": SHARE,
    "data.shot_noise": SHARE,
    "data.jpeg_share": SHARE,
    "data.jpeg_quality": Range(1, 100),
    "data.tone": Range(0.05, 20),
    "data.black_level": Range(0, 1, open_high=True),
    "data.keep_dark": SHARE,
    "data.coloured_light": SHARE,
    "data.white_balance": Range(0, 4),
    "data.border_share": SHARE,
    "data.cache_gb": Range(0, 100_000),
    "loss.recon": Range(0, 1e6),
    "loss.sr": Range(0, 1e6),
    "loss.adv": Range(0, 1e6),
    "loss.reblur": Range(0, 1e6),
    "loss.reblur_scales": Range(1, 12),
    "loss.ssim": Range(0, 1e6),
    "loss.lpips": Range(0, 1e6),
    "loss.s_branch_every": COUNT,
    "schedule.length": COUNT,
    "schedule.stop": COUNT,
    "schedule.scale": Range(0, 1e6, open_low=True),
    "schedule.lr": Range(0, 1, open_low=True),
    "schedule.warm_up": NOT_NEGATIVE,
    "schedule.halve_every": COUNT,
    "schedule.decay_from": SHARE,
    "schedule.freeze_norm": NOT_NEGATIVE,
    "schedule.max_norm": POSITIVE,
    "schedule.accumulate": Range(1, 4096),
    "schedule.betas": Range(0, 1, open_high=True),
    "schedule.muon": Range(0, 1000),
    "speed.workers": Range(0, 1024),
    "speed.threads": Range(0, 1024),
    "record.log_every": NOT_NEGATIVE,
    "record.save_every": NOT_NEGATIVE,
    "record.sample_every": NOT_NEGATIVE,
    "record.weights_every": NOT_NEGATIVE,
    "validation.every": NOT_NEGATIVE,
    "validation.images": NOT_NEGATIVE,
    "validation.patience": NOT_NEGATIVE,
}
"""Every number among the settings. Of pairs, both values."""

UNORDERED = {"schedule.betas"}
"""Pairs whose first value need not be the smaller one."""


def settings_of(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All settings by their dotted names, but for the stages."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings_of(value, f"{prefix}{field.name}.")
        elif field.name != "stages":
            yield prefix + field.name, value


def check_ranges(config: Config) -> None:
    """Checks each number by itself.

    Raises:
        ConfigError: one is out of its range, or not finite.
    """
    for name, value in settings_of(config):
        allowed = RANGES.get(name)
        if allowed is None or value is None:
            continue
        values = value if isinstance(value, tuple) else (value,)
        for one in values:
            if one not in allowed:
                raise ConfigError(f"{name} = {one} should be {allowed}")
        if isinstance(value, tuple) and name not in UNORDERED and value[0] > value[-1]:
            raise ConfigError(f"{name} = {list(value)} should have the smaller number first")


def check_together(config: Config) -> None:
    """Checks what depends on more than one setting.

    Raises:
        ConfigError: with the settings that do not go together.
    """
    data, loss, model = config.data, config.loss, config.model
    compared = bool(loss.reblur or loss.ssim or loss.lpips)
    learns = loss.t_branch or loss.s_branch or compared
    demands = {
        "one of loss.t_branch, loss.s_branch and loss.reblur must be on": learns,
        "loss.reblur, loss.ssim and loss.lpips need data.reblur_length": (
            not compared or data.reblur_length is not None
        ),
        "loss.s_branch_every above 1 needs loss.t_branch or loss.reblur in the other steps": (
            loss.s_branch_every == 1 or loss.t_branch or compared
        ),
        "loss.reblur_scales is too large for data.crop: the coarsest scale needs a pixel": (
            not compared or data.crop >= 2 ** (loss.reblur_scales - 1)
        ),
        f"loss.ssim needs data.crop of at least {SSIM_WINDOW}": (
            not loss.ssim or data.crop >= SSIM_WINDOW
        ),
        f"loss.lpips needs data.crop of at least {ALEXNET_SIDE}": (
            not loss.lpips or data.crop >= ALEXNET_SIDE
        ),
        "data.coarse_inputs needs the global shortcut (model.variant devudp-dt)": (
            not data.coarse_inputs or model.has_shortcut
        ),
        "data.tone needs data.exposure = 'common'": (
            data.tone == (1.0, 1.0) or data.exposure == "common"
        ),
        "data.keep_dark and data.white_balance need data.exposure = 'common'": (
            data.keep_dark == data.white_balance == 0 or data.exposure == "common"
        ),
        "data.frames_share above 0 needs data.frames": (
            data.frames_share == 0 or bool(data.frames)
        ),
        "data.straight_share and data.sweep_share must not exceed 1 together": (
            data.straight_share + data.sweep_share <= 1
        ),
        "batch must be a multiple of schedule.accumulate": (
            config.batch % config.schedule.accumulate == 0
        ),
        "validation without validation.degraded needs data.held_out": (
            not config.validation.every or bool(config.validation.degraded) or data.held_out > 0
        ),
        "validation.degraded and validation.reference belong together": (
            bool(config.validation.degraded) == bool(config.validation.reference)
        ),
        f"validation.tasks must be of {', '.join(TASKS)}": (
            set(config.validation.tasks) <= set(TASKS) and len(config.validation.tasks) > 0
        ),
    }
    for demand, met in demands.items():
        if not met:
            raise ConfigError(f"{demand}. Change it in the recipe or on the command line.")
