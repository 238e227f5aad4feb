"""Restores by the task of a node's widget; for `auto`, by what each image needs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial

from torch import Tensor

from ..devudp_model.restoring.auto import Choice
from ..devudp_model.restoring.frozen import sampled
from ..devudp_model.restoring.options import Options
from ..devudp_model.restoring.tasks import Task
from . import host
from .images import channels_first, channels_last, empty_like
from .output_cache import cache_for
from .previews import VisibleProgress
from .run_on_host import restorer_on_host, working_bytes

log = logging.getLogger("devudp")

CHUNK = 8
"""Images restored in one go: so few that their copies weigh little."""

LINES = 4
"""For more images than this, the text on the node counts instead of listing."""


def restore_chosen(
    image: Tensor, task: Task, checkpoint: str, options: Options, mask: Tensor | None
) -> tuple[Tensor, str]:
    """IMAGE B,H,W,C to the restored one, and what was found and done (empty without `auto`).

    Where and as the host wants images. Beside the input and the output, memory holds the work of
    one image and copies of `CHUNK`.

    Args:
        image: as nodes get it, checked.
        task: a task or `auto`.
        checkpoint: the widget's choice.
        options: for all images; with `auto`, its task does not count.
        mask: None, or 1 or B,1,H,W.

    Raises:
        MemoryError: memory ran out with the smallest limit, too.
    """
    cache, result = cache_for(image), empty_like(image)
    choices: list[Choice] = []
    progress = VisibleProgress(
        host.progress(len(image)), lambda: mask is not None or cache.nbytes > 0
    )
    room = partial(working_bytes, image)
    with restorer_on_host(checkpoint, task, options, room, cache) as restorer:
        run, size = partial(restorer, progress=progress), CHUNK
        if options.shared and len(image):
            sample = image[sampled(len(image), image.shape[1] * image.shape[2])]
            run, size = restorer.scenes(None, progress)(channels_first(sample)), 1
        for start in range(0, len(image), size):
            part = slice(start, start + size)
            masks = mask if mask is None or len(mask) == 1 else mask[part]
            restored = run(channels_first(image[part]), masks)
            result[part] = channels_last(restored).to(result.device, result.dtype)
            choices += restorer.choices
    return result, describe(choices, options.shared) if choices else ""


def describe(choices: Sequence[Choice], shared: bool) -> str:
    """Returns what was found and done, in a few lines."""
    if shared or len(choices) == 1:
        text = in_two_lines(choices[0].reason)
    elif len(choices) <= LINES:
        text = "\n".join(f"{i}. {choice.reason}" for i, choice in enumerate(choices, 1))
    else:
        counted = Counter(choice.task or "left as they are" for choice in choices)
        parts = ", ".join(f"{count} {task}" for task, count in counted.most_common())
        text = f"{len(choices)} images: {parts}"
    log.info("DEvUDP auto: %s", text.replace(":\n", ": "))
    return text


def in_two_lines(reason: str) -> str:
    """Parts what was found from what was done: the host breaks long lines within a word."""
    return reason.replace(": ", ":\n", 1)
