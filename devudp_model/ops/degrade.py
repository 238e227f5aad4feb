"""Makes a blurry, dark or noisy image from a good one.

For training (blur from sharp photographs) and for trying out a workflow. Everything here is a pure
function of its arguments: the randomness comes from the `torch.Generator` that is passed in, which
lives on the CPU, so the same seed gives the same image on every device.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def to_linear(x: Tensor) -> Tensor:
    """sRGB values in [0, 1] to linear light (IEC 61966-2-1)."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def to_srgb(x: Tensor) -> Tensor:
    """Linear light in [0, 1] to sRGB values (IEC 61966-2-1)."""
    # The root's slope at 0 is infinite, and would spoil the gradient where it is not even chosen.
    root = x.clamp(min=0.0031308) ** (1 / 2.4)
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * root - 0.055)


DARKEST = 1e-3
"""Least value of synthetic blur with a tone curve of its own: a quarter of an 8-bit step."""


def uniform(rng: torch.Generator, low: float, high: float) -> float:
    """One number in [low, high)."""
    return low + (high - low) * torch.rand((), generator=rng).item()


def shake_path(rng: torch.Generator, poses: int) -> Tensor:
    """Returns a hand's path while the shutter is open: `poses`,3 of (x, y, roll), mean 0.

    The velocity is a damped random walk, now and then with a jerk. The larger extent
    of x and y is 1; roll spans at most 1.
    """
    inertia = uniform(rng, 0.7, 0.97)
    kicks = torch.randn(poses, 3, generator=rng)
    jerks = (torch.rand(poses, 1, generator=rng) < 0.03).float() * 6
    kicks = kicks * (1 + jerks)
    velocity, path = torch.randn(3, generator=rng) * 2, [torch.zeros(3)]
    for kick in kicks[1:]:
        velocity = inertia * velocity + kick * (1 - inertia)
        path.append(path[-1] + velocity)
    return normalized_path(torch.stack(path))


def sweep_path(rng: torch.Generator, poses: int) -> Tensor:
    """The path of a camera that is carried or turned: a smooth sweep, `poses`,3 as `shake_path`.

    Nearly even in speed, straight or bent, now and then turning back. So are the streaks in videos
    (GoPro, REDS), where a hand's path leaves a bright spot with faint tails.
    """
    velocity = torch.randn(3, generator=rng)
    bend = torch.randn(3, generator=rng) * 1.25 * uniform(rng, 0, 1) ** 2
    time = torch.linspace(-1, 1, poses)[:, None]
    return normalized_path(velocity * time + bend * time.square())


def normalized_path(steps: Tensor) -> Tensor:
    """`poses`,3 of (x, y, roll) to mean 0; x and y span 1 together, roll at most 1."""
    span = steps.amax(0) - steps.amin(0)
    scale = torch.stack([span[:2].max(), span[:2].max(), span[2]]).clamp(min=1e-6)
    steps = steps / scale
    return steps - steps.mean(0)


class Shake(NamedTuple):
    """A camera's movement while the shutter is open; see `camera_shake`.

    Attributes:
        path: poses,3 of (x, y, roll).
        pivot: what it rolls around, in shares of the image's width and height from its middle.
        extent, roll, highlights: as for `camera_shake`.
        curve: exponent of the camera's tone curve, light = value ** `curve`; None: sRGB's.
    """

    path: Tensor
    pivot: tuple[float, float]
    extent: float
    roll: float
    highlights: float
    curve: float | None = None


def draw_shake(
    rng: torch.Generator,
    *,
    extent: float,
    roll: float | None = None,
    highlights: float = 0.0,
    poses: int | None = None,
    sweep: bool = False,
    curve: float | None = None,
) -> Shake:
    """Returns a random movement: the random half of `camera_shake`, with its arguments.

    With `sweep`, a camera's that is carried (`sweep_path`), and not a hand's; `curve`: see `Shake`.
    """
    roll = extent / 2 if roll is None else roll
    # A sweep's speed varies; its fastest parts have to be without gaps as well.
    length = (extent + roll) * (1.5 if sweep else 1.0)
    poses = poses or int(min(max(length, 8), 64))
    path = sweep_path(rng, poses) if sweep else shake_path(rng, poses)
    pivot = (uniform(rng, -0.5, 0.5), uniform(rng, -0.5, 0.5))
    return Shake(path, pivot, extent, roll, highlights, curve)


def apply_shake(image: Tensor, shake: Shake) -> Tensor:
    """Takes a photograph with a moving camera of B,3,H,W in [0, 1], on the image's device."""
    height, width = image.shape[-2:]
    pivot = shake.pivot
    light = to_linear(image) if shake.curve is None else image.clamp(0, 1) ** shake.curve
    if shake.highlights > 0:
        bright = light.amin(1, keepdim=True).sub(0.8).clamp(min=0) / 0.2
        light = light * (1 + shake.highlights * bright)
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=image.device) - (height - 1) / 2,
        torch.arange(width, dtype=torch.float32, device=image.device) - (width - 1) / 2,
        indexing="ij",
    )
    x, y = x - pivot[0] * width, y - pivot[1] * height
    angle_per_pixel = 1 / max(math.hypot(height, width) / 2, 1)
    total = torch.zeros_like(light)
    for dx, dy, turn in shake.path.tolist():
        angle = turn * shake.roll * angle_per_pixel
        cos, sin = math.cos(angle), math.sin(angle)
        u = cos * x - sin * y + pivot[0] * width + dx * shake.extent
        v = sin * x + cos * y + pivot[1] * height + dy * shake.extent
        grid = torch.stack([2 * u / max(width, 1), 2 * v / max(height, 1)], -1)
        total += F.grid_sample(
            light,
            grid.expand(len(light), -1, -1, -1).to(light.dtype),
            mode="bilinear",
            padding_mode="reflection",
            align_corners=False,
        )
    light = (total / len(shake.path)).clamp(0, 1)
    if shake.curve is None:
        return to_srgb(light)
    # The root's slope at 0 is infinite: see `to_srgb`.
    return light.clamp(min=DARKEST**shake.curve) ** (1 / shake.curve)


def camera_shake(
    image: Tensor,
    rng: torch.Generator,
    *,
    extent: float,
    roll: float | None = None,
    highlights: float = 0.0,
    poses: int | None = None,
) -> Tensor:
    """Blurs by a moving camera: the average, in linear light, of what it saw on its path.

    The blur varies over the image, since the camera also rolls around a point that need not be
    the image's middle.

    Args:
        image: B,3,H,W in [0, 1]; all images of the batch share the path.
        rng: where the path comes from.
        extent: length of the streaks by translation, in pixels.
        roll: length of the streaks that the roll adds in the corners, in pixels (half of `extent`
            by default).
        highlights: how much brighter than white clipped highlights really were; they then
            leave bright streaks (0: none).
        poses: how many images are averaged; enough for steps of about a pixel by default.

    Returns:
        B,3,H,W in [0, 1].
    """
    shake = draw_shake(rng, extent=extent, roll=roll, highlights=highlights, poses=poses)
    return apply_shake(image, shake)


def darken(image: Tensor, light: float) -> Tensor:
    """The image as taken with the share `light` (0..1] of the light: a gain in linear light."""
    return to_srgb((to_linear(image) * light).clamp(0, 1))


def sensor_noise(
    image: Tensor,
    rng: torch.Generator,
    *,
    sigma: float,
    grain: float = 0.0,
    levels: int | None = None,
) -> Tensor:
    """Adds noise, and the steps of a coarse converter.

    Args:
        image: B,3,H,W; on any scale (it is not clipped).
        rng: where the noise comes from.
        sigma: standard deviation of the noise, on the image's scale.
        grain: 0 for noise that is independent from pixel to pixel; up to 1 for coarse grain, as
            after a camera's own filtering and JPEG.
        levels: round to this many steps over one unit of the image's scale.
    """
    noise = torch.randn(image.shape, generator=rng)
    return apply_noise(image, noise, sigma=sigma, grain=grain, levels=levels)


def apply_noise(
    image: Tensor, noise: Tensor, *, sigma: float, grain: float = 0.0, levels: int | None = None
) -> Tensor:
    """`sensor_noise` with given normal random numbers `noise`, of the image's shape."""
    noise = noise.to(image.device)
    if grain > 0:
        soft = F.avg_pool2d(F.pad(noise, (1, 1, 1, 1), mode="replicate"), 3, 1) * 3
        noise = ((1 - grain) * noise + grain * soft) / math.hypot(1 - grain, grain)
    noisy = image + sigma * noise
    return (noisy * levels).round() / levels if levels else noisy


HIGHLIGHTS = 2.0
"""Factor by which clipped highlights are taken to be brighter than white in `degrade`."""

GRAIN = 0.5
"""Half of `degrade`'s noise is fine, half is coarse, as a camera's own filtering leaves it."""


def degrade(
    image: Tensor,
    rng: torch.Generator,
    *,
    blur: float = 0.0,
    light: float = 1.0,
    noise: float = 0.0,
) -> Tensor:
    """A hand-held photograph at night out of a good one: camera shake, then less light, then noise.

    Args:
        image: B,C,H,W in [0, 1]; all images of the batch share the camera's path.
        rng: where path and noise come from.
        blur: length of the streaks in pixels; 0: none.
        light: share (0..1] of the light that is left, in linear light; 1: all.
        noise: standard deviation of the noise, on a scale of 0 (black) to 1 (white); 0: none.

    Returns:
        B,C,H,W in [0, 1].

    Raises:
        ValueError: a strength outside its range.
    """
    if blur < 0 or noise < 0 or not 0 < light <= 1:
        raise ValueError(
            f"blur {blur} and noise {noise} must be at least 0, light {light} above 0, at most 1"
        )
    if blur:
        image = camera_shake(image, rng, extent=blur, highlights=HIGHLIGHTS)
    if light < 1:
        image = darken(image, light)
    if noise:
        image = sensor_noise(image, rng, sigma=noise, grain=GRAIN)
    return image.clamp(0, 1)
