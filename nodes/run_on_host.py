"""Restores on ComfyUI's device, within its memory, image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..devudp_model.engine.hooks import hooked
from ..devudp_model.engine.layers import forget_layers
from ..devudp_model.engine.output_cache import OutputCache
from ..devudp_model.network.generator import Generator
from ..devudp_model.restoring.frozen import VideoRestorer, sampled
from ..devudp_model.restoring.progress import pixels_to_do
from ..devudp_model.restoring.restoration import Options, Precision, make_network, restore
from ..devudp_model.system.memory import first_limit, with_less_memory
from . import host
from .host import intermediate_device, intermediate_dtype
from .images import channels_first, channels_last, check_image, empty_like
from .previews import VisibleProgress, first_look, shrink

CHUNK = 8
"""Images restored in one go: so few that their copies weigh little."""

FEATURE_MAPS = 3
"""Full-size feature maps that are alive at once, about."""

PRECISIONS: dict[torch.dtype, Precision] = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
}


def restore_images(
    image: Tensor,
    generator: Generator,
    options: Options,
    mask: Tensor | None,
    *,
    report: host.Report | None = None,
    first: int = 0,
    cache: OutputCache | None = None,
) -> Tensor:
    """IMAGE B,H,W,C to the restored B,H,W,C, where and as the host wants images.

    Beside the input and the output, memory holds the work of one image and copies of `CHUNK`.

    Args:
        image: as nodes get it.
        generator: lies on the CPU, and does so again afterwards.
        options: what to do; a precision of "auto" becomes the host's choice.
        mask: None, or 1 or B,1,H,W.
        report: the node's progress bar; one of its own if None.
        first: images that the bar has seen before these.
        cache: outputs of the network, from the last run and for the next one.

    Raises:
        MemoryError: memory ran out with the smallest limit, too.
        ValueError: it is no image, has no pixels, or pixels that are not finite.
    """
    check_image(image)
    if not len(image):
        return empty_like(image)
    pixels = pixels_to_do(image.shape[1], image.shape[2], generator, options)
    options = replace(options, precision=host_precision(options.precision))
    with on_device(generator, working_bytes(image, generator, options)) as device:
        limit = first_limit(host.free_bytes(device))
        again = bool(mask is not None or (cache and cache.nbytes))
        canvas = None if device.type != "cpu" else preview(image, generator, options, again)
        progress = VisibleProgress(report or host.progress(len(image)), first, canvas)
        start_video = partial(make_video, image, generator, options)
        video = None
        if options.statistics == "shared":
            video, limit = with_less_memory(start_video, device, limit, host.MEMORY)

        def restore_part(part: slice, memory: int | None) -> Tensor:
            frames = channels_first(image[part])
            masks = mask if mask is None or len(mask) == 1 else mask[part]

            def done(count: int, _: int = 0) -> None:
                progress.done(first + part.start + count)

            progress.begin(pixels)
            with host.cancellable(), hooked(progress.advance, progress.finished):
                if video:
                    video.set_memory(memory)
                    restored = restore_frames(video, frames, masks, progress, done)
                else:
                    bounded = replace(options, memory=memory)
                    restored = restore(frames, model, bounded, mask=masks, progress=done)
            return channels_last(restored).to(intermediate_device(), intermediate_dtype())

        model = generator
        if cache is not None:
            model = cache.network(generator, make_network(generator, options.precision).dtype)
        result = empty_like(image)
        for start in range(0, len(image), CHUNK):
            part = slice(start, start + CHUNK)
            # What these images needed, the next ones will: hence the limit is carried on.
            run = partial(restore_part, part)
            result[part], limit = with_less_memory(run, device, limit, host.MEMORY)
    return result


def preview(image: Tensor, generator: Generator, options: Options, plain: bool) -> Tensor:
    """What the node shows first of IMAGE B,H,W,C: how it is going to look, or the `plain` image."""
    first = channels_first(image[:1])
    if plain:
        return shrink(first, host.PREVIEW_PIXELS)
    with host.cancellable():
        return first_look(first, generator, options)


def make_video(
    image: Tensor, generator: Generator, options: Options, memory: int | None
) -> VideoRestorer:
    """What restores the frames of IMAGE B,H,W,C with the statistics of a few of them."""
    sample = channels_first(image[sampled(len(image), image.shape[1] * image.shape[2])])
    with host.cancellable():
        return VideoRestorer(generator, sample, replace(options, memory=memory))


def restore_frames(
    video: VideoRestorer,
    frames: Tensor,
    masks: Tensor | None,
    progress: VisibleProgress,
    done: Callable[[int], None],
) -> Tensor:
    """B,C,H,W to the same; `masks` is None, or 1 or B,1,H,W; `done` gets the number of frames."""
    restored = torch.empty_like(frames)
    for i, frame in enumerate(frames.split(1)):
        mask = masks if masks is None or len(masks) == 1 else masks[i : i + 1]
        restored[i : i + 1] = video(frame, mask)
        progress.finished(restored[i : i + 1], 0, restored.shape[2])
        done(i + 1)
    return restored


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
    """The host's choice where the user has none.

    fp16 is what it says of nearly every GPU, whatever the network: there, and of processors, which
    it knows nothing of, the checkpoint decides (`choose_dtype`).
    """
    dtype = host.network_dtype(host.compute_device())
    if wanted != "auto" or dtype is None or dtype == torch.float16:
        return wanted
    return PRECISIONS[dtype]
