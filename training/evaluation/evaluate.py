"""devudp-evaluate: restores test sets and measures, beside the input, a gamma and the paper.

    devudp-evaluate --lol LOLdataset --gopro GOPRO_Large --scaled --out results
    devudp-evaluate --weights runs/mine/devudp.safetensors --task joint deblur \\
        --pairs mine my/degraded my/reference --out results
    devudp-evaluate --lol-blur LOL-Blur --cascade "RUAS, then ours" \\
        "python enhance.py {input} {output}" deblur --out results

Writes table.md, results.json (with the values of every picture), the restored pictures, and a
contact sheet of the best and the worst for each set and method. PSNR, SSIM and MAE compare 8-bit
pictures (see `devudp_model.metrics`). In a clone: python -m training.evaluation.evaluate ...
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from devudp_model.checkpoint import CheckpointError, bundled, load_checkpoint
from devudp_model.generator import VARIANTS, Generator
from devudp_model.metrics import mae, psnr, ssim
from devudp_model.restore import PRECISIONS, Options
from devudp_model.tasks import TASKS, Task, bundled_variant

from ..config import ConfigError
from ..data.image_cache import decode
from ..data.layouts import LayoutName, folder_pairs
from ..method.lpips import AlexLpips, load_lpips
from .methods import (
    Method,
    cascade_method,
    command_method,
    gamma_method,
    model_method,
    restore_method,
    save,
)
from .tables import Result, best_and_worst, contact_sheet, markdown, write_json
from .testsets import PAPER, TestSet, official_sets

logger = logging.getLogger("devudp")

TASK_WORDS: dict[str, Task] = {task.replace(" ", "-"): task for task in TASKS}

MODEL = "model"
"""Beside the tasks: the network's very picture, which is what the paper measures."""

METHOD_WORDS = [*TASK_WORDS, MODEL]


def measure(folder: Path, references: Path, lpips: AlexLpips | None) -> dict[str, dict]:
    """The metrics of each picture of a folder against the same one of `references`."""
    values = {}
    for path in sorted(references.glob("*.png")):
        a, b = (as_tensor(decode(side / path.name)) for side in (folder, references))
        values[path.stem] = {
            "psnr": psnr(a, b),
            "ssim": ssim(a, b),
            "mae": mae(a, b),
            "lpips": lpips.of_pictures(a, b) if lpips else None,
        }
    return values


def as_tensor(pixels: np.ndarray) -> Tensor:
    """H,W,3 uint8 to 3,H,W."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def evaluate_set(
    test_set: TestSet, methods: dict[str, Method], out: Path, lpips: AlexLpips | None
) -> list[Result]:
    """All methods on one set; the degraded pictures themselves are the first one."""
    base = out / test_set.name
    source, references = base / "input", base / "reference"
    for folder in (source, references):
        folder.mkdir(parents=True, exist_ok=True)
    for pair in test_set.pairs:
        degraded, reference = test_set.read_pair(pair)
        name = pair.name.replace("/", "__") + ".png"
        save(degraded, source / name)
        save(reference, references / name)
    results = [Result(test_set.name, "input", measure(source, references, lpips))]
    for name, method in methods.items():
        target = base / name
        target.mkdir(exist_ok=True)
        method(source, target)
        result = Result(test_set.name, name, measure(target, references, lpips))
        results.append(result)
        row = result.mean()
        logger.info("%s, %s: PSNR %.2f, SSIM %.3f", test_set.name, name, row.psnr, row.ssim)
        draw_sheet(result, results[0], base)
    return results


def draw_sheet(result: Result, before: Result, base: Path) -> None:
    """Best and worst pictures of a method: input, restored, reference."""
    rows = []
    for name in best_and_worst(result, before):
        pictures = [decode(base / d / f"{name}.png") for d in ("input", result.method, "reference")]
        old, new = before.images[name]["psnr"], result.images[name]["psnr"]
        rows.append((f"{name}: PSNR {old:.2f} -> {new:.2f} (input, restored, reference)", pictures))
    contact_sheet(rows).save(base / f"{result.method}.jpg", quality=90)


def find_weights(name: str) -> Path:
    """A file, a bundled variant, or the checkpoint in a run's folder.

    Raises:
        ConfigError: none of these.
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
    """The tasks as methods; each checkpoint is loaded once."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.used = options, dict[str, Path]()
        self.loaded: dict[Path, Generator] = {}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, word: str) -> Method:
        """The method of ``joint``, ``deblur``, ``low-light`` or ``model``."""
        options = self.options
        path = find_weights(options.weights or bundled_variant(TASK_WORDS.get(word, "joint")))
        if path not in self.loaded:
            self.loaded[path] = load_checkpoint(path).generator.to(self.device)
        self.used[word] = path
        if word == MODEL:
            return partial(model_method, self.loaded[path], options.precision)
        wanted = Options(TASK_WORDS[word], options.strength, options.exposure,
                         precision=options.precision)  # fmt: skip
        return partial(restore_method, self.loaded[path], wanted)


def make_methods(options: argparse.Namespace, tasks: Tasks) -> dict[str, Method]:
    """The methods that the command line asks for, by the name of their row.

    Raises:
        ConfigError: a cascade without stages.
        CheckpointError: weights that cannot be read.
    """
    methods: dict[str, Method] = {}
    if options.gamma:
        methods[f"gamma {options.gamma:g}"] = partial(gamma_method, options.gamma)
    for word in options.task:
        methods[word] = tasks(word)
    for name, *stages in options.cascade or []:
        if not stages:
            raise ConfigError(f"the cascade {name!r} has no stages: name it, then its stages")
        methods[name] = partial(
            cascade_method,
            [tasks(s) if s in METHOD_WORDS else partial(command_method, s) for s in stages],
        )
    return methods


def make_sets(options: argparse.Namespace) -> list[TestSet]:
    """The test sets that the command line names.

    Raises:
        ConfigError: none.
        FileNotFoundError, ValueError: a folder that is not what it should be.
    """
    sets: list[TestSet] = []
    for layout in get_args(LayoutName):
        root = getattr(options, layout.replace("-", "_"))
        if root:
            sets += official_sets(layout, root, scaled=options.scaled)
    for name, degraded, reference in options.pairs or []:
        sets.append(TestSet(name, folder_pairs(Path(degraded), Path(reference)), options.size))
    if not sets:
        raise ConfigError("no test set: give --gopro, --realblur-j, --lol, --lol-blur or --pairs")
    if options.limit:
        sets = [TestSet(s.name, s.pairs[: options.limit], s.size) for s in sets]
    return sets


def size(text: str) -> tuple[int, int]:
    """640x360 as (640, 360)."""
    width, height = text.lower().split("x")
    return int(width), int(height)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="devudp-evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--weights", help="a checkpoint, a run's folder, devudp or devudp-dt (default: the task's)")
    add("--task", nargs="*", choices=METHOD_WORDS, default=["joint"],
        help="one row each; model: the network's very picture, as the paper measures")  # fmt: skip
    for layout in get_args(LayoutName):
        add(f"--{layout}", metavar="ROOT", help=f"the official tree of {layout}")
    add("--pairs", nargs=3, action="append", metavar=("NAME", "DEGRADED", "REFERENCE"))
    add("--scaled", action="store_true", help="also GoPro at 640x360, RealBlur-J at 320x360")
    add("--size", type=size, help="scale --pairs to WxH first")
    add("--cascade", nargs="+", action="append", metavar=("NAME", "STAGE"),
        help="stages in their order: a task, or a command with {input} and {output}")  # fmt: skip
    add("--gamma", type=float, default=0.26, help="the fixed gamma of a baseline row; 0: none")
    add("--strength", type=float, default=1.0)
    add("--exposure", type=float, help="0: the input's exposure, 1: the model's")
    add("--precision", choices=PRECISIONS, default="auto")
    add("--lpips-weights", type=Path, help="a file with LPIPS weights (training/method/lpips.py)")
    add("--no-lpips", action="store_true")
    add("--limit", type=int, default=0, help="only so many pictures of each set")
    add("--out", type=Path, required=True)
    return parser


def run(options: argparse.Namespace) -> str:
    """Evaluates, writes everything below ``options.out``, and returns the table."""
    sets = make_sets(options)
    tasks = Tasks(options)
    methods = make_methods(options, tasks)
    lpips = None if options.no_lpips else load_lpips(options.lpips_weights)
    results = [
        result
        for test_set in sets
        for result in evaluate_set(test_set, methods, options.out, lpips)
    ]
    table = markdown(results, PAPER)
    (options.out / "table.md").write_text(table, encoding="utf-8")
    about = {
        "weights": {
            word: {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for word, path in tasks.used.items()
        },
        "options": {k: str(v) for k, v in vars(options).items()},
        "torch": torch.__version__,
    }
    write_json(results, about, options.out / "results.json")
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    Raises:
        SystemExit: with status 1 after an error, which was said; 2 for a wrong command line.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logger.setLevel(logging.INFO)
    options = make_parser().parse_args(arguments)
    try:
        logger.info("\n%s", run(options))
    except (ConfigError, CheckpointError, OSError, ValueError) as error:
        logger.error("Error: %s", error)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
