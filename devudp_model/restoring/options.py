"""Holds what a user can choose beside the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..engine.precision import PRECISIONS, Precision
from .tasks import MAX_DENOISE, TASKS, Task

Statistics = Literal["each image", "shared"]
STATISTICS: tuple[Statistics, ...] = get_args(Statistics)


@dataclass(frozen=True)
class Options:
    """Says how to restore.

    Attributes:
        task: one of `TASKS`: `joint`, `deblur` or `low light`; see tasks.py.
        strength: 0 for the input as it was, 1 for the full effect.
        exposure: 0 for the input's exposure, 1 for the scene's; None for the task's own.
        denoise: 1 is what the task does; 0 keeps all of the input's own detail and noise, 2 takes
            all from the model, which has least noise. Only for tasks that keep some of it
            (`joint`, `low light`).
        coarse: whether `deblur` starts with smaller versions of the image (see coarse_to_fine.py),
            where the generator allows it, and `joint` ends with one (see `TaskSpec.deblurred`).
        precision: of the network's arithmetic; `auto`: see `choose_dtype`. Where 16 bits overflow
            or there is no int8, fp32 takes over.
        statistics: of `each image` on its own, or `shared` by all images of a batch, so that the
            frames of a video do not flicker.
        memory: limit in bytes for what is used beside input and output; None for no limit.
        working_size: pixels. For larger images the network works on a smaller copy of about so
            many, and what it changes is brought to the full size (see working_size.py): faster, but
            the finest detail is not restored. None for the image itself.

    Raises:
        ValueError: a value out of its range.
    """

    task: Task = "joint"
    strength: float = 1.0
    exposure: float | None = None
    denoise: float = 1.0
    coarse: bool = True
    precision: Precision = "auto"
    statistics: Statistics = "each image"
    memory: int | None = None
    working_size: int | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("task", self.task, TASKS),
            ("precision", self.precision, PRECISIONS),
            ("statistics", self.statistics, STATISTICS),
        ):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(known)}")
        for name, most in (("strength", 1), ("exposure", 1), ("denoise", MAX_DENOISE)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                raise ValueError(f"{name} must be between 0 and {most:g}, not {value}")
        if self.memory is not None and self.memory <= 0:
            raise ValueError(f"memory must be a number of bytes above 0, not {self.memory}")
        if self.working_size is not None and self.working_size <= 0:
            raise ValueError(f"working_size must be above 0 pixels, not {self.working_size}")

    @property
    def shared(self) -> bool:
        """True if all images of a batch share one set of statistics."""
        return self.statistics == "shared"
