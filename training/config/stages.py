"""The stages of a recipe: which settings hold in each, checked before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from .check import check_ranges, check_together, settings_of
from .ranges import ConfigError
from .settings import Config

FIXED = ("seed", "model.", "speed.", "record.", "validation.", "schedule.unit",
         "schedule.length", "schedule.scale", "schedule.stop", "schedule.betas",
         "schedule.accumulate", "schedule.muon", "data.sharp", "data.blurry", "data.layout",
         "data.root", "data.blur", "data.exclude", "data.held_out", "data.frames",
         "data.cache_gb", "loss.lpips_weights", "pool")  # fmt: skip
"""What no stage may change: names, and beginnings of names that end in a dot."""


def is_fixed(name: str) -> bool:
    """True if a setting holds for the whole run."""
    return any(name == f or (f.endswith(".") and name.startswith(f)) for f in FIXED)


def with_changes(config: Config, changes: Mapping[str, Any]) -> Config:
    """Returns the config with other values for some settings, given by their dotted names."""
    tables: dict[str, dict[str, Any]] = {}
    top: dict[str, Any] = {}
    for name, value in changes.items():
        table, _, key = name.rpartition(".")
        (tables.setdefault(table, {}) if table else top)[key] = value
    for table, values in tables.items():
        top[table] = dataclasses.replace(getattr(config, table), **values)
    return dataclasses.replace(config, **top)


def stage_configs(config: Config) -> tuple[Config, ...]:
    """Returns the settings of each stage; of a recipe without stages, its own.

    `schedule.length` is the stage's.
    """
    if not config.stages:
        return (config,)
    bare = dataclasses.replace(config, stages=())
    return tuple(
        with_changes(bare, {**stage.changes, "schedule.length": stage.length})
        for stage in config.stages
    )


def check(config: Config) -> Config:
    """Checks all settings, in every stage; returns the config.

    Raises:
        ConfigError: with the stage and the setting.
    """
    known = dict(settings_of(config))
    for stage in config.stages:
        for name in stage.changes:
            if name not in known or is_fixed(name):
                why = "holds for the whole run" if name in known else "is no setting"
                raise ConfigError(f"stage {stage.name!r} changes {name}, which {why}")
        if stage.length < 1:
            raise ConfigError(f"stage {stage.name!r} needs a length of at least 1")
    names = [stage.name for stage in config.stages] or [""]
    for name, resolved in zip(names, stage_configs(config), strict=True):
        try:
            check_ranges(resolved)
            check_together(resolved)
        except ConfigError as error:
            raise ConfigError(f"in stage {name!r}: {error}" if name else str(error)) from error
    return config


def override(config: Config, changed: Config, named: Collection[str] = ()) -> Config:
    """Returns the command line's settings over a recipe's: they hold in every stage.

    Args:
        named: settings that were given, even with the recipe's own value.

    Raises:
        ConfigError: a length, where the stages have their own.
    """
    before, after = dict(settings_of(config)), dict(settings_of(changed))
    given = {name for name, value in after.items() if value != before[name] or name in named}
    if config.stages and "schedule.length" in given:
        raise ConfigError(
            "the recipe's stages have lengths of their own: change all by schedule.scale"
        )
    stages = tuple(
        dataclasses.replace(
            stage, changes={k: v for k, v in stage.changes.items() if k not in given}
        )
        for stage in config.stages
    )
    return dataclasses.replace(changed, stages=stages)
