"""A run's stages in steps: which one is due, its learning rate, and which samples it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..config import Config, ConfigError
from ..config.stages import stage_configs


@dataclass(frozen=True)
class StageSpan:
    """A stage in steps, which are counted from 0 over the whole run.

    Attributes:
        index, name: which stage.
        config: its settings.
        start, stop: its first step, and the one after its last.
        first_sample: number of its first sample.
        warm_up, halve_every, freeze_norm: in steps from its start.
    """

    index: int
    name: str
    config: Config
    start: int
    stop: int
    first_sample: int
    warm_up: int
    halve_every: int
    freeze_norm: float

    def lr(self, step: int) -> float:
        """Returns the learning rate of a step of this stage."""
        schedule, done = self.config.schedule, step - self.start
        rise = min((done + 1) / self.warm_up, 1.0) if self.warm_up else 1.0
        share = done / (self.stop - self.start)
        if schedule.decay == "halve":
            fall = 0.5 ** (done // self.halve_every)
        elif schedule.decay == "cosine":
            fall = 0.5 * (1 + math.cos(math.pi * share))
        elif schedule.decay == "linear":
            stable = schedule.decay_from
            fall = 1.0 if share < stable else (1 - share) / (1 - stable)
        else:
            fall = 1.0
        return schedule.lr * rise * fall

    def norm_is_frozen(self, step: int) -> bool:
        """True if BatchNorm uses its running statistics in a step of this stage."""
        return step - self.start >= self.freeze_norm

    @property
    def work(self) -> int:
        """Pixels of A in one step, to which its time is roughly proportional."""
        return self.config.batch * self.config.data.crop**2

    def describe(self) -> str:
        """One line for the log."""
        return (
            f"stage {self.index + 1}, {self.name}: steps {self.start} to {self.stop}, "
            f"batches of {self.config.batch}, crops of {self.config.data.crop} pixels"
        )


class Schedule:
    """All stages of a run.

    Args:
        config: of the run.
        A_size: images of the blurry domain, which make an epoch.
    """

    def __init__(self, config: Config, A_size: int):
        self.stages: list[StageSpan] = []
        start = first_sample = 0
        names = [stage.name for stage in config.stages] or [""]
        for index, stage in enumerate(stage_configs(config)):
            schedule = stage.schedule
            self.epoch = math.ceil(A_size / stage.batch)
            unit = self.epoch if schedule.unit == "epochs" else 1

            def steps(count: float, unit: int = unit, scale: float = schedule.scale) -> int:
                return max(round(count * unit * scale), 1)

            freeze, warm_up = schedule.freeze_norm, schedule.warm_up
            span = StageSpan(
                index,
                names[index],
                stage,
                start,
                start + steps(schedule.length),
                first_sample,
                steps(warm_up / unit) if warm_up else 0,
                steps(schedule.halve_every),
                math.inf if freeze is None else (steps(freeze) if freeze else 0),
            )
            self.stages.append(span)
            first_sample += (span.stop - span.start) * stage.batch
            start = span.stop
        stop, scale = config.schedule.stop, config.schedule.scale
        self.steps = start if stop is None else min(start, max(round(stop * scale), 1))

    def at(self, step: int) -> StageSpan:
        """Returns the stage of a step; of the last one, for a step after the end."""
        return next((s for s in self.stages if step < s.stop), self.stages[-1])

    def samples(self, start: int) -> Iterator[tuple[int, int, int]]:
        """Stage, first sample and batch size of each step from `start` on."""
        for step in range(start, self.steps):
            span = self.at(step)
            batch = span.config.batch
            yield span.index, span.first_sample + (step - span.start) * batch, batch

    def seconds_left(self, step: int, seconds_per_step: float) -> float:
        """Roughly how long the steps from `step` on take, judged by the step before."""
        now = self.at(max(step - 1, 0)).work
        left = sum(
            max(min(s.stop, self.steps) - max(step, s.start), 0) * s.work for s in self.stages
        )
        return seconds_per_step * left / now

    def check_processes(self, processes: int) -> None:
        """Checks that every batch can be split.

        Raises:
            ConfigError: one cannot.
        """
        for span in self.stages:
            if span.config.batch % (processes * span.config.schedule.accumulate):
                raise ConfigError(
                    f"a batch of {span.config.batch} cannot be split evenly over {processes} "
                    f"processes and {span.config.schedule.accumulate} parts (schedule.accumulate): "
                    "make it a multiple of both"
                )


def duration(seconds: float) -> str:
    """3 d 02:30 h, 1:02:30 or 2:30."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d}:{minutes:02d} h"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
