"""Restores images by a task, or by the steps that it has, each with its own weights.

`joint` brightens with `devudp`, then deblurs with `devudp-dt`: that deblurs better, and needs a
normal exposure. It sometimes sees a movement that there was not, so it changes only a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from .restoring.facts import Model
from .restoring.mix import mix_in_place
from .restoring.options import Options
from .restoring.progress import ImageProgress, begin_images, watched
from .restoring.restoration import restore
from .restoring.tasks import TASK_SPECS
from .system.memory import Attempt
from .task_weights import Weights, each_its_own

SHARES = (0.6, 0.4)
"""Of the time that each of two steps takes: without InstanceNorm a network is faster."""


@dataclass(frozen=True)
class Begin:
    """Says where a step begins; see `begin_images`."""

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
        weights: for each task; those of a step are asked for when it begins.
        attempts: memory limits to work within.
    """

    weights: Weights
    attempts: Callable[[Model], Iterator[Attempt]]

    def __call__(
        self,
        image: Tensor,
        options: Options,
        mask: Tensor | None,
        progress: ImageProgress | None,
        first: float,
    ) -> Tensor:
        """B,C,H,W as for `restore` to the same; `first`: how many images are done before."""
        steps = TASK_SPECS[options.task].steps
        if not steps or not each_its_own(self.weights) or not options.strength:
            return self.step(image, options, mask, Begin(progress, first))
        restored, at = image, first
        for (task, strength), share in zip(steps, SHARES, strict=True):
            step = replace(options, task=task, strength=strength)
            step = replace(step, exposure=None) if TASK_SPECS[task].exposure_is_fixed else step
            restored = self.step(restored, step, None, Begin(progress, at, share))
            at += share * len(image)
        mix_in_place(image, restored, options.strength, mask, white=True)
        return restored

    def step(self, image: Tensor, options: Options, mask: Tensor | None, begin: Begin) -> Tensor:
        """Restores images by one task."""
        model = self.weights(options.task)
        restored, done = image, begin(image, model, options)
        for attempt in self.attempts(model):
            with attempt, watched(begin.progress):
                bounded = replace(options, memory=attempt.limit)
                restored = restore(image, model, bounded, mask=mask, progress=done)
        return restored
