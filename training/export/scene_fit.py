"""Fits the scene model of a checkpoint: from sharp photographs, darkened on purpose."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from devudp_model.ops.degrade import darken, uniform
from devudp_model.restoring.scene import SceneModel, features

from ..data.image_cache import UnreadableImage, decode

VERSIONS = 3
"""Darkened versions of each photograph."""

LIGHT = (0.02, 0.6)
"""Least and most light that is left, log-uniform."""

NOISE = 0.01
"""Largest standard deviation of the noise, in [0, 1]."""

SIDE = 192
"""Photographs are first averaged down to about this long side, in pixels."""

RIDGE = 0.03
"""Penalty per example on the weights of the standardised features."""

FOLDS = 5

logger = logging.getLogger("devudp")


def fit_scene(paths: Sequence[Path], seed: int = 0) -> SceneModel | None:
    """Returns a scene model from sharp normal-light photographs; None if there are too few.

    How well it predicts photographs that it was not fitted on is logged (R² over five folds).
    """
    rows, means = [], []
    for number, path in enumerate(paths):
        rng = torch.Generator().manual_seed(seed * 1_000_003 + number)
        try:
            image = small(path)
        except UnreadableImage:
            continue  # the training loop reports it
        for _ in range(VERSIONS):
            rows.append(features(darkened(image, rng)))
            means.append(image.mean())
    if len(rows) < 10 * FOLDS * VERSIONS:
        return None
    X, y = torch.stack(rows).double(), torch.stack(means).double()
    fold = torch.arange(len(X)) // VERSIONS % FOLDS
    predicted = torch.zeros_like(y)
    for k in range(FOLDS):
        center, scale, weights, bias = ridge(X[fold != k], y[fold != k])
        predicted[fold == k] = (X[fold == k] - center) / scale @ weights + bias
    score = 1 - ((predicted - y) ** 2).mean() / y.var(correction=0)
    count = len(X) // VERSIONS
    logger.info("Scene model from %d photographs: R² %.2f over %d folds", count, score, FOLDS)
    center, scale, weights, bias = ridge(X, y)
    lists = [tuple(v.tolist()) for v in (center, scale, weights)]
    return SceneModel(lists[0], lists[1], lists[2], float(bias))


def small(path: Path) -> Tensor:
    """3,H,W in [0, 1], averaged to about `SIDE` pixels.

    Raises:
        UnreadableImage: it cannot be read.
    """
    image = torch.from_numpy(decode(path).copy()).permute(2, 0, 1).float() / 255
    factor = max(max(image.shape[1:]) // SIDE, 1)
    return torch.nn.functional.avg_pool2d(image, factor)


def darkened(image: Tensor, rng: torch.Generator) -> Tensor:
    """3,H,W in [0, 1] with little light, noise and 8 bits."""
    light = math.exp(uniform(rng, *map(math.log, LIGHT)))
    dark = darken(image[None], light)[0]
    dark = dark + torch.randn(dark.shape, generator=rng) * uniform(rng, 0, NOISE)
    return (dark.clamp(0, 1) * 255).round() / 255


def ridge(X: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ridge regression on standardised features: their centres and scales, weights, bias."""
    center, scale = X.mean(0), X.std(0).clamp(min=1e-6)
    Z, bias = (X - center) / scale, y.mean()
    penalty = RIDGE * len(Z) * torch.eye(Z.shape[1], dtype=Z.dtype)
    return center, scale, torch.linalg.solve(Z.T @ Z + penalty, Z.T @ (y - bias)), bias
