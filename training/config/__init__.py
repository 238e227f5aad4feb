"""The settings of a training run: what there are, what they may be, where they come from."""

from .data import DataConfig as DataConfig
from .ranges import ConfigError as ConfigError
from .settings import Config as Config
from .settings import LossConfig as LossConfig
from .settings import ModelConfig as ModelConfig
from .settings import RecordConfig as RecordConfig
from .settings import ScheduleConfig as ScheduleConfig
from .settings import SpeedConfig as SpeedConfig
from .settings import Stage as Stage
from .settings import ValidationConfig as ValidationConfig
