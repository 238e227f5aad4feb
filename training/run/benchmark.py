"""How long a step takes, and whether the loader keeps up.

    python -m training.run.benchmark unpaired --data.sharp my/sharp --data.blurry my/blurry
    python -m training.run.benchmark paper-gopro --data.root GOPRO_Large --steps 30

Times the recipe's step on one fixed batch, with each means of speed in turn, then the loader
alone, then both. Compare ratios within one output; times depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Sequence

import torch
from accelerate.state import AcceleratorState, PartialState

from ..config import Config
from ..data.dataset import UnpairedPictures
from ..data.loader import Loaded
from ..settings import load_recipe, parse_overrides
from .distributed import make_accelerator
from .schedule import Schedule
from .trainer import Trainer

logger = logging.getLogger("devudp")

WARM_UP = 3

GMAC_A_PIXEL = 1.09e-3
"""Of a generator of the paper's width: 71 GMAC at 256x256."""


def work_of_step(config: Config) -> float:
    """Floating point operations of the generators in one step; D's share, about 5 %, is left out.

    G and G_inv work once in each branch, and G on smaller pictures where L is blurred again; each
    forward pass has a backward pass of twice the work.
    """
    model = config.model
    branches = 1 + 1 / config.loss.s_branch_every
    passes = branches * model.width**2
    if model.G_inv == "network":
        passes += branches * (model.G_inv_width or model.width) ** 2
    if config.loss.again and config.data.again_of == "L":
        passes += config.data.again_scale**2 * model.width**2
    pixels = config.batch * config.data.crop**2
    return 3 * 2e9 * GMAC_A_PIXEL * pixels * passes / 64**2


def seconds_each(action: Callable[[], object], count: int) -> float:
    """The mean time of an action, after a warm-up."""

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    for _ in range(WARM_UP):
        action()
    wait()
    start = time.perf_counter()
    for _ in range(count):
        action()
    wait()
    return (time.perf_counter() - start) / count


def fresh_trainer(config: Config, data: UnpairedPictures, **speed: object) -> Trainer:
    """A trainer of the recipe with other means of speed."""
    PartialState._reset_state()
    AcceleratorState._reset_state(True)
    changed = dataclasses.replace(config.speed, **speed)  # pyright: ignore[reportArgumentType]
    config = dataclasses.replace(config, speed=changed)
    return Trainer(config, make_accelerator(config), data)


def run(config: Config, steps: int) -> None:
    """Logs the times."""
    data = UnpairedPictures(config.data, 0, config.seed)
    plain = {"precision": "fp32", "compile": False, "channels_last": False}
    ladder: list[tuple[str, dict]] = [
        ("fp32, eager", plain),
        ("bf16", {**plain, "precision": "bf16"}),
        ("bf16, channels_last", {**plain, "precision": "bf16", "channels_last": True}),
        ("bf16, channels_last, compile",
         {"precision": "bf16", "channels_last": True, "compile": True}),
    ]  # fmt: skip
    reference = 0.0
    for name, speed in ladder:
        trainer = fresh_trainer(config, data, **speed, workers=0)
        batch = next(iter(trainer.loader()))
        mean = seconds_each(lambda t=trainer, b=batch: t.advance(b), steps)
        reference = reference or mean
        logger.info("%-32s %8.1f ms a step, %.2f x", name, 1e3 * mean, reference / mean)
    trainer = fresh_trainer(config, data)
    batches = iter(trainer.loader())
    loading = seconds_each(lambda: next(batches), steps)
    batch: Loaded = next(batches)
    stepping = seconds_each(lambda: trainer.advance(batch), steps)
    both = seconds_each(lambda: trainer.advance(next(batches)), steps)
    logger.info("the recipe's step                %8.1f ms", 1e3 * stepping)
    logger.info("its loader alone                 %8.1f ms, %d workers", 1e3 * loading,
                config.speed.workers)  # fmt: skip
    logger.info("step with loader                 %8.1f ms, %.2f x", 1e3 * both, both / stepping)
    total = Schedule(config, data.sides.A_size).steps
    logger.info("%d steps would take %.1f hours", total, total * both / 3600)
    logger.info("about %.1f TFLOP/s", work_of_step(config) / stepping / 1e12)


def main(arguments: Sequence[str] | None = None) -> None:
    """RECIPE [--steps N] [--section.field VALUE ...]"""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(prog="benchmark RECIPE", add_help=False)
    parser.add_argument("recipe")
    parser.add_argument("--steps", type=int, default=10)
    known, rest = parser.parse_known_args(arguments)
    run(parse_overrides(load_recipe(known.recipe), rest, program="benchmark"), known.steps)


if __name__ == "__main__":
    main()
