"""The settings of a training run: what there are, what they may be, where they come from."""

from .data import DataConfig
from .ranges import ConfigError
from .settings import (
    Config,
    LossConfig,
    ModelConfig,
    RecordConfig,
    ScheduleConfig,
    SpeedConfig,
    Stage,
    ValidationConfig,
)

__all__ = [
    "Config",
    "ConfigError",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "RecordConfig",
    "ScheduleConfig",
    "SpeedConfig",
    "Stage",
    "ValidationConfig",
]
