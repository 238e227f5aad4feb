"""Restores images: a pure function from tensors to tensors.

In three lines:

    from devudp_model import Options, bundled, load_checkpoint, restore
    G = load_checkpoint(bundled("devudp")).generator
    sharp = restore(image, G, Options(strength=0.8))     # image: B,C,H,W in [0, 1]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .apply_task import Match, apply_task, is_bounded, match, reach
from .coarse_to_fine import coarse_to_fine, scales_for, where_blurred
from .engine.network import Network
from .engine.precision import PRECISIONS, Precision, choose_dtype, retry_in_fp32
from .engine.statistics import channel_moments, join
from .engine.watch import current
from .engine.whole import fits_whole
from .filters import noise_variance
from .generator import Generator
from .scene import tone_for
from .tasks import MOST_DENOISE, TASK_SPECS, TASKS, Task

Statistics = Literal["each image", "shared"]
STATISTICS: tuple[Statistics, ...] = get_args(Statistics)

FLAT = 0.2 / 255
"""A channel whose standard deviation is below this has no contrast: less than what rounding to
8 bits adds (0.29 / 255)."""

STRIP_PIXELS, GPU_STRIP_PIXELS = 2**18, 2**24
"""Approximate size of the strips in which a task is applied."""


@dataclass(frozen=True)
class Options:
    """How to restore.

    Attributes:
        task: one of `TASKS`: `joint`, `deblur` or `low light`; see tasks.py.
        strength: 0 for the input as it was, 1 for the full effect.
        exposure: 0 for the input's exposure, 1 for the scene's (scene.py); None for the task's own.
        denoise: 1 is what the task does; 0 keeps all of the input's own detail and noise, 2 takes
            all from the model, which has least noise. Only for tasks that keep some of it
            (`joint`, `low light`).
        coarse: whether `deblur` starts with smaller versions of the image (see coarse_to_fine.py),
            where the generator allows it.
        precision: of the network's arithmetic; `auto`: see `choose_dtype`. Where 16 bits overflow,
            fp32 takes over.
        statistics: of `each image` on its own, or `shared` by all images of a batch, so that the
            frames of a video do not flicker.
        memory: limit in bytes for what is used beside input and output; None for no limit.

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

    def __post_init__(self) -> None:
        for name, value, known in (
            ("task", self.task, TASKS),
            ("precision", self.precision, PRECISIONS),
            ("statistics", self.statistics, STATISTICS),
        ):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(known)}")
        for name, most in (("strength", 1), ("exposure", 1), ("denoise", MOST_DENOISE)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                raise ValueError(f"{name} must be between 0 and {most:g}, not {value}")
        if self.memory is not None and self.memory <= 0:
            raise ValueError(f"memory must be a number of bytes above 0, not {self.memory}")

    @property
    def shared(self) -> bool:
        """Whether all images of a batch share one set of statistics."""
        return self.statistics == "shared"


@torch.inference_mode()
def restore(
    image: Tensor,
    generator: Generator,
    options: Options | None = None,
    *,
    mask: Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Restores every image of a batch.

    An image without any contrast (see `is_flat`), a black frame for instance, comes back as it is:
    there is nothing in it to restore or to take an exposure from.

    Args:
        image: B,C,H,W in [0, 1], floating point, C = 1 (grey), 3 (RGB) or 4 (RGB and alpha, which
            comes back untouched); any size from 1x1.
        generator: runs on the device it is on.
        options: the defaults of `Options` if None.
        mask: H,W or B,H,W or B,1,H,W (B may be 1) in [0, 1]: where and how strongly to restore. Of
            another size than the image: it is resized.
        progress: called with (images done, images in all) after each image; what it raises, for
            instance to interrupt, goes through.

    Returns:
        Shape, type and device of `image`.

    Raises:
        ValueError: `image` or `mask` have another shape or type, or `image` is not finite.
        FloatingPointError: the generator's output is not finite in float32 either.
    """
    options = options or Options()
    check_image(image)
    mask = None if mask is None else fit_mask(mask, image)
    network = make_network(generator, options.precision)
    result = image.clone()
    total = len(image)
    parts = [slice(0, total)] if options.shared else [slice(i, i + 1) for i in range(total)]
    for part in parts if total else []:
        masks = None if mask is None else mask[part if len(mask) > 1 else slice(0, 1)]
        if not is_flat(image[part]):
            run = partial(restore_together, network, image[part], masks, options, result[part])
            retry_in_fp32(run, network.dtype, network.switch_to_fp32)
        for index in range(part.start, part.stop):
            if progress is not None:
                progress(index + 1, total)
    return result


def restore_together(
    network: Network, image: Tensor, mask: Tensor | None, options: Options, result: Tensor
) -> None:
    """Restores images that share their statistics, into `result`, which has their shape."""
    # The model's image can use the result's memory, to be replaced strip by strip.
    in_place = result.dtype == torch.float32 and result.device == network.device
    in_place = in_place and result.shape[1] >= 3
    memory = options.memory
    if not in_place:
        memory = limit_less_a_copy(memory, image)
    memory = limit_less_coarse_input(memory, network, image, options)
    taken = image
    if network.device.type != "cpu" and fits_whole(network, image, memory):
        image = to_colour(image, network.device)  # once, and not every strip of it again and again
    run = partial(network, memory=memory, check=False)
    given = from_coarser_scales(run, network, image, options)
    output = run(given, out=result[:, :3] if in_place else None)
    matched = match_images(image, output, options, network, scene_of=taken)
    around, finished = reach(options.task), current().finished
    above = output[:1, :, :0]  # the rows above a strip, which may have been replaced already
    for frame, start, stop in strips_of(image):
        top, bottom = max(start - around, 0), min(stop + around, image.shape[2])
        rows = output[frame : frame + 1, :, start:bottom]
        rows = torch.cat([above[:, :, above.shape[2] - (start - top) :], rows], 2)
        above = rows[:, :, : stop - top][:, :, -around:].clone() if around else above
        share = None if mask is None else mask[min(frame, len(mask) - 1), :, top:bottom]
        restored = apply_task(
            to_colour(image[frame : frame + 1, :, top:bottom], output.device),
            rows,
            options.task,
            matched,
            strength=options.strength,
            mask=None if share is None else share[None].to(output.device),
        )
        place = result[frame : frame + 1, :3, start:stop]
        place.copy_(from_colour(restored[:, :, start - top : stop - top], place.shape[1]))
        if finished is not None:
            finished(place, start, image.shape[2])
    network.check()


def make_network(generator: Generator, precision: Precision) -> Network:
    """The generator as a network, on its device."""
    return Network(generator, choose_dtype(precision, next(generator.parameters()).device))


def limit_less_a_copy(memory: int | None, image: Tensor) -> int | None:
    """The memory limit less a float32 copy (3 channels) of B,C,H,W; at least 1 byte."""
    return None if memory is None else max(memory - 12 * image[:, 0].numel(), 1)


def coarse_scales(standardized: bool, height: int, width: int, options: Options) -> tuple[int, ...]:
    """The factors of the smaller versions of an image that are restored first; none for networks
    with statistics of the whole image (`standardized`)."""
    wanted = TASK_SPECS[options.task].coarse_to_fine and options.coarse and not standardized
    return scales_for(height, width) if wanted else ()


def begins_coarse(network: Network, image: Tensor, options: Options) -> bool:
    """Whether smaller versions of images B,C,H,W are restored first."""
    height, width = image.shape[2:]
    return bool(coarse_scales(network.standardized, height, width, options))


def limit_less_coarse_input(
    memory: int | None, network: Network, image: Tensor, options: Options
) -> int | None:
    """The memory limit less the network's input where coarser scales make one of B,C,H,W."""
    return limit_less_a_copy(memory, image) if begins_coarse(network, image, options) else memory


def from_coarser_scales(
    run: Callable[[Tensor], Tensor], network: Network, image: Tensor, options: Options
) -> Tensor:
    """The network's input for whole images B,C,H,W: these, or B,3,H,W from coarser scales.

    `run` runs the network.
    """
    if not begins_coarse(network, image, options):
        return image
    return coarse_to_fine(where_blurred(run), to_colour(image, network.device).clone())


def match_images(
    image: Tensor,
    output: Tensor,
    options: Options,
    network: Network,
    scene_of: Tensor | None = None,
) -> Match:
    """What a task takes from whole images, B,C,H,W in [0, 1] and B,3,H,W.

    Args:
        network: the one that made `output`.
        scene_of: `image` as it came, where that is on the device already.
    """
    spec, shortcut = TASK_SPECS[options.task], network.shortcut
    detail, bounded = spec.detail_at(options.denoise, shortcut), is_bounded(options.task, shortcut)
    exposure = spec.exposure_for(shortcut) if options.exposure is None else options.exposure
    tone = 1.0
    if network.scene is not None and not shortcut and exposure > 0:
        target = network.scene.target_mean(image if scene_of is None else scene_of)
        tone = tone_for(output, target, network.fetch)
    if exposure == 1 and not detail:  # nothing else is taken
        floor = torch.zeros(1, 3, 1, 1, device=output.device)
        return Match(None, floor, bounded=bounded, tone=tone)
    rows = list(strips_of(image))
    before = (to_colour(image[f : f + 1, :, i:j], output.device) for f, i, j in rows)
    after = (output[f : f + 1, :, i:j] for f, i, j in rows)
    taken, made = (join([channel_moments(strip) for strip in s]) for s in (before, after))
    noise = noise_variance(image[:, :3]).to(output.device) if detail else 0.0
    matched = match(taken, made, exposure, detail, noise=noise, tone=tone)
    return matched._replace(bounded=bounded)


def strips_of(image: Tensor) -> Iterator[tuple[int, int, int]]:
    """Frame, first and last row (exclusive) of strips that take little memory."""
    height, width = image.shape[2:]
    rows = max(1, (STRIP_PIXELS if image.is_cpu else GPU_STRIP_PIXELS) // width)
    for frame in range(len(image)):
        for start in range(0, height, rows):
            yield frame, start, min(start + rows, height)


def is_flat(image: Tensor) -> bool:
    """Whether B,C,H,W (without alpha) is flat: each channel one value, but for very few pixels.

    Each channel is looked at on its own: a coloured area is as flat as a grey one.
    """
    strips = (image[frame : frame + 1, :3, i:j].float() for frame, i, j in strips_of(image))
    return bool((join([channel_moments(strip) for strip in strips]).var < FLAT**2).all())


def check_image(image: Tensor) -> None:
    """Raises ValueError unless `restore` can take it."""
    if image.ndim != 4 or image.shape[1] not in (1, 3, 4) or 0 in image.shape[2:]:
        raise ValueError(
            f"image has shape {tuple(image.shape)}: give B,C,H,W with C = 1, 3 or 4 and at least "
            "one pixel"
        )
    if not image.is_floating_point():
        raise ValueError(f"image is {image.dtype}: give floating point numbers in [0, 1]")
    if image.numel() and not torch.stack(torch.aminmax(image)).isfinite().all():
        raise ValueError(
            "image has pixels that are not finite (NaN or infinite), which would spread over all "
            "of it: repair the step before, or use image.nan_to_num()"
        )


def fit_mask(mask: Tensor, image: Tensor) -> Tensor:
    """H,W or B,H,W or B,1,H,W to float32 B,1,H,W in [0, 1] of the image's size."""
    shape = tuple(mask.shape)
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim == 3:
        mask = mask[:, None]
    if mask.ndim != 4 or mask.shape[1] != 1 or len(mask) not in (1, len(image)):
        raise ValueError(
            f"mask has shape {shape}: give H,W or B,H,W or B,1,H,W with B = 1 or {len(image)}"
        )
    mask = mask.float()
    if mask.numel() and not torch.stack(torch.aminmax(mask)).isfinite().all():
        raise ValueError(
            "mask has values that are not finite (NaN or infinite): repair the step before, or use "
            "mask.nan_to_num()"
        )
    mask = mask.clamp(0, 1)
    if mask.shape[2:] != image.shape[2:]:
        mask = F.interpolate(mask, image.shape[2:], mode="bilinear", antialias=True)
    return mask


def to_colour(image: Tensor, device: torch.device) -> Tensor:
    """B,C,H,W to B,3,H,W, float32, in [0, 1]: grey thrice, alpha left out."""
    colour = image[:, :3].to(device=device, dtype=torch.float32).clamp(0, 1)
    return colour.expand(-1, 3, -1, -1)


def from_colour(restored: Tensor, channels: int) -> Tensor:
    """B,3,H,W to B,`channels`,H,W, which is 1 (the mean) or 3."""
    return restored.mean(1, keepdim=True) if channels == 1 else restored
