"""Finds out what images and videos need, and does it: the one way that all others use.

    restorer = Restorer()
    bright = restorer(image)                      # image: B,C,H,W in [0, 1]
    print(restorer.reason)

The command line, the nodes, videos, evaluation and benchmarks restore by it; what differs between
them comes in as arguments.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import replace
from itertools import groupby, islice, tee
from typing import Protocol, overload

import torch
from torch import Tensor

from .restoring.auto import AUTO, Choice, choose
from .restoring.facts import Model, generator_of
from .restoring.frozen import VideoRestorer, sampled
from .restoring.options import Options
from .restoring.progress import ImageProgress, Report, as_progress, begin_images, watched
from .restoring.restoration import restore
from .restoring.scenes import find_scenes, thumbnail
from .restoring.tasks import Task, task_of_word
from .restoring.validate import check_image
from .system.memory import TORCH, Attempt, MemoryApi, attempts, first_limit
from .task_weights import Weights, weights_of


class FrameRestorer(Protocol):
    """Restores the frames of a scene."""

    def __call__(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """1,C,H,W, any type of image, to the same; `mask` as for `restore`."""
        ...


class Restorer:
    """Restores images and videos: what they need, with the weights for it, within the free memory.

        restorer = Restorer()
        bright = restorer(read_image("photo.jpg").pixels)
        print(restorer.reason)

    Where memory runs out, it retries with a smaller budget.

    Args:
        checkpoint: weights for all tasks: a file, or loaded. None for each task's own, which are
            read when they are first needed. Or a function that gives those for a task, on the
            device that is to do the work.
        task: `auto` (what `choose` finds), or one of `TASKS`.
        options: everything else; its own task does not count. The defaults of `Options` if None.
        device: where to work; None for the fastest of this machine. Weights that are loaded stay
            where they are.
        memory: how to ask for memory; None for PyTorch's way.

    Attributes:
        choices: with `auto`, what was found by the last call: one for each image, or each scene of
            a video.
        reason: the same in words, and what was done, a line for each.
        limit: bytes that the next image may take; None to ask for what is free.

    Raises:
        ValueError: an unknown task.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike[str] | Model | Weights | None = None,
        task: Task = AUTO,
        options: Options | None = None,
        *,
        device: torch.device | str | None = None,
        memory: MemoryApi | None = None,
    ):
        self.auto = task == AUTO
        options = options or Options()
        self.options = options if self.auto else replace(options, task=task_of_word(task))
        self.weights = weights_of(checkpoint, device)
        self.memory, self.limit = memory or TORCH, options.memory
        self.choices: list[Choice] = []

    @property
    def device(self) -> torch.device | None:
        """Returns where the weights are to run, as far as that is known before any are read."""
        return getattr(self.weights, "device", None)

    def for_other_thread(self) -> Restorer:
        """Returns one that works with the same weights beside this one."""
        other = copy(self)
        other.choices = []
        return other

    @property
    def reason(self) -> str:
        """Returns what was found and done by the last call, in lines; empty without `auto`."""
        return lines_of(self.choices, "{}. ")

    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]  # a tensor is no video
        self,
        image: Tensor,
        mask: Tensor | None = None,
        progress: Report | ImageProgress | None = None,
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        image: Iterable[Tensor],
        mask: Tensor | None = None,
        progress: Report | ImageProgress | None = None,
    ) -> Iterator[Tensor]: ...

    def __call__(
        self,
        image: Tensor | Iterable[Tensor],
        mask: Tensor | None = None,
        progress: Report | ImageProgress | None = None,
    ) -> Tensor | Iterator[Tensor]:
        """Restores images, or a video's frames one by one.

        Args:
            image: B,C,H,W, as for `restore`. With `shared` statistics, those of a sample of the
                batch. Or frames, 1,C,H,W each: those of a scene share their statistics, and are
                held until its end is found. (`videos.video.restore_video` takes files of any
                length.)
            mask: as for `restore`.
            progress: gets the number of images done, with a fraction.

        Returns:
            Shape, type and device of `image`; or the restored frames, made as they are asked for.
            What needs nothing comes back as it is.

        Raises:
            MemoryError: memory ran out with the smallest limit, too.
            CheckpointError: the weights cannot be read.
            ValueError, FloatingPointError: as `restore`.
        """
        progress = as_progress(progress)
        if not isinstance(image, Tensor):
            return self.restore_frames(image, mask, progress)
        check_image(image)
        self.choices = []
        if not len(image):
            return image.clone()
        if self.options.shared:
            return self.restore_together(image, mask, progress)
        first, results = progress.images if progress else 0, []
        for part, options in self.parts(image):
            restored = image[part]
            if options is not None:
                model, masks = self.weights(options.task), part_of(mask, part)
                done = begin_images(progress, restored, model, options, first + part.start)
                for attempt in self.attempts(model):
                    with attempt, watched(progress):
                        bounded = replace(options, memory=attempt.limit)
                        restored = restore(image[part], model, bounded, mask=masks, progress=done)
            elif progress:
                progress.done(first + part.stop)
            results.append(restored)
        return results[0] if len(results) == 1 else torch.cat(results)

    def decide(self, image: Tensor, choices: list[Choice] | None = None) -> Options | None:
        """Returns the options for images B,C,H,W together; None where nothing is to be done.

        Args:
            choices: gets what was found, with `auto`; those of the last call if None.
        """
        if not self.auto:
            return self.options
        choice = choose(image)
        (self.choices if choices is None else choices).append(choice)
        return None if choice.task is None else choice.options(self.options)

    def scenes(
        self, mask: Tensor | None = None, progress: Report | ImageProgress | None = None
    ) -> Scenes:
        """Returns what restores a video scene by scene; arguments as for a call.

        `choices` are those of its scenes from now on.
        """
        scenes = Scenes(self, mask, as_progress(progress))
        self.choices = scenes.choices
        return scenes

    def parts(self, image: Tensor) -> Iterator[tuple[slice, Options | None]]:
        """Gives images one after the other that need the same, and what."""
        found = [self.decide(each) for each in image.split(1)] if self.auto else None
        if found is None:
            yield slice(0, len(image)), self.options
            return
        start = 0
        for options, group in groupby(found):
            stop = start + len(list(group))
            yield slice(start, stop), options
            start = stop

    def attempts(self, model: Model) -> Iterator[Attempt]:
        """Gives memory limits to work within; what is needed now, the next image will need too."""
        device = next(generator_of(model).parameters()).device
        if self.limit is None:
            self.limit = first_limit(self.memory.free_bytes(device))
        for attempt in attempts(device, self.limit, self.memory):
            yield attempt
            if not attempt.failed:
                self.limit = attempt.limit

    def restore_together(
        self, image: Tensor, mask: Tensor | None, progress: ImageProgress | None
    ) -> Tensor:
        """Restores B,C,H,W with the statistics of a sample of them."""
        run = self.scenes(None, progress)(image[sampled(len(image), image[0, 0].numel())])
        frames = [
            run(frame, part_of(mask, slice(i, i + 1))) for i, frame in enumerate(image.split(1))
        ]
        return torch.cat(frames)

    def restore_frames(
        self, frames: Iterable[Tensor], mask: Tensor | None, progress: ImageProgress | None
    ) -> Iterator[Tensor]:
        """Restores frames 1,C,H,W, each scene with the statistics of a sample of it."""
        ahead, behind = tee(frames)
        scenes = self.scenes(mask, progress)
        for scene in find_scenes(ahead, thumbnail, lambda frame: frame):
            run = scenes(scene.sample)
            yield from (run(frame) for frame in islice(behind, scene.frames))


class Scenes:
    """Restores the scenes of one video; see `Restorer.scenes` and `videos.video.restore_video`.

    Attributes:
        choices: what each scene needed, with `auto`.
    """

    def __init__(self, restorer: Restorer, mask: Tensor | None, progress: ImageProgress | None):
        self.restorer, self.mask, self.progress = restorer, mask, progress
        self.choices: list[Choice] = []

    @property
    def reason(self) -> str:
        """Returns what was found and done, a line for each scene; empty without `auto`."""
        return lines_of(self.choices, "scene {}: ")

    def __call__(self, sample: Tensor) -> FrameRestorer:
        """Returns what restores the frames of a scene of which this is a sample, B,C,H,W."""
        restorer, progress = self.restorer, self.progress
        options = restorer.decide(sample, self.choices)
        if options is None:
            return self.leave
        model = restorer.weights(options.task)
        begin_images(progress, sample[:1], model, options, 0)
        video = None
        for attempt in restorer.attempts(model):
            with attempt:
                bounded = replace(options, memory=attempt.limit)
                video = VideoRestorer(generator_of(model), sample, bounded)
        assert video is not None

        def restore_frame(frame: Tensor, mask: Tensor | None = None) -> Tensor:
            mask, restored = self.mask if mask is None else mask, frame
            done = begin_images(progress, frame, model, options, progress.images if progress else 0)
            for attempt in restorer.attempts(model):
                with attempt, watched(progress):
                    video.set_memory(attempt.limit)
                    restored = video(frame, mask)
            if progress and progress.finished:
                progress.finished(restored, 0, restored.shape[2])
            done(1, 1)
            return restored

        return restore_frame

    def leave(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns a frame of a scene that needs nothing."""
        if self.progress:
            self.progress.done(self.progress.images + 1)
        return frame


def part_of(mask: Tensor | None, part: slice) -> Tensor | None:
    """Returns the masks of some images; one for all stays."""
    return mask if mask is None or mask.ndim == 2 or len(mask) == 1 else mask[part]


def lines_of(choices: list[Choice], number: str) -> str:
    """Joins what was found into lines, which are numbered if they are several."""
    if len(choices) == 1:
        return choices[0].reason
    return "\n".join(f"{number.format(i)}{each.reason}" for i, each in enumerate(choices, 1))
