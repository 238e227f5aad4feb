"""Samples as a run would see them, for the tests of the training's data."""

from dataclasses import replace

import torch
from torch import Tensor

from training.batch import Batch
from training.config import Config
from training.data.dataset import Key, UnpairedImages
from training.data.synthesis import render_batch, stack_plans

CPU = torch.device("cpu")


def change(config: Config, **data: object) -> Config:
    return replace(config, data=replace(config.data, **data))  # pyright: ignore[reportArgumentType]


def plain(config: Config, **data: object) -> Config:
    """Without anything that changes an image's values."""
    return change(config, **{"exposure": "as is", "noise": 0.0, "tone": (1.0, 1.0), **data})


def batch_of(images: UnpairedImages, keys: list[Key]) -> Batch:
    samples = [images[key] for key in keys]
    A, B = stack_plans([s.A for s in samples]), stack_plans([s.B for s in samples])
    return render_batch(A, B, images.stages[keys[0].stage], CPU)


def seen(config: Config, numbers: range, stage: int = 0) -> Tensor:
    """All that a run would see, one sample at a time: samples,4,3,crop,crop."""
    images = UnpairedImages(config)
    batches = [batch_of(images, [Key(stage, number)]) for number in numbers]
    return torch.stack([torch.cat(list(batch[:4])) for batch in batches])
