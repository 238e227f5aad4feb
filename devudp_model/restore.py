"""Restores pictures: a pure function from tensors to tensors.

from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.restore import Options, restore
G = load_checkpoint(bundled("devudp")).generator
sharp = restore(image, G, Options(task="joint", strength=0.8))      # B,C,H,W in [0, 1]
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .generator import STRIDE, Generator
from .inference import Network
from .tasks import DEFAULT_EXPOSURE, TASKS, Match, Task, apply_task, match, reach

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Statistics = Literal["each image", "shared"]
STATISTICS: tuple[Statistics, ...] = get_args(Statistics)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

log = logging.getLogger("devudp")


@dataclass(frozen=True)
class Options:
    """How to restore.

    Attributes:
        task: `joint`, `deblur` or `low light`, see tasks.py.
        strength: 0 for the input as it was, 1 for the full effect.
        exposure: 0 for the input's exposure, 1 for the model's; None for the task's own.
        precision: of the network's arithmetic; `auto` takes the fastest that is shown to agree
            with fp32 on this device.
        statistics: `each image` on its own, or `shared` by all images of a batch: frames of one
            film then do not flicker.
        memory: bytes that the restoring may use above input and output; None for no bound.

    Raises:
        ValueError: a value out of its range.
    """

    task: Task = "joint"
    strength: float = 1.0
    exposure: float | None = None
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
        for name, value in (("strength", self.strength), ("exposure", self.exposure)):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {value}")
        if self.memory is not None and self.memory <= 0:
            raise ValueError(f"memory must be a number of bytes above 0, not {self.memory}")

    @property
    def shared(self) -> bool:
        """Whether all images of a batch share one set of statistics."""
        return self.statistics == "shared"

    @property
    def exposure_or_default(self) -> float:
        """`exposure`, or the task's own."""
        return DEFAULT_EXPOSURE[self.task] if self.exposure is None else self.exposure


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type that a precision means on a device."""
    if precision != "auto":
        return DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float32


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
    """
    options = options or Options()
    check_image(image)
    if len(image) == 0:
        return image.clone()
    mask = None if mask is None else fit_mask(mask, image)
    device = next(generator.parameters()).device
    network = Network(generator, choose_dtype(options.precision, device), shared=options.shared)
    total, done, result = len(image), 0, torch.empty_like(image)
    for part in [slice(0, total)] if options.shared else [slice(i, i + 1) for i in range(total)]:
        colour = to_colour(image[part], device)
        output = run(network, generator, colour)
        matched = match(colour, output, options.exposure_or_default, shared=options.shared)
        part_mask = None if mask is None else mask[part if len(mask) > 1 else slice(0, 1)]
        restored = apply_task(
            colour,
            output,
            options.task,
            matched,
            strength=options.strength,
            mask=None if part_mask is None else part_mask.to(device),
        )
        result[part] = from_colour(restored, image[part])
        for _ in range(len(colour)):
            done += 1
            if progress is not None:
                progress(done, total)
    return result


def run(network: Network, generator: Generator, colour: Tensor) -> Tensor:
    """The model's picture of `colour`, both B,3,H,W in [0, 1], float32."""
    output = network(colour * 2 - 1)
    if network.dtype != torch.float32 and not output.isfinite().all():
        name = next(key for key, dtype in DTYPES.items() if dtype == network.dtype)
        log.warning(
            "The result in %s is not finite (numbers beyond its range), so this picture is done "
            "again in fp32. Choose precision fp32 or bf16 to save the first attempt.",
            name,
        )
        output = Network(generator, torch.float32, shared=network.shared)(colour * 2 - 1)
    return output.add_(1).mul_(0.5)


class FrozenRestorer(nn.Module):
    """Restores pieces of one picture as they come out of the whole: see `freeze`.

    Attributes:
        overlap: pixels around a piece that its result depends on, a multiple of `STRIDE`.
    """

    def __init__(self, network: Network, task: Task, strength: float, matched: Match):
        super().__init__()
        self.network, self.strength, self.matched = network, strength, matched
        self.task: Task = task
        radius = receptive_radius(network.net.depth) + reach(task)
        self.overlap = -(-radius // STRIDE) * STRIDE

    @torch.inference_mode()
    def forward(self, image: Tensor) -> Tensor:
        """B,3,h,w in [0, 1] to the same."""
        colour = to_colour(image, self.matched.floor.device)
        output = self.network(colour * 2 - 1).add_(1).mul_(0.5)
        restored = apply_task(colour, output, self.task, self.matched, strength=self.strength)
        return from_colour(restored, image)


@torch.inference_mode()
def freeze(generator: Generator, image: Tensor, options: Options | None = None) -> FrozenRestorer:
    """A local network for pieces of `image`: every statistic is that of the whole picture.

    Pieces whose corners lie on multiples of `STRIDE` pixels, cut with `.overlap` pixels around
    them, come out as they do in `restore` of the whole image.

    Args:
        generator: runs on the device it is on.
        image: 1,3,H,W in [0, 1], the picture whose statistics are kept.
        options: task, strength, exposure and precision.
    """
    options = options or Options()
    check_image(image)
    device = next(generator.parameters()).device
    network = Network(generator, choose_dtype(options.precision, device), shared=True)
    colour = to_colour(image, device)
    output = network.freeze_(colour * 2 - 1).add_(1).mul_(0.5)
    if not output.isfinite().all():
        network = Network(generator, torch.float32, shared=True)
        output = network.freeze_(colour * 2 - 1).add_(1).mul_(0.5)
    matched = match(colour, output, options.exposure_or_default, shared=True)
    return FrozenRestorer(network, options.task, options.strength, matched)


def receptive_radius(depth: int) -> int:
    """How many pixels around a pixel the network looks at, its statistics apart.

    Each 3x3 convolution reaches one pixel of its scale further, stem and head three; and the pixel
    may lie anywhere in its cell of `STRIDE` pixels at the coarsest scale. 71 with depth 2.
    """
    fine = 3 + 2 * depth + 1 + 1 + 2 * depth + 3  # stem, blocks, down1, up1, blocks, head
    middle = 2 * depth + 1 + 1 + 2 * depth  # blocks, down2, up2, blocks
    coarse = 4 * depth
    return fine + 2 * middle + 4 * coarse + STRIDE - 1


def check_image(image: Tensor) -> None:
    """Raises ValueError unless `restore` can take it."""
    if image.ndim != 4 or image.shape[1] not in (1, 3, 4) or 0 in image.shape[2:]:
        raise ValueError(
            f"image has shape {tuple(image.shape)}: give B,C,H,W with C = 1, 3 or 4 and at least "
            "one pixel"
        )
    if not image.is_floating_point():
        raise ValueError(f"image is {image.dtype}: give floating point numbers in [0, 1]")
    if not image.isfinite().all():
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
    mask = mask.float().clamp(0, 1)
    if mask.shape[2:] != image.shape[2:]:
        mask = F.interpolate(mask, image.shape[2:], mode="bilinear", antialias=True)
    return mask


def to_colour(image: Tensor, device: torch.device) -> Tensor:
    """B,C,H,W to B,3,H,W, float32, in [0, 1]: grey thrice, alpha left out."""
    colour = image[:, :3].to(device=device, dtype=torch.float32).clamp(0, 1)
    return colour.expand(-1, 3, -1, -1)


def from_colour(restored: Tensor, image: Tensor) -> Tensor:
    """B,3,H,W back to the channels, type and device of `image`, with its alpha."""
    if image.shape[1] == 1:
        restored = restored.mean(1, keepdim=True)
    restored = restored.to(device=image.device, dtype=image.dtype)
    return torch.cat([restored, image[:, 3:]], 1) if image.shape[1] == 4 else restored
