"""Restoring on the host's device, within its memory, image by image."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from ..devudp_model.generator import Generator
from ..devudp_model.restore import Options, Precision, restore
from ..devudp_model.video import VideoRestorer, sampled
from . import host
from .host import intermediate_device, intermediate_dtype
from .images import channels_first, channels_last, empty_like

logger = logging.getLogger("devudp")

Result = TypeVar("Result")

CHUNK = 8
"""Images restored in one go: so few that their copies weigh little."""

FEATURE_MAPS = 3
"""Full-size feature maps that are alive at once, about."""

LEAST_BYTES = 256 * 2**20
"""No smaller bound is tried when memory runs out."""

PRECISIONS: dict[torch.dtype, Precision] = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
}


def restore_images(
    image: Tensor, generator: Generator, options: Options, mask: Tensor | None
) -> Tensor:
    """IMAGE B,H,W,C to the restored B,H,W,C, where and as the host wants images.

    Beside the input and the output, memory holds the work of one image and copies of `CHUNK`.

    Args:
        image: as nodes get it.
        generator: lies on the CPU, and does so again afterwards.
        options: what to do; a precision of "auto" becomes the host's choice.
        mask: None, or 1 or B,1,H,W.

    Raises:
        MemoryError: not even the smallest bound was enough.
    """
    report = host.progress(len(image))
    options = replace(options, precision=host_precision(options.precision))
    with host.on_device(generator, working_bytes(image, generator, options)) as device:
        bound = first_limit(device)

        start_video = partial(make_video, image, generator, options)
        video = None
        if options.statistics == "shared":
            video, bound = with_less_memory(start_video, device, bound)

        def restore_part(part: slice, memory: int) -> Tensor:
            frames = channels_first(image[part])
            masks = mask if mask is None or len(mask) == 1 else mask[part]

            def done(count: int, _: int = 0) -> None:
                report(part.start + count)

            with host.cancellable():
                if video:
                    video.set_memory(memory)
                    restored = restore_frames(video, frames, masks, done)
                else:
                    bounded = replace(options, memory=memory)
                    restored = restore(frames, generator, bounded, mask=masks, progress=done)
            return channels_last(restored).to(intermediate_device(), intermediate_dtype())

        result = empty_like(image)
        for start in range(0, len(image), CHUNK):
            part = slice(start, start + CHUNK)
            # What these images needed, the next ones will: hence the bound is carried on.
            result[part], bound = with_less_memory(partial(restore_part, part), device, bound)
    return result


def make_video(image: Tensor, generator: Generator, options: Options, memory: int) -> VideoRestorer:
    """What restores the frames of IMAGE B,H,W,C with the statistics of a few of them."""
    sample = channels_first(image[sampled(len(image), image.shape[1] * image.shape[2])])
    with host.cancellable():
        return VideoRestorer(generator, sample, replace(options, memory=memory))


def restore_frames(
    video: VideoRestorer, frames: Tensor, masks: Tensor | None, done: Callable[[int], None]
) -> Tensor:
    """B,C,H,W to the same; `masks` is None, or 1 or B,1,H,W; `done` gets the number of frames."""
    restored = torch.empty_like(frames)
    for i, frame in enumerate(frames.split(1)):
        mask = masks if masks is None or len(masks) == 1 else masks[i : i + 1]
        restored[i : i + 1] = video(frame, mask)
        done(i + 1)
    return restored


def working_bytes(image: Tensor, generator: Generator, options: Options) -> int:
    """About what one restoring takes if it may take what it likes: a few full-size feature maps."""
    shared = options.statistics == "shared"
    images = len(sampled(len(image), image.shape[1] * image.shape[2])) if shared else 1
    number = 2 if options.precision in ("bf16", "fp16") else 4
    return images * image.shape[1] * image.shape[2] * generator.width * number * FEATURE_MAPS


def first_limit(device: torch.device) -> int:
    """The bound to begin with: of the memory that is free, all but some to breathe."""
    return max(int(0.8 * host.free_bytes(device)), LEAST_BYTES)


def host_precision(wanted: Precision) -> Precision:
    """The host's choice where the user has none."""
    dtype = host.network_dtype(host.compute_device())
    return wanted if wanted != "auto" or dtype is None else PRECISIONS[dtype]


def with_less_memory(
    run: Callable[[int], Result], device: torch.device, bound: int
) -> tuple[Result, int]:
    """`run(bound)`, and with smaller and smaller bounds (bytes) as long as memory runs out.

    Returns:
        The result, and the bound that it was reached with.

    Raises:
        MemoryError: it ran out with `LEAST_BYTES`, too.
    """
    while True:
        try:
            return run(bound), bound
        except Exception as error:
            if not host.is_out_of_memory(error):
                raise
        # Outside of the except block: inside, the error's traceback still holds the tensors.
        host.empty_cache()
        if bound <= LEAST_BYTES:
            raise MemoryError(
                f"Out of memory on {device}, even with a bound of {bound >> 20} MiB. Close other "
                "programs, choose precision fp16, or make the image smaller first."
            )
        bound = max(min(host.free_bytes(device), bound) // 2, LEAST_BYTES)
        logger.warning(
            "Out of memory on %s: freed what was in reserve, and trying again within %d MiB.",
            device,
            bound >> 20,
        )
