"""Restores on ComfyUI's device and within its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from ..devudp_model.checkpoint import Checkpoint
from ..devudp_model.engine.layers import forget_layers
from ..devudp_model.engine.precision import Precision
from ..devudp_model.network.generator import Generator
from ..devudp_model.restorer import Restorer
from ..devudp_model.restoring.facts import Model, facts_of, generator_of
from ..devudp_model.restoring.frozen import sampled
from ..devudp_model.restoring.options import Options
from ..devudp_model.restoring.restoration import make_network
from ..devudp_model.restoring.tasks import TASK_SPECS, Task
from . import checkpoints, host
from .output_cache import ImageCache

FEATURE_MAPS = 3
"""Full-size feature maps that are alive at once, about."""

PRECISIONS: dict[torch.dtype, Precision] = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
}


@contextmanager
def restorer_on_host(
    checkpoint: str,
    task: Task,
    options: Options,
    room: Callable[[Generator, Options], int],
    cache: ImageCache | None = None,
) -> Iterator[Restorer]:
    """Restores within the block on the host's device, where a task's networks lie, no others.

    The user can cancel at any time. A precision of "auto" becomes the host's choice.

    Args:
        checkpoint: the widget's choice.
        task, options: as of `Restorer`.
        room: bytes that the host is asked for before a network comes.
        cache: outputs of the network, from the last run and for the next one.
    """
    options = replace(options, precision=host_precision(options.precision))
    with ExitStack() as placed, host.cancellable():
        here: list[tuple[list[Generator], Model]] = []

        def weights(task: Task) -> Model:
            found = checkpoints.load(checkpoint, task)
            networks, second = [found.generator], facts_of(found.generator).deblurrer
            if second is not None and TASK_SPECS[task].deblurred:
                networks.append(generator_of(second))
            if not here or here[0][0] != networks:
                here.clear()
                placed.pop_all().close()
                generator = found.generator
                placed.enter_context(on_device(generator, room(generator, options)))
                for other in networks[1:]:
                    placed.enter_context(on_device(other, 0))
                restorer.limit = None  # the host has made room
                model = found if cache is None else cached(found, cache, restorer)
                here[:] = [(networks, model)]
            return here[0][1]

        restorer = Restorer(weights, task, options, memory=host.MEMORY)
        yield restorer


def cached(checkpoint: Checkpoint, cache: ImageCache, restorer: Restorer) -> Model:
    """Returns a network that uses and fills the cache, which keeps the weights in memory, too."""
    cache.hold(checkpoint)
    generator, model = checkpoint.generator, checkpoint
    for attempt in restorer.attempts(generator):
        with attempt:
            dtype = make_network(generator, restorer.options.precision).own_dtype
            model = cache.network(generator, dtype)
    return model


def working_bytes(image: Tensor, generator: Generator, options: Options) -> int:
    """About what one restoring takes if it may take what it likes: a few full-size feature maps."""
    shared = options.statistics == "shared"
    images = len(sampled(len(image), image.shape[1] * image.shape[2])) if shared else 1
    number = 2 if options.precision in ("bf16", "fp16") else 4
    return images * image.shape[1] * image.shape[2] * generator.width * number * FEATURE_MAPS


@contextmanager
def on_device(generator: Generator, working_bytes: int) -> Iterator[torch.device]:
    """`host.on_device`, and what is kept of the generator there leaves with it."""
    with host.on_device(generator, working_bytes) as device:
        try:
            yield device
        finally:
            if device != torch.device("cpu"):
                forget_layers(generator)


def host_precision(wanted: Precision) -> Precision:
    """Returns the host's choice where the user has none.

    fp16 is what it says of nearly every GPU, whatever the network: there, and of processors, which
    it knows nothing of, the checkpoint decides (`choose_dtype`).
    """
    dtype = host.network_dtype(host.compute_device())
    if wanted != "auto" or dtype is None or dtype == torch.float16:
        return wanted
    return PRECISIONS[dtype]
