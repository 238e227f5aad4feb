"""devudp-train: unpaired training, from a recipe to a checkpoint for the node.

    devudp-train unpaired --data.sharp my/sharp --data.blurry my/blurry --out runs/mine
    devudp-train resume runs/mine
    devudp-train check-data devudp --data.sharp my/sharp --data.blurry my/blurry
    devudp-train frames clip.mp4 --out my/frames
    devudp-train export runs/mine --out mine.safetensors
    devudp-train onnx mine.safetensors --out onnx
    devudp-train lpips-weights lpips-alex.safetensors
    devudp-train benchmark unpaired --data.sharp my/sharp --data.blurry my/blurry
    devudp-train RECIPE --help                # every setting, with the recipe's values
    devudp-train resume --help                # the help of each command

Several processes or machines:   accelerate launch -m devudp_training.train RECIPE ...
In a clone that is not installed:   python -m training.train RECIPE ...
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from devudp_model.checkpoint import CheckpointError

from .config import ConfigError
from .config.recipes import load_recipe, parse_overrides, recipe_names
from .console import HELP, log_lines, make_parser, parse, showing_help
from .run.loop import Run
from .run.state import resumable_states
from .run.threads import with_threads
from .run.trainer import NonFiniteLoss

logger = logging.getLogger("devudp")


def start(arguments: Sequence[str]) -> None:
    """RECIPE --out DIR [--section.field VALUE ...]"""
    parser = make_parser(
        "devudp-train",
        "RECIPE",
        f"Trains as a recipe says. Shipped are {', '.join(recipe_names())}.",
        "  devudp-train unpaired --data.sharp my/sharp --data.blurry my/blurry --out runs/mine\n"
        "  devudp-train unpaired --data.sharp my/sharp --batch 4 --schedule.length 2000",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="the run's folder; default: runs/ and the recipe's name"
    )
    known, rest = parse(parser, arguments)
    config = parse_overrides(
        load_recipe(known.recipe), rest, program=f"devudp-train {known.recipe}"
    )
    out = Path(known.out or f"runs/{Path(known.recipe).stem}")
    with Run(with_threads(config), out) as run:
        run.train()


def resume(arguments: Sequence[str]) -> None:
    """RUN [--section.field VALUE ...]: continues from a run's last state, or a state's file."""
    parser = make_parser(
        "devudp-train resume",
        "RUN",
        "Goes on with a run from its last state, or from the one that is named, with its settings\n"
        "or others. All that it writes goes to the same folder.",
        "  devudp-train resume runs/mine\n"
        "  devudp-train resume runs/mine --schedule.length 20000        # further than planned\n"
        "  devudp-train resume runs/mine/states/state-00004000.pt       # from an earlier state",
    )
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in HELP):
        raise ConfigError("which run? devudp-train resume RUN, the folder that --out named")
    known, rest = parse(parser, arguments)
    named = Path(known.run)
    out = named.parent.parent if named.is_file() else named
    if not named.is_file() and not resumable_states(named):
        raise ConfigError(
            f"no state in {named / 'states'}: name the folder of a run that has saved one"
        )
    config = parse_overrides(
        load_recipe(out / "config.toml"), rest, program=f"devudp-train resume {out}"
    )
    with Run(config, out, named) as run:
        run.train()


def lazily(module: str) -> Callable[[Sequence[str]], None]:
    """Returns the `main` of a module that is imported once it is called: most take seconds."""
    return lambda arguments: importlib.import_module(module, __package__).main(arguments)


EXPECTED = (ConfigError, CheckpointError, NonFiniteLoss, OSError, ValueError, ArithmeticError)
"""Errors whose message says all that a user needs."""

COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "resume": resume,
    "check-data": lazily(".data.check_data"),
    "frames": lazily(".data.video_frames"),
    "export": lazily(".export.checkpoint"),
    "onnx": lazily(".export.onnx_command"),
    "lpips-weights": lazily(".method.lpips"),
    "benchmark": lazily(".run.benchmark"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    Raises:
        SystemExit: with status 1 after an error, which was logged; 2 for a wrong command line.
    """
    log_lines()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in HELP:
        with showing_help():
            print(f"{__doc__}\nRecipes: {', '.join(recipe_names())}")
        raise SystemExit(0 if arguments else 2)
    command = COMMANDS.get(arguments[0])
    try:
        command(arguments[1:]) if command else start(arguments)
    except KeyboardInterrupt:
        logger.error("Stopped at once: everything since the last saved state is lost.")
        raise SystemExit(130) from None
    except EXPECTED as error:
        if os.environ.get("DEVUDP_DEBUG"):
            raise
        logger.error("Error: %s", error)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
