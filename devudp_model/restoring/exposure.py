"""How bright the result should be, judged from the scene: a night stays a night.

The generator forgets its input's exposure and brings every image to that of an average photograph.
A street at night becomes fog that way. What a dark image still has of its scene is the shape of its
brightness: how bright its lights are beside the rest, where it is bright, its colours. A ridge
regression on such numbers, none of which depends on the exposure, predicts the mean of a good
photograph of the scene. The training fits it on its sharp photographs and keeps it in the
checkpoint's metadata.

The prediction only ever darkens, and only where there is something as bright as a lamp: an
underexposed image without any says too little of how dark the scene was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.degrade import to_linear
from ..ops.dtypes import to_unit
from .blocks import Blocks

SIDE = 96
"""Images are averaged to this many squares a side, which also takes their noise."""

QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
GRID = 3

USUAL_MEAN = 0.45
"""Mean of an average photograph, and of the generator's result, in [0, 1]."""

NIGHT_BELOW = 0.30
"""Predicted means below this darken the result."""

DARKENING = 1.6
"""The result's mean falls by this much for each 1 that the prediction is below `NIGHT_BELOW`."""

DARKEST_MEAN = 0.16
"""The result's mean is not taken below this."""

LIGHTS, LIGHTS_FULL = 0.6, 0.9
"""Brightness of the brightest 0.2 % from which an image has lights, and surely has."""

SAMPLED_PIXELS = 2**16
"""Quantiles are those of about this many pixels, evenly spaced."""

MIN_TONE, MAX_TONE = 0.6, 4.0
"""Smallest and largest exponent of the tone curve."""

KEPT = 0.4
BLACK = 0.06
BLACK_FLOOR, MOST_BLACK = 0.004, 0.8
MOST_LIFT = 3.0
NO_INFORMATION = 4 / 255
DARKEST_SHARE = 0.01
NIGHT = 0.35, 0.39
RELATIVE = 0.5
DARK_SCENE = 0.38, 0.43
MOST_COLOUR_GAIN = 6.0
COLOUR_QUANTILES = 0.02, 0.995
NOISE_HELD = 1.0
CALM, TRUST, TRUST_UP = 0.03, 0.9, 1.0
DARKEST_UNLIT = 0.24
BRIGHTEST_MEAN = 0.62


def every(height: int, width: int) -> int:
    """Every N-th row and column leave about `SAMPLED_PIXELS` pixels."""
    return max(math.isqrt(height * width // SAMPLED_PIXELS), 1)


def features(image: Tensor, weights: Tensor | None = None) -> Tensor:
    """What describes a scene whatever its exposure: C,H,W in [0, 1], C = 1 or 3, to 1 dimension.

    Of weighted pixels (1,H,W), squares of which less than half is visible do not count.
    """
    small = squares(image[None]).clamp(0, 1)
    light = to_linear(small.expand(-1, 3, -1, -1))[0].cpu()
    grey = light.mean(0)
    seen = torch.ones_like(grey, dtype=torch.bool)
    if weights is not None:
        visible = squares(weights[None])[0, 0].cpu() >= 0.5
        seen = visible if visible.any() else seen
    some, colours = grey[seen], light[:, seen]
    mean = some.mean().clamp(min=1e-5)
    quantiles = torch.quantile(some, torch.tensor(QUANTILES)) / mean
    saturation = (colours.amax(0) - colours.amin(0)).mean() / mean
    grid = F.adaptive_avg_pool2d(torch.where(seen, grey, mean)[None], GRID).flatten() / mean
    return torch.cat([
        (quantiles + 0.02).log(),
        (some.std() / mean + 0.02).log()[None],
        saturation[None],
        colours.mean(1) / mean,
        (grid + 0.05).log(),
    ])  # fmt: skip


def squares(image: Tensor) -> Tensor:
    """The means of `SIDE` x `SIDE` parts of 1,C,H,W, float32."""
    if image.dtype == torch.float32:
        return F.adaptive_avg_pool2d(image, SIDE)
    height = image.shape[2]  # by rows of parts: never all of it in float32
    found = torch.empty(*image.shape[:2], SIDE, SIDE, device=image.device)
    for row in range(SIDE):
        start, stop = row * height // SIDE, -(-(row + 1) * height // SIDE)
        part = to_unit(image[:, :, start:stop])
        found[:, :, row : row + 1] = F.adaptive_avg_pool2d(part, (1, SIDE))
    return found


def has_lights(image: Tensor, weights: Tensor | None = None) -> float:
    """0 to 1: whether something in B,C,H,W is as bright as a lamp, of what is visible."""
    step = every(*image.shape[2:])
    brightest = to_unit(image[..., ::step, ::step]).amax(1).flatten()
    if weights is not None:
        seen = to_unit(weights[..., ::step, ::step]).flatten() > 0
        brightest = brightest[seen] if bool(seen.any()) else brightest
    level = torch.quantile(brightest[: 2**24], 0.998).item()
    return min(max((level - LIGHTS) / (LIGHTS_FULL - LIGHTS), 0.0), 1.0)


@dataclass(frozen=True)
class SceneModel:
    """A linear model of a photograph's mean.

    Attributes:
        center, scale: of each feature; the model sees (feature - center) / scale.
        weights, bias: of the prediction.
    """

    center: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def predict(self, image: Tensor, seen: Tensor | None = None) -> float:
        """The mean in [0, 1] that a good photograph of the scene in C,H,W would have; `seen`: how
        far its pixels are visible, 1,H,W."""
        center, scale, weights = map(torch.tensor, (self.center, self.scale, self.weights))
        return ((features(image, seen) - center) / scale @ weights).item() + self.bias

    def predict_all(self, images: Tensor, seen: Tensor | None = None) -> float:
        """The common mean of B,C,H,W, C = 1 or 3; `seen`: B,1,H,W."""
        alphas = [None] * len(images) if seen is None else seen
        return sum(map(self.predict, images, alphas)) / len(images)

    def to_json(self) -> str:
        """For a checkpoint's metadata."""
        rounded = {
            "center": [round(v, 5) for v in self.center],
            "scale": [round(v, 5) for v in self.scale],
            "weights": [round(v, 6) for v in self.weights],
            "bias": round(self.bias, 5),
        }
        return json.dumps(rounded)

    @classmethod
    def from_json(cls, text: str) -> SceneModel:
        """What `to_json` wrote.

        Raises:
            ValueError: something else.
        """
        try:
            content = json.loads(text)
            center, scale, weights = (
                tuple(map(float, content[k])) for k in ("center", "scale", "weights")
            )
            model = cls(center, scale, weights, float(content["bias"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no scene model: {error}") from error
        count = len(QUANTILES) + 5 + GRID**2
        numbers = (*model.center, *model.scale, *model.weights, model.bias)
        if {len(center), len(scale), len(weights)} != {count} or not all(
            map(math.isfinite, numbers)
        ):
            raise ValueError(f"no scene model: it needs 3 x {count} finite numbers")
        if min(model.scale) <= 0:
            raise ValueError("no scene model: a scale is not above 0")
        return model


class Curve(NamedTuple):
    """The exposure of a result: a monotone curve of each channel, the same for all its pixels.

    Attributes:
        gain: of each channel, 1,3,1,1; 1 but where the input has hardly any of it.
        black: the level of black places in the model's image, after the gain, 1,3,1,1.
        held: what that level becomes, before the exponent, 1,3,1,1.
        exponent: gives the result its mean.
    """

    gain: Tensor
    black: Tensor
    held: Tensor
    exponent: float

    def __call__(self, x: Tensor) -> Tensor:
        """B,3,H,W in [0, 1] (what is beyond is clipped) to the same."""
        x = x.clamp(0, 1) * self.gain
        kept = 1 - KEPT * (1 - self.black)  # from here on, all stays as it is
        toe = x * (self.held / self.black)
        slope = self.held + (x - self.black) * ((kept - self.held) / (kept - self.black))
        x = torch.where(x < self.black, toe, torch.where(x < kept, slope, x))
        return x**self.exponent

    def to(self, fn: Callable[[Tensor], Tensor]) -> Curve:
        """The curve with its tensors moved."""
        return Curve(fn(self.gain), fn(self.black), fn(self.held), self.exponent)


def curve_for(source: Blocks, output: Blocks, predicted: float, lights: float) -> Curve:
    """The curve for an image.

    Args:
        source, output: the blocks of the input and of the model's image.
        predicted: mean of a good photograph of the scene; see `SceneModel`.
        lights: see `has_lights`.
    """
    grey = source.means.mean(1)
    places = grey <= black_limit(grey, predicted)
    gain = channel_gain(source.means)
    black, noise = (x[places].median(0).values for x in output)
    black = black + between(predicted, NIGHT[0], DARK_SCENE[1], NOISE_HELD, 0.0) * noise
    black = (gain * black).clamp(BLACK_FLOOR, MOST_BLACK)
    mean = target_mean(predicted, lights, float(grey.mean()))
    low, high = MIN_TONE if mean > USUAL_MEAN else 1.0, MAX_TONE
    gain, black = gain.view(1, 3, 1, 1), black.view(1, 3, 1, 1)

    def curve(exponent: float) -> Curve:
        held = torch.full_like(black, BLACK) ** (1 / exponent)
        return Curve(gain, black, hold(black, held, predicted), exponent)

    pixels = output.means.T[None, :, :, None]
    for _ in range(20):
        middle = math.sqrt(low * high)
        if curve(middle)(pixels).mean().item() > mean:
            low = middle
        else:
            high = middle
    return curve(low)


def hold(black: Tensor, held: Tensor, predicted: float) -> Tensor:
    """What the level of black places becomes: lower as a rule, in bright scenes up to a little
    higher, where the model has drowned what is there."""
    if predicted < DARK_SCENE[0]:
        return torch.minimum(held, black)
    return torch.minimum(held, MOST_LIFT * black)


def channel_gain(source: Tensor) -> Tensor:
    """Of each channel (3), at most 1: no colour that is hardly there gets full contrast.

    The network standardizes each channel. Light of one colour would turn grey, and its noise green.
    """
    light = to_linear(source)
    low, high = torch.quantile(light, torch.tensor(COLOUR_QUANTILES), dim=0)
    contrast = (high - low) / (high - low).max().clamp(min=1e-6)
    return (contrast * MOST_COLOUR_GAIN).clamp(max=1) ** (1 / 2.2)


def black_limit(grey: Tensor, predicted: float) -> float:
    """Level of the input up to which a place is black.

    In dark scenes all that is so dark that it holds no information; in others the darkest places.
    """
    darkest = torch.quantile(grey, DARKEST_SHARE).item()
    relative = min(NO_INFORMATION, RELATIVE * grey.median().item())
    limit = between(predicted, *NIGHT, NO_INFORMATION, relative)
    return max(between(predicted, *DARK_SCENE, limit, darkest), darkest)


def between(value: float, low: float, high: float, first: float, second: float) -> float:
    """`first` up to `low`, `second` from `high` on, between them on a line."""
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return first + share * (second - first)


def target_mean(predicted: float, lights: float, own: float) -> float:
    """Mean that the result should have, where the input's is `own`."""
    change = predicted - USUAL_MEAN
    change = max(change - CALM, 0.0) * TRUST_UP + min(change + CALM, 0.0) * TRUST
    least = DARKEST_MEAN + (1 - lights) * (DARKEST_UNLIT - DARKEST_MEAN)
    return max(min(max(USUAL_MEAN + change, least), BRIGHTEST_MEAN), min(own, USUAL_MEAN))
