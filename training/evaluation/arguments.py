"""The command line of devudp-evaluate, and the sets and methods that it asks for."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from devudp_model.checkpoint import bundled
from devudp_model.engine.precision import PRECISIONS
from devudp_model.network.generator import VARIANTS
from devudp_model.restorer import Restorer
from devudp_model.restoring.auto import AUTO
from devudp_model.restoring.facts import facts_of, generator_of
from devudp_model.restoring.options import Options
from devudp_model.restoring.tasks import DEFAULT_TASK, TASKS, Task
from devudp_model.task_weights import LoadedOnce, fastest_device

from ..config import ConfigError
from ..data.layouts import LAYOUTS, folder_pairs
from .methods import (
    Method,
    cascade_method,
    command_method,
    gamma_method,
    model_method,
    restore_method,
)
from .protocols import PROTOCOLS, Protocol
from .testsets import TestSet, official_sets
from .untuned import STRENGTHS, UntunedSet, untuned_sets

TASK_WORDS: dict[str, Task] = {task.replace(" ", "-"): task for task in TASKS}

MODEL = "model"
"""Besides the tasks: the network's plain output, which is what the paper measures."""

METHOD_WORDS = [*TASK_WORDS, AUTO, MODEL]

INPUT, REFERENCE = "input", "reference"
"""Folders of a set's own images, next to those of the methods."""

KINDS = [kind for layout in LAYOUTS.values() if len(layout.blurs) > 1 for kind in layout.blurs]
"""Of the blurry images of the data sets that have several."""

FORBIDDEN = frozenset('<>:"/\\|?*')
"""Characters that a folder's name cannot have on every system."""


def make_parser(description: str | None = None) -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="devudp-evaluate",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--weights",
        metavar="FILE",
        help="a checkpoint, a run's folder, devudp or devudp-dt; default: the task's own",
    )
    add("--task", nargs="*", choices=METHOD_WORDS, default=["joint"],
        help="one row each; auto: what each image needs; model: the network's plain output, as the "
        "paper measures")  # fmt: skip
    for name, layout in LAYOUTS.items():
        add(f"--{name}", metavar="ROOT", help=f"the folder of {layout.label}, as unpacked")
    add("--pairs", nargs=3, action="append", metavar=("NAME", "DEGRADED", "REFERENCE"),
        help="two folders with images of the same names; may be given several times")  # fmt: skip
    add("--kind", nargs="+", default=[], choices=KINDS, metavar="KIND",
        help="which of their blurry images to take from GoPro (blur_gamma, blur) and LOL-Blur "
        "(low_blur, low_blur_noise), one set each; default: blur_gamma, low_blur")  # fmt: skip
    whose = parser.add_mutually_exclusive_group().add_argument
    whose("--protocol", choices=PROTOCOLS, default="paper",
        help="whose numbers to measure; default: %(default)s")  # fmt: skip
    whose("--align", dest="protocol", action="store_const", const="realblur",
        help="short for --protocol realblur, the official evaluation of RealBlur")  # fmt: skip
    add("--untuned", type=Path, metavar="FOLDER",
        help="the untuned set: where the photographs of training/recipes/untuned.tsv lie; each "
        "task is measured on what it has to undo")  # fmt: skip
    add(
        "--untuned-images", type=number, default=0, metavar="N", help="only N of them; default: all"
    )
    add("--untuned-strength", type=int, nargs="+", choices=STRENGTHS, default=[*STRENGTHS],
        help="only these strengths; default: all")  # fmt: skip
    add("--scaled", action="store_true", help="also GoPro at 640x360, RealBlur-J at 320x360")
    add("--size", type=size, metavar="WxH", help="scale --pairs to this size first")
    add("--cascade", nargs="+", action="append", metavar=("NAME", "STAGE"),
        help="stages in order: a task, or a command with {input} and {output}")  # fmt: skip
    add("--gamma", type=float, default=0.26, metavar="NUMBER",
        help="the fixed gamma of a baseline row; 0: no such row; default: %(default)s")  # fmt: skip
    add("--strength", type=float, default=1.0, metavar="0..1", help="of the tasks; default: 1")
    add("--exposure", type=float, metavar="0..1",
        help="0 keeps the input's exposure, 1 corrects it; default: the task's own")  # fmt: skip
    add("--precision", choices=PRECISIONS, default="auto", help="of the network; default: auto")
    add("--lpips-weights", type=Path, metavar="FILE",
        help="weights of LPIPS; default: those of the package lpips")  # fmt: skip
    add("--no-lpips", action="store_true", help="leave LPIPS out")
    add("--limit", type=number, default=0, metavar="N",
        help="at most so many images of each set; default: all")  # fmt: skip
    add("--out", type=Path, required=True, metavar="DIR", help="a folder for all that is written")
    add("--overwrite", action="store_true", help="replace the results of an earlier run in --out")
    add("--summary", type=Path, metavar="FILE",
        help="also write the means here, without images and local paths")  # fmt: skip
    return parser


def size(text: str) -> tuple[int, int]:
    """640x360 as (640, 360)."""
    width, height = text.lower().split("x")
    found = int(width), int(height)
    if min(found) < 1:
        raise ValueError
    return found


def number(text: str) -> int:
    """From 0 on: a negative one would leave out the last images."""
    if int(text) < 0:
        raise ValueError
    return int(text)


def find_weights(name: str) -> Path:
    """Returns a file, a bundled variant, or the checkpoint in a run's folder.

    Raises:
        ConfigError: a folder without exactly one checkpoint.
    """
    if name in VARIANTS:
        return bundled(name)
    path = Path(name)
    if path.is_dir():
        found = [path / f"{variant}.safetensors" for variant in VARIANTS]
        found = [file for file in found if file.exists()]
        if len(found) != 1:
            raise ConfigError(f"no checkpoint in {path}: make one with devudp-train export {path}")
        return found[0]
    return path


class Tasks:
    """Turns tasks into methods; each checkpoint is loaded once.

    Attributes:
        used: the checkpoint of each task that was asked for, and that of `deblur` where it is a
            second network.
    """

    def __init__(self, options: argparse.Namespace):
        self.options, self.used = options, dict[str, Path]()
        chosen = find_weights(options.weights) if options.weights else None
        self.weights = LoadedOnce(chosen, fastest_device())

    def __call__(self, word: str) -> Method:
        """Returns the method of one of `METHOD_WORDS`.

        Raises:
            CheckpointError: the weights cannot be read.
        """
        options = self.options
        task = TASK_WORDS.get(word, DEFAULT_TASK)
        for each in TASKS if word == AUTO else (task,):
            self.weights(each)  # what is wrong with a file shows at once
        if word != AUTO:
            self.used[word] = self.weights.path_for(task)
        if word == MODEL:
            return partial(model_method, generator_of(self.weights(task)), options.precision)
        if word != AUTO and facts_of(generator_of(self.weights(task))).deblurrer is not None:
            self.used["deblur"] = self.weights.path_for("deblur")
        wanted = Options(task, options.strength, options.exposure, precision=options.precision)
        return partial(restore_method, Restorer(self.weights, word, wanted))


def make_methods(options: argparse.Namespace, tasks: Tasks) -> dict[str, Method]:
    """Returns the methods that the command line asks for, by the name of their row.

    Raises:
        ConfigError: a cascade without stages, or names that cannot be used.
        CheckpointError: weights that cannot be read.
    """
    methods: list[tuple[str, Method]] = []
    if options.gamma:
        methods.append((f"gamma {options.gamma:g}", partial(gamma_method, options.gamma)))
    for word in dict.fromkeys(options.task):
        methods.append((word, tasks(word)))
    for name, *stages in options.cascade or []:
        if not stages:
            raise ConfigError(f"the cascade {name!r} has no stages: name it, then its stages")
        made = [tasks(s) if s in METHOD_WORDS else partial(command_method, s) for s in stages]
        methods.append((name, partial(cascade_method, made)))
    check_names([INPUT, REFERENCE, *(name for name, _ in methods)])
    return dict(methods)


def make_sets(options: argparse.Namespace) -> list[TestSet]:
    """Returns the test sets that the command line names.

    Raises:
        ConfigError: none, or names that cannot be used.
        FileNotFoundError, ValueError: a folder that is not what it should be.
    """
    sets: list[TestSet] = []
    unused = set(options.kind)
    for layout in LAYOUTS:
        root = getattr(options, layout.replace("-", "_"))
        if root:
            kinds = [kind for kind in options.kind if kind in LAYOUTS[layout].blurs]
            unused -= set(kinds)
            sets += official_sets(layout, root, scaled=options.scaled, kinds=kinds)
    if unused:
        raise ConfigError(f"--kind {' '.join(sorted(unused))} is of no set that was given")
    for name, degraded, reference in options.pairs or []:
        sets.append(TestSet(name, folder_pairs(Path(degraded), Path(reference)), options.size))
    if options.untuned:
        asked = [*options.task, *(name for name, *_ in options.cascade or [])]
        strengths = sorted(set(options.untuned_strength))
        sets += untuned_sets(
            options.untuned, asked, images=options.untuned_images, strengths=strengths
        )
    if not sets:
        raise ConfigError(
            "no test set: give --gopro, --realblur-j, --lol, --lol-blur, --pairs or --untuned "
            "(with a --task)"
        )
    sets = [replace(each, name=name_for(each, PROTOCOLS[options.protocol])) for each in sets]
    check_names(test_set.name for test_set in sets)
    if options.limit:
        sets = [replace(each, pairs=each.pairs[: options.limit]) for each in sets]
    return sets


def name_for(test_set: TestSet, protocol: Protocol) -> str:
    """Returns a set's name with what must not be mistaken: whether its images are aligned first."""
    if protocol.aligns and not isinstance(test_set, UntunedSet):  # whose names seed its noise
        return f"{test_set.name} aligned"
    return f"{test_set.name} plain" if test_set.paper.startswith("realblur") else test_set.name


def check_names(names: Iterable[str]) -> None:
    """Checks the names of sets or methods, each of which gets a folder of its own.

    Raises:
        ConfigError: a name occurs twice or cannot be a folder's.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise ConfigError(f"{name!r} is the name of {count} rows: give each a name of its own")
        if FORBIDDEN & set(name) or not name.strip(" ."):
            raise ConfigError(f"{name!r} cannot be used: it becomes a folder's name, see --out")
