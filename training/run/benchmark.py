"""devudp-train benchmark: measures how long a step takes, and if the loader keeps up.

  devudp-train benchmark unpaired --data.sharp my/sharp --data.blurry my/blurry
  devudp-train benchmark paper-gopro --data.root GOPRO_Large --seconds 30

Times the recipe's step on one fixed batch, with each speed setting in turn, then the loader
alone, then both. Each is timed for some seconds. Compare ratios within one output; times depend on
what else the machine does.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence

import torch
from accelerate.state import AcceleratorState, PartialState
from torch.utils.benchmark import Timer

from ..config import Config
from ..config.recipes import load_recipe, parse_overrides
from ..console import help_in, make_parser, parse
from ..data.dataset import UnpairedImages
from .distributed import make_accelerator
from .trainer import Trainer

logger = logging.getLogger("devudp")

PLAIN = {"precision": "fp32", "compile": False, "channels_last": False}

LADDER: tuple[tuple[str, dict], ...] = (
    ("fp32, eager", PLAIN),
    ("bf16", {**PLAIN, "precision": "bf16"}),
    ("bf16, channels_last", {**PLAIN, "precision": "bf16", "channels_last": True}),
    ("bf16, channels_last, compile",
     {"precision": "bf16", "channels_last": True, "compile": True}),
)  # fmt: skip


def seconds_each(action: Callable[[], object], limit: float) -> float:
    """Returns the mean time of an action, repeated for `limit` seconds after a warm-up."""
    action()  # the first time it may be compiled; the timer warms up once more
    threads = torch.get_num_threads()
    timer = Timer("action()", globals={"action": action}, timer=now, num_threads=threads)
    return timer.blocked_autorange(min_run_time=limit).mean


def now() -> float:
    """Returns the time in seconds when a GPU is done with what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def fresh_trainer(config: Config, images: UnpairedImages, **speed: object) -> Trainer:
    """Returns a trainer of the recipe with other speed settings."""
    PartialState._reset_state()
    AcceleratorState._reset_state(True)
    changed = dataclasses.replace(config.speed, **speed)  # pyright: ignore[reportArgumentType]
    config = dataclasses.replace(config, speed=changed)
    return Trainer(config, make_accelerator(config), images)


def run(config: Config, seconds: float) -> None:
    """Logs the times."""
    images = UnpairedImages(config)
    reference = 0.0
    for name, speed in LADDER:
        logger.info("%s ...", name)
        trainer = fresh_trainer(config, images, **speed, workers=0)
        loaded = next(iter(trainer.loader()))
        mean = seconds_each(lambda t=trainer, b=loaded: t.advance(b), seconds)
        reference = reference or mean
        logger.info("%-32s %8.1f ms a step, %.2f x", name, 1e3 * mean, reference / mean)
    trainer = fresh_trainer(config, images)
    batches = iter(trainer.loader())
    loading = seconds_each(lambda: next(batches), seconds)
    loaded = next(batches)
    stepping = seconds_each(lambda: trainer.advance(loaded), seconds)
    both = seconds_each(lambda: trainer.advance(next(batches)), seconds)
    logger.info("the recipe's step                %8.1f ms", 1e3 * stepping)
    logger.info("its loader alone                 %8.1f ms, %d workers", 1e3 * loading,
                config.speed.workers)  # fmt: skip
    logger.info("step with loader                 %8.1f ms, %.2f x", 1e3 * both, both / stepping)
    hours = trainer.schedule.seconds_left(trainer.step, both) / 3600
    logger.info("%d steps would take %.1f hours", trainer.schedule.steps, hours)


def main(arguments: Sequence[str]) -> None:
    """``devudp-train benchmark``; see the top of this file."""
    program, *about = help_in(__doc__)
    parser = make_parser(program, "RECIPE", *about)
    parser.add_argument(
        "--seconds", type=float, default=10, metavar="N", help="how long each is timed; default: 10"
    )
    known, rest = parse(parser, arguments)
    config = parse_overrides(load_recipe(known.recipe), rest, program=f"{program} {known.recipe}")
    run(config, known.seconds)
