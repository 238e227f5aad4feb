"""What restores the frames of a scene: for `video.restore_video`, on any host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor

from ..network.generator import Generator
from ..restoring.auto import Choice, choose
from ..restoring.frozen import VideoRestorer
from ..restoring.restoration import Options
from ..restoring.tasks import Task
from ..system.memory import TORCH, MemoryApi, with_less_memory
from .video import FrameRestorer


class SceneRestorer:
    """Makes what restores a scene's frames out of a sample of them, with common statistics.

    Args:
        generator: gives a task's generator, on the device that is to do the work.
        options: for all scenes; with `auto`, the task does not count.
        mask: 1,1,H,W in [0, 1], or None.
        auto: find out for each scene what it needs.
        api: of the host.

    Attributes:
        choices: what each scene needed, with `auto`.
        limit: of memory; what one frame needed, the next ones will.
    """

    def __init__(
        self,
        generator: Callable[[Task], Generator],
        options: Options,
        mask: Tensor | None = None,
        *,
        auto: bool = False,
        api: MemoryApi = TORCH,
    ):
        self.generator, self.options, self.mask = generator, options, mask
        self.auto, self.api = auto, api
        self.limit = options.memory
        self.choices: list[Choice] = []

    def __call__(self, sample: Tensor) -> FrameRestorer:
        """`sample`: B,3,H,W in [0, 1]."""
        options = self.options
        if self.auto:
            choice = choose(sample)
            self.choices.append(choice)
            if choice.task is None:
                return lambda frame: frame
            options = choice.options(options)
        generator = self.generator(options.task)
        device = next(generator.parameters()).device

        def make(limit: int | None) -> VideoRestorer:
            return VideoRestorer(generator, sample, replace(options, memory=limit))

        video, self.limit = with_less_memory(make, device, self.limit, self.api)

        def run(frame: Tensor, limit: int | None) -> Tensor:
            video.set_memory(limit)
            return video(frame, self.mask)

        def restore_frame(frame: Tensor) -> Tensor:
            work = partial(run, frame)
            restored, self.limit = with_less_memory(work, device, self.limit, self.api)
            return restored

        return restore_frame

    def reason(self) -> str:
        """What was found and done, a line for each scene; empty without `auto`."""
        if len(self.choices) == 1:
            return self.choices[0].reason
        return "\n".join(f"scene {i}: {each.reason}" for i, each in enumerate(self.choices, 1))
