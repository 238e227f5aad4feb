"""A config's schedule in steps."""

from __future__ import annotations

import math

from ..config import Config


class Schedule:
    """A config's schedule in steps, given how many make an epoch."""

    def __init__(self, config: Config, A_size: int):
        schedule = config.schedule
        self.epoch = math.ceil(A_size / config.batch)
        unit = self.epoch if schedule.unit == "epochs" else 1
        self.steps = schedule.length * unit
        self.halve_every = schedule.halve_every * unit
        freeze = schedule.freeze_norm
        self.freeze_norm = math.inf if freeze is None else freeze * unit
        self.start, self.warm_up = schedule.lr, schedule.warm_up

    def lr(self, step: int) -> float:
        """The learning rate of this step (counted from 0)."""
        share = min((step + 1) / self.warm_up, 1.0) if self.warm_up else 1.0
        return self.start * share * 0.5 ** (step // self.halve_every)
