"""One step of the training, on random images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from training.config.recipes import load_recipe, parse_overrides
from training.data.dataset import UnpairedImages
from training.run.distributed import make_accelerator
from training.run.trainer import Trainer

from .frames import make_video

RECIPE = "devudp-dt"

IMAGES = 8


def make_step(folder: Path, width: int, crop: int, batch: int) -> Callable[[], None]:
    """A step of the recipe's first stage, eager, on one batch of crops.

    Args:
        folder: for the images that it is trained with.
        width: of the network.
        crop: side of the crops, in pixels.
        batch: crops in a step.
    """
    torch.manual_seed(0)
    images = make_video(folder / "sharp", IMAGES, (4 * crop, 4 * crop))
    settings = {
        "--data.sharp": images, "--data.crop": crop, "--data.held-out": 0, "--batch": batch,
        "--model.width": width, "--validation.every": 0, "--loss.lpips": 0, "--speed.workers": 0,
    }  # fmt: skip
    words = [str(word) for setting in settings.items() for word in setting]
    words.append("--speed.no-compile")
    config = parse_overrides(load_recipe(RECIPE), words, program="benchmarks")
    trainer = Trainer(config, make_accelerator(config), UnpairedImages(config))
    loaded = next(iter(trainer.loader()))

    def step() -> None:
        trainer.advance(loaded)

    return step
