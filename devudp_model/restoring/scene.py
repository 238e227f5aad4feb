"""Predicts the mean of a good photograph of a scene, from an image of it of any exposure.

What a dark image still has of its scene is the shape of its brightness: how bright its lights are
beside the rest, where it is bright, its colours. A ridge regression on such numbers, none of which
depends on the exposure, predicts the mean. The training fits it on its sharp photographs and keeps
it in the checkpoint's metadata. What is made of it: see exposure.py.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.degrade import to_linear
from ..ops.dtypes import to_unit

SIDE = 96
"""Images are averaged to this many squares a side, which also takes their noise."""

QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
GRID = 3


def features(image: Tensor, weights: Tensor | None = None) -> Tensor:
    """Describes a scene whatever its exposure: C,H,W in [0, 1], C = 1 or 3, to 1 dimension.

    Of weighted pixels (1,H,W), squares of which less than half is visible do not count.
    """
    small = squares(image[None]).cpu().clamp(0, 1)
    light = to_linear(small.expand(-1, 3, -1, -1))[0]
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
    """Returns the means of `SIDE` x `SIDE` parts of 1,C,H,W, float32."""
    if image.dtype == torch.float32:
        return F.adaptive_avg_pool2d(image, SIDE)
    height = image.shape[2]  # by rows of parts: never all of it in float32
    found = torch.empty(*image.shape[:2], SIDE, SIDE, device=image.device)
    for row in range(SIDE):
        start, stop = row * height // SIDE, -(-(row + 1) * height // SIDE)
        part = to_unit(image[:, :, start:stop])
        found[:, :, row : row + 1] = F.adaptive_avg_pool2d(part, (1, SIDE))
    return found


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
        """Returns the common mean of B,C,H,W, C = 1 or 3; `seen`: B,1,H,W."""
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
        """Reads what `to_json` wrote.

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
