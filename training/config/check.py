"""Checks which values settings have, and which go together, before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_type_hints

from devudp_model.restoring.tasks import TASKS

from .ranges import ALEXNET_SIDE, SSIM_WINDOW, ConfigError, Range
from .settings import Config


def ranges_of(config: type, prefix: str = "") -> Iterator[tuple[str, Range]]:
    """Yields the ranges in the annotations of a config's fields, by their dotted names."""
    for name, hint in get_type_hints(config, include_extras=True).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from ranges_of(hint, f"{prefix}{name}.")
        for each in getattr(hint, "__metadata__", ()):
            if isinstance(each, Range):
                yield prefix + name, each


RANGES = dict(ranges_of(Config))
"""Of every number among the settings."""


def settings_of(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields all settings by their dotted names, but for the stages."""
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
        if isinstance(value, tuple) and allowed.ordered and value[0] > value[-1]:
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
