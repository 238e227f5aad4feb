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

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bands.rows import AnyImage, sampled
from ..ops.degrade import to_linear
from ..ops.dtypes import to_unit

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

MAX_TONE = 4.0
"""Largest exponent of the tone curve."""


def every(height: int, width: int) -> int:
    """Every N-th row and column leave about `SAMPLED_PIXELS` pixels."""
    return max(math.isqrt(height * width // SAMPLED_PIXELS), 1)


def features(image: Tensor) -> Tensor:
    """What describes a scene whatever its exposure: C,H,W in [0, 1], C = 1 or 3, to 1 dimension."""
    small = squares(image[None]).clamp(0, 1)
    light = to_linear(small.expand(-1, 3, -1, -1))[0].cpu()
    grey = light.mean(0)
    mean = grey.mean().clamp(min=1e-5)
    quantiles = torch.quantile(grey.flatten(), torch.tensor(QUANTILES)) / mean
    saturation = (light.amax(0) - light.amin(0)).mean() / mean
    grid = F.adaptive_avg_pool2d(grey[None], GRID).flatten() / mean
    return torch.cat([
        (quantiles + 0.02).log(),
        (grey.std() / mean + 0.02).log()[None],
        saturation[None],
        light.mean((1, 2)) / mean,
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


def has_lights(image: Tensor) -> float:
    """0 to 1: whether something in B,C,H,W is as bright as a lamp."""
    step = every(*image.shape[2:])
    brightest = to_unit(image[..., ::step, ::step]).amax(1).flatten()
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

    def predict(self, image: Tensor) -> float:
        """The mean in [0, 1] that a good photograph of the scene in C,H,W would have."""
        center, scale, weights = map(torch.tensor, (self.center, self.scale, self.weights))
        return ((features(image) - center) / scale @ weights).item() + self.bias

    def target_mean(self, images: Tensor) -> float:
        """The mean that the result of B,C,H,W in [0, 1] should have; of frames, a common one."""
        colour = images[:, :3]
        predicted = sum(self.predict(image) for image in colour) / len(colour)
        fall = DARKENING * max(NIGHT_BELOW - predicted, 0.0)
        return USUAL_MEAN - has_lights(colour) * min(fall, USUAL_MEAN - DARKEST_MEAN)

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


def tone_for(
    output: AnyImage, mean: float, fetch: Callable[[Tensor], Tensor] = Tensor.cpu
) -> float:
    """The exponent that gives B,3,H,W in [0, 1] about this mean; 1 if it is not brighter.

    `fetch` brings some of the pixels to main memory.
    """
    step = every(*output.shape[2:])
    few = fetch(sampled(output, step))  # else a GPU would be waited for in each step below
    grey = few.float().clamp(0, 1).mean(1)
    low, high = 1.0, MAX_TONE
    if grey.mean().item() <= mean:
        return low
    for _ in range(20):
        middle = (low + high) / 2
        if (grey**middle).mean().item() > mean:
            low = middle
        else:
            high = middle
    return low
