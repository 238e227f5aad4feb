"""Restores images by a task, and then by the task that follows it, with the weights for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from .restoring.facts import Model, generator_of
from .restoring.mix import mix_in_place
from .restoring.options import Options
from .restoring.progress import ImageProgress, begin_images, watched
from .restoring.restoration import restore
from .restoring.tasks import TASK_SPECS
from .system.memory import Attempt
from .task_weights import Weights

FIRST_STEP = 0.45
"""Share of the work that the first of two steps takes: the second begins with smaller images."""


@dataclass(frozen=True)
class Begin:
    """Where a step begins; see `begin_images`."""

    progress: ImageProgress | None
    first: float
    share: float = 1.0

    def __call__(self, image: Tensor, model: Model, options: Options) -> Callable[[int, int], None]:
        """Tells that images begin."""
        return begin_images(self.progress, image, model, options, self.first, self.share)


@dataclass(frozen=True)
class Steps:
    """Restores images that need the same.

    Attributes:
        weights: for each task; those of a task that follows are asked for when it begins.
        attempts: memory limits to work within.
        single: all tasks have the same weights, so that none follows.
    """

    weights: Weights
    attempts: Callable[[Model], Iterator[Attempt]]
    single: bool = False

    def __call__(
        self,
        image: Tensor,
        options: Options,
        mask: Tensor | None,
        progress: ImageProgress | None,
        first: float,
    ) -> Tensor:
        """B,C,H,W as for `restore` to the same; `first`: how many images are done before."""
        then = None if self.single else TASK_SPECS[options.task].then
        model = self.weights(options.task)
        if then is None or not options.strength:
            return self.step(image, model, options, mask, Begin(progress, first))
        whole = replace(options, strength=1.0)
        restored = self.step(image, model, whole, None, Begin(progress, first, FIRST_STEP))
        second, own = self.weights(then), generator_of(model)
        if generator_of(second).shortcut and generator_of(second) is not own:
            whole, at = replace(whole, task=then, exposure=None), first + FIRST_STEP * len(image)
            begin = Begin(progress, at, 1 - FIRST_STEP)
            restored = self.step(restored, second, whole, None, begin)
        elif progress:
            progress.done(first + len(image))
        mix_in_place(image, restored, options.strength, mask)
        return restored

    def step(
        self, image: Tensor, model: Model, options: Options, mask: Tensor | None, begin: Begin
    ) -> Tensor:
        """Restores images by one task."""
        restored, done = image, begin(image, model, options)
        for attempt in self.attempts(model):
            with attempt, watched(begin.progress):
                bounded = replace(options, memory=attempt.limit)
                restored = restore(image, model, bounded, mask=mask, progress=done)
        return restored
