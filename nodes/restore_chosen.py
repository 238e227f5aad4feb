"""What a node does for the task of its widget; for `auto`, what each image needs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from torch import Tensor

from ..devudp_model.restoring.auto import AUTO, Choice, choose
from ..devudp_model.restoring.frozen import sampled
from ..devudp_model.restoring.restoration import Options
from ..devudp_model.restoring.tasks import Task
from . import checkpoints, host
from .images import channels_first, empty_like
from .output_cache import cache_for
from .run_on_host import restore_images

log = logging.getLogger("devudp")

LINES = 4
"""For more images than this, the text on the node counts instead of listing."""


def restore_chosen(
    image: Tensor, task: Task, checkpoint: str, options: Options, mask: Tensor | None
) -> tuple[Tensor, str]:
    """IMAGE B,H,W,C to the restored one, and what was found and done (empty without `auto`).

    Args:
        image: as nodes get it.
        task: a task or `auto`.
        checkpoint: the widget's choice.
        options: for all images; with `auto`, its task does not count.
        mask: None, or 1 or B,1,H,W.
    """
    cache, report = cache_for(image), host.progress(len(image))

    def run(part: slice, options: Options) -> Tensor:
        loaded = checkpoints.load(checkpoint, options.task)
        cache.hold(loaded)
        masks = mask if mask is None or len(mask) == 1 else mask[part]
        return restore_images(
            image[part],
            loaded.generator,
            options,
            masks,
            report=report,
            first=part.start,
            cache=cache,
        )

    whole = slice(0, len(image))
    if task != AUTO:
        return run(whole, options), ""
    choices = choices_for(image, options)
    result = empty_like(image)
    for part, choice in runs(choices):
        if choice.task is None:
            result[part] = image[part].to(result.device, result.dtype)
            report(part.stop)
        else:
            result[part] = run(part, choice.options(options))
    return result, describe(choices, options.shared)


def choices_for(image: Tensor, options: Options) -> list[Choice]:
    """One for each image of B,H,W,C; where statistics are shared, the same for all."""
    if not options.shared:
        return [choose(frame) for frame in channels_first(image).split(1)]
    sample = image[sampled(len(image), image.shape[1] * image.shape[2])]
    return [choose(channels_first(sample))] * len(image)


def runs(choices: Sequence[Choice]) -> Iterator[tuple[slice, Choice]]:
    """Images one after the other that need the same."""

    def need(choice: Choice) -> tuple[Task | None, float, float]:
        return choice.task, choice.strength, choice.exposure

    start = 0
    for _, group in groupby(choices, need):
        same = list(group)
        yield slice(start, start + len(same)), same[0]
        start += len(same)


def describe(choices: Sequence[Choice], shared: bool) -> str:
    """What was found and done, in a few lines."""
    if shared or len(choices) == 1:
        text = in_two_lines(choices[0].reason) if choices else ""
    elif len(choices) <= LINES:
        text = "\n".join(f"{i}. {choice.reason}" for i, choice in enumerate(choices, 1))
    else:
        counted = Counter(choice.task or "left as they are" for choice in choices)
        parts = ", ".join(f"{count} {task}" for task, count in counted.most_common())
        text = f"{len(choices)} images: {parts}"
    log.info("DEvUDP auto: %s", text.replace(":\n", ": "))
    return text


def in_two_lines(reason: str) -> str:
    """What was found, then what was done: the host breaks long lines in the middle of a word."""
    return reason.replace(": ", ":\n", 1)
