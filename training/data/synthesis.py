"""Blurry, noisy inputs from crops, on any device: the arithmetic half of the data.

`dataset.py` takes all random decisions and writes them into `CropPlan`; a loader's worker stacks
the plans of a step (`stack_plans`), and `render_batch` does the arithmetic for all of them at once
on the training's device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from torch import Tensor

from devudp_model.ops.degrade import DARKEST, Shake, to_linear, to_srgb

from ..batch import Batch
from ..config import DataConfig
from .exposure import Exposure, exposure_of
from .jpeg import jpeg
from .looks import PLAIN, Look, Looks, gain_light, in_light, stack_looks, with_border
from .motion import Motion, affine_of, stack_motions

MARGIN = 8
"""Pixels around a crop that synthetic blur may draw from."""

POSES_AT_ONCE = {"cpu": 1, "cuda": 16}
"""Camera poses that are rendered in one call: few calls on a GPU, little memory on a CPU."""


class NoisePlan(NamedTuple):
    """Noise of one input.

    Attributes:
        seed: of its random numbers.
        sigma: standard deviation, in [-1, 1].
        grain: 0 for white noise, up to 1 for coarse grain.
        shot: share of the variance that is proportional to the signal.
        levels: the input is rounded to this many steps per unit; 0: not rounded.
    """

    seed: int
    sigma: float
    grain: float
    shot: float
    levels: int


NO_NOISE = NoisePlan(0, 0.0, 0.0, 0.0, 0)


class CropPlan(NamedTuple):
    """One image of a sample: its pixels, and what is done to them.

    `pixels` is 3,S,S uint8, larger than the crop by `MARGIN` on each side for each blur, and
    again by the factor that it is downsized by.
    """

    pixels: Tensor
    blur: Shake | None
    reblur: Shake | None
    flip: bool
    tone: float = 1.0  # exponent of the input's tone curve; 1: as it is
    noise: NoisePlan = NO_NOISE
    black_level: float = 0.0  # black and white of the input are clipped if this is above 0
    jpeg_quality: int = 0  # 0: no JPEG
    look: Look = PLAIN


class Crops(NamedTuple):
    """The plans of N crops, stacked.

    `pixels` N,3,S,S uint8; `moved` N bool: which ones are blurred a first time;
    `noise` N,4 (sigma, grain, shot, levels); the rest N.
    """

    pixels: Tensor
    motion: Motion | None
    second_motion: Motion | None
    moved: Tensor
    flip: Tensor
    tone: Tensor
    noise: Tensor
    seeds: list[int]
    black_level: Tensor
    jpeg_quality: Tensor
    has_jpeg: bool
    looks: Looks | None


def cut_sides(config: DataConfig) -> tuple[int, int]:
    """Sides of what is cut for A and for B, pixels: the crop and its margins, before downsizing."""
    if config.reblur_length is None:
        return config.crop + 2 * MARGIN, config.crop
    A = math.ceil((config.crop + 2 * MARGIN) / config.reblur_scale)
    return A + 2 * MARGIN, math.ceil(config.crop / config.reblur_scale)


def stack_plans(plans: Sequence[CropPlan]) -> Crops:
    """Returns the plans of a step, for one domain."""
    return Crops(
        torch.stack([plan.pixels for plan in plans]),
        stack_motions([plan.blur for plan in plans]),
        stack_motions([plan.reblur for plan in plans]),
        torch.tensor([plan.blur is not None for plan in plans]),
        torch.tensor([plan.flip for plan in plans]),
        torch.tensor([plan.tone for plan in plans]),
        torch.tensor([plan.noise[1:] for plan in plans], dtype=torch.float32),
        [plan.noise.seed for plan in plans],
        torch.tensor([plan.black_level for plan in plans]),
        torch.tensor([plan.jpeg_quality for plan in plans], dtype=torch.float32),
        any(plan.jpeg_quality for plan in plans),
        stack_looks([plan.look for plan in plans]),
    )


def column(x: Tensor) -> Tensor:
    """N to N,1,1,1."""
    return x.view(-1, 1, 1, 1)


def within(x: Tensor, margin: int = MARGIN) -> Tensor:
    """...,H,W without `margin` pixels along each side."""
    return x[..., margin:-margin, margin:-margin]


def apply_motion(image: Tensor, motion: Motion) -> Tensor:
    """Blurs N,3,H,W in [0, 1], each image by its own camera movement.

    The same as `devudp_model.ops.degrade.apply_shake` for each image, in few calls.
    """
    number, _, height, width = image.shape
    curve = column(motion.curve)
    own = curve > 0
    light = torch.where(own, image.clamp(0, 1) ** curve.clamp(min=0.1), to_linear(image))
    bright = light.amin(1, keepdim=True).sub(0.8).clamp(min=0) / 0.2
    light = light * (1 + column(motion.highlights) * bright)
    theta = affine_of(motion, height, width)
    total = torch.zeros_like(light)
    at_once = POSES_AT_ONCE.get(image.device.type, 1)
    for start in range(0, theta.shape[1], at_once):
        chunk = theta[:, start : start + at_once]
        poses = chunk.shape[1]
        grid = F.affine_grid(chunk.flatten(0, 1), [number * poses, 3, height, width], False)
        seen = F.grid_sample(
            light.repeat_interleave(poses, 0) if poses > 1 else light,
            grid,
            padding_mode="reflection",
            align_corners=False,
        )
        weight = motion.weight[:, start : start + at_once].reshape(number, poses, 1, 1, 1)
        total += (seen.view(number, poses, 3, height, width) * weight).sum(1)
    total = total.clamp(0, 1)
    root = 1 / curve.clamp(min=0.1)
    return torch.where(own, total.clamp(min=1e-12).pow(root).clamp(min=DARKEST), to_srgb(total))


def render_batch(A: Crops, B: Crops, config: DataConfig, device: torch.device) -> Batch:
    """Returns the images of both domains as the losses and G see them, on `device`."""
    A, B = send_to_device((A, B), device, non_blocking=True)
    clean_A, target = render_A(A, config)
    clean_B = render_B(B, config)
    if config.exposure == "common":
        exposure = exposure_of(clean_A)
        target = None if target is None else expose(target, exposure, A.looks)
        clean_A = expose(clean_A, exposure, A.looks)
        clean_B = expose(clean_B, exposure_of(clean_B), B.looks)
    A_input, B_input = render_input(clean_A, A), render_input(clean_B, B)
    target = None if target is None else finish(target, A.looks)
    return Batch(finish(clean_A, A.looks), finish(clean_B, B.looks), A_input, B_input, target)


def expose(image: Tensor, exposure: Exposure, looks: Looks | None) -> Tensor:
    """N,3,H,W of `exposure` in the common one, within [-1, 1]; some keep their own."""
    common = exposure.to_common(image).clamp(-1, 1)
    return common if looks is None else torch.where(column(looks.own), image, common)


def finish(image: Tensor, looks: Looks | None) -> Tensor:
    """N,3,H,W in [-1, 1] as the losses see it: in its light, and with its border."""
    if looks is None:
        return image
    return with_border(in_light(image, looks), looks, looks.level * 2 - 1)


def render_A(crops: Crops, config: DataConfig) -> tuple[Tensor, Tensor | None]:
    """A, and A before its second blur if it has one: N,3,crop,crop in [-1, 1] each."""
    image = crops.pixels.float() / 255
    if crops.motion is not None:
        image = torch.where(column(crops.moved), apply_motion(image, crops.motion), image)
    image, target = within(image), None
    if crops.second_motion is not None:
        image = shrink(image, config.crop + 2 * MARGIN)
        target = turn(within(image), crops.flip)
        image = within(apply_motion(image, crops.second_motion))
    return turn(image, crops.flip), target


def render_B(crops: Crops, config: DataConfig) -> Tensor:
    """B: N,3,crop,crop in [-1, 1]."""
    return turn(shrink(crops.pixels.float() / 255, config.crop), crops.flip)


def shrink(image: Tensor, side: int) -> Tensor:
    """N,3,S,S in [0, 1] to N,3,side,side."""
    if image.shape[-1] == side:
        return image
    image = F.interpolate(image, (side, side), mode="bicubic", antialias=True)
    return image.clamp(0, 1)


def turn(image: Tensor, flip: Tensor) -> Tensor:
    """[0, 1] to [-1, 1], some images of N,3,H,W mirrored."""
    return torch.where(column(flip), image.flip(-1), image) * 2 - 1


def render_input(image: Tensor, crops: Crops) -> Tensor:
    """G's input from `image` (N,3,H,W in [-1, 1]): light, tone curve, noise, clipping, JPEG."""
    looks, changed = crops.looks, column(crops.tone) != 1
    if looks is not None:
        image = in_light(image, looks)
        changed = changed | column(looks.own) | column((looks.balance != 1).any(1))
    toned = ((image + 1) / 2).clamp(min=0) ** column(crops.tone)
    if looks is not None:
        toned = gain_light(toned, looks.balance)
    exposure = exposure_of(toned)
    given = torch.where(changed, exposure.to_common(toned), image)
    given = add_noise(given, crops)
    black = exposure.to_common(column(crops.black_level).expand_as(exposure.mean))
    white = exposure.to_common(torch.ones_like(exposure.mean))
    clipped = torch.minimum(torch.maximum(given, black), white)
    given = torch.where(column(crops.black_level) > 0, clipped, given)
    if looks is not None:
        edge = exposure.to_common(column(looks.level * looks.boost))
        # Without a change of exposure, the image is on the losses' own scale.
        edge = torch.where(changed, edge, column(looks.level * looks.boost) * 2 - 1)
        given = with_border(given, looks, edge)
    if crops.has_jpeg:  # known without waiting for the device
        coded = jpeg((given + 1) / 2, crops.jpeg_quality.clamp(min=1)) * 2 - 1
        given = torch.where(column(crops.jpeg_quality) > 0, coded, given)
    return given


def add_noise(image: Tensor, crops: Crops) -> Tensor:
    """Poisson-Gaussian noise (N,3,H,W in [-1, 1]), as fine or coarse as each plan says."""
    sigma, grain, shot, levels = (column(x) for x in crops.noise.unbind(1))
    normal = torch.stack([draw_normal(image[0], seed) for seed in crops.seeds])
    soft = F.avg_pool2d(F.pad(normal, (1, 1, 1, 1), mode="replicate"), 3, 1) * 3
    normal = ((1 - grain) * normal + grain * soft) / torch.hypot(1 - grain, grain)
    signal = (image + 1).clamp(0, 2)  # 1 on average
    noisy = image + sigma * (1 - shot + shot * signal).sqrt() * normal
    steps = levels.clamp(min=1)
    return torch.where(levels > 0, (noisy * steps).round() / steps, noisy)


def draw_normal(like: Tensor, seed: int) -> Tensor:
    """Normal random numbers of one sample, 3,H,W on the device of `like`."""
    rng = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(like.shape, generator=rng, device=like.device)
