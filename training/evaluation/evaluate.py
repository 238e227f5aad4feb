"""devudp-evaluate: restores test sets and measures the results, next to simple baselines.

    devudp-evaluate --lol LOLdataset --gopro GOPRO_Large --scaled --out results
    devudp-evaluate --weights runs/mine/devudp.safetensors --task joint deblur \\
        --pairs mine my/degraded my/reference --out results
    devudp-evaluate --untuned my/photographs --task joint low-light deblur --out results
    devudp-evaluate --lol-blur LOL-Blur --cascade "RUAS, then ours" \\
        "python enhance.py {input} {output}" deblur --out results

Below --out it writes table.md (with the paper's rows), results.json (with the values of every
image), and for each set and method the restored images and a sheet of the best and the worst.
What is measured, and how, is --protocol's (see `protocols.py`); the table says it. In a clone that
is not installed: python -m training.evaluation ...
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from devudp_model.checkpoint import CheckpointError
from devudp_model.system.version import version

from ..config import ConfigError
from ..console import log_lines, showing_help
from ..data.image_cache import decode
from ..method.lpips import AlexLpips, load_lpips
from .alignment import load_opencv
from .arguments import INPUT, REFERENCE, Tasks, make_methods, make_parser, make_sets
from .methods import Method, save
from .paper import PAPER
from .protocols import PAPER_PROTOCOL, PROTOCOLS, Protocol
from .tables import Result, describe, markdown, write_json, write_sheet
from .testsets import TestSet, notes
from .untuned import together

logger = logging.getLogger("devudp")

RESULTS, TABLE = "results.json", "table.md"


def claim_folder(out: Path, sets: Sequence[TestSet], *, overwrite: bool) -> None:
    """Makes sure that nothing of an earlier run can be mistaken for this one's.

    Args:
        out: the folder for all results.
        sets: each gets a folder of its name in `out`.
        overwrite: remove the results of an earlier run, all of them, first.

    Raises:
        ConfigError: `out` holds an earlier run and `overwrite` is off, or a set's folder exists
            that no earlier run made.
    """
    if (out / RESULTS).exists():
        if not overwrite:
            raise ConfigError(
                f"{out} holds the results of an earlier run. Choose another folder with --out, or "
                "replace them with --overwrite."
            )
        for name in earlier_sets(out / RESULTS):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (RESULTS, TABLE):
            (out / name).unlink(missing_ok=True)
    for test_set in sets:
        if (out / test_set.name).exists():
            raise ConfigError(
                f"{out / test_set.name} exists and was not written by devudp-evaluate: choose "
                "another folder with --out"
            )
    out.mkdir(parents=True, exist_ok=True)


def earlier_sets(results: Path) -> set[str]:
    """Returns the names of the sets in an earlier run's results.json, whose folders lie beside it.

    Raises:
        ConfigError: the file was written by another program.
    """
    try:
        content = json.loads(results.read_text(encoding="utf-8"))
        names = {*content.get("sets", ()), *(result["set"] for result in content["results"])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{results} was not written by devudp-evaluate: choose another folder with --out"
        ) from error
    return {name for name in names if name not in ("", "..") and Path(name).name == name}


def prepare(test_set: TestSet, folder: Path) -> list[str]:
    """Writes a set's pairs as PNGs into folder/input and folder/reference; returns their names.

    Raises:
        ConfigError: a pair that differs in size, or two pairs of one name.
    """
    for side in (INPUT, REFERENCE):
        (folder / side).mkdir(parents=True)
    names: list[str] = []
    for pair in test_set.pairs:
        name = pair.name.replace("/", "__")
        if (folder / INPUT / f"{name}.png").exists():
            raise ConfigError(f"two pairs of {test_set.name} are named {name}: rename one of them")
        for side, pixels in zip((INPUT, REFERENCE), test_set.read_pair(pair), strict=True):
            save(pixels, folder / side / f"{name}.png")
        names.append(name)
    return names


def measure(
    folder: Path,
    references: Path,
    names: Sequence[str],
    lpips: AlexLpips | None,
    protocol: Protocol = PAPER_PROTOCOL,
) -> dict[str, dict[str, float | None]]:
    """The protocol's metrics of each named PNG of a folder, against its namesake in `references`.

    Raises:
        UnreadableImage: one is missing or damaged.
        ValueError: one has another size than its reference.
    """
    values: dict[str, dict[str, float | None]] = {}
    for name in names:
        pixels = (decode(side / f"{name}.png").copy() for side in (folder, references))
        a, b = (torch.from_numpy(each).permute(2, 0, 1) for each in pixels)
        found = values[name] = {**protocol.compare(a, b)}
        if "lpips" in protocol.columns:
            found["lpips"] = lpips.of_images(a, b) if lpips else None
    return values


def evaluate_set(
    test_set: TestSet,
    methods: Mapping[str, Method],
    out: Path,
    lpips: AlexLpips | None,
    protocol: Protocol,
) -> list[Result]:
    """Measures all methods on one set; the first result is that of the degraded images themselves.

    Raises:
        ConfigError: pairs that cannot be compared, or a command that fails.
    """
    folder = out / test_set.name
    names = prepare(test_set, folder)
    source, references = folder / INPUT, folder / REFERENCE
    before = measure(source, references, names, lpips, protocol)
    results = [Result(test_set.name, INPUT, before)]
    for name, method in methods.items():
        if not test_set.takes(name):
            continue
        target = folder / name
        target.mkdir()
        method(source, target)
        values = measure(target, references, names, lpips, protocol)
        results.append(result := Result(test_set.name, name, values))
        means = result.mean("psnr"), result.mean("ssim")
        logger.info("%s, %s: PSNR %.2f, SSIM %.3f", test_set.name, name, *means)
        write_sheet(result, results[0], folder)
    return results


def checkpoints(tasks: Tasks) -> dict[str, dict[str, str]]:
    """File name and SHA-256 of the checkpoint of each task."""
    return {
        word: {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for word, path in tasks.used.items()
    }


def describe_protocol(options: argparse.Namespace) -> dict[str, str]:
    """Returns the protocol's name and what it is, for JSON."""
    protocol = PROTOCOLS[options.protocol]
    opencv = {"opencv": load_opencv().__version__} if protocol.aligns else {}
    return {"name": protocol.name, "text": protocol.text, **opencv}


def write_results(
    results: Sequence[Result], sets: Sequence[TestSet], tasks: Tasks, options: argparse.Namespace
) -> None:
    """Writes results.json: everything that was measured."""
    content: dict[str, Any] = {
        "version": version(),
        "torch": torch.__version__,
        "weights": checkpoints(tasks),
        "options": {k: str(v) for k, v in vars(options).items()},
        "protocol": describe_protocol(options),
        "sets": [test_set.name for test_set in sets],
        "results": [describe(result, images=True) for result in results],
    }
    write_json(content, options.out / RESULTS)


def write_summary(results: Sequence[Result], tasks: Tasks, options: argparse.Namespace) -> None:
    """Writes the means alone, from which `publish.py` makes the tables of README and model card."""
    settings = {"precision": options.precision, "strength": options.strength}
    content: dict[str, Any] = {
        "version": version(),
        "weights": checkpoints(tasks),
        "settings": {**settings, "exposure": options.exposure},
        "protocol": describe_protocol(options),
        "results": [describe(result, images=False) for result in results],
    }
    write_json(content, options.summary)


def run(options: argparse.Namespace) -> str:
    """Evaluates, writes everything below ``options.out``, and returns the table.

    Raises:
        ConfigError, CheckpointError, OSError, ValueError: which `main` logs before it exits.
    """
    sets = make_sets(options)
    tasks = Tasks(options)
    methods = make_methods(options, tasks)
    protocol = PROTOCOLS[options.protocol]
    if protocol.aligns:
        load_opencv()
    wants_lpips = "lpips" in protocol.columns and not options.no_lpips
    lpips = load_lpips(options.lpips_weights) if wants_lpips else None
    claim_folder(options.out, sets, overwrite=options.overwrite)
    results: list[Result] = []
    write_results(results, sets, tasks, options)  # claims the folder for this run
    for test_set in sets:
        results += evaluate_set(test_set, methods, options.out, lpips, protocol)
        write_results(results, sets, tasks, options)
    results += together(results, sets)
    write_results(results, sets, tasks, options)
    rows = {each.name: PAPER.get(each.paper, []) for each in sets}
    table = markdown(results, rows if protocol is PAPER_PROTOCOL else {}, protocol.columns)
    below = [f"Protocol `{protocol.name}`: {protocol.text}", *notes(sets, aligned=protocol.aligns)]
    table += "".join(f"\n{paragraph}\n" for paragraph in below)
    (options.out / TABLE).write_text(table, encoding="utf-8")
    if options.summary:
        write_summary(results, tasks, options)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    Raises:
        SystemExit: with status 1 after an error, which was logged; 2 for a wrong command line.
    """
    log_lines()
    with showing_help():
        options = make_parser(__doc__).parse_args(arguments)
    try:
        logger.info("\n%s", run(options))
    except (ConfigError, CheckpointError, OSError, ValueError) as error:
        logger.error("Error: %s", error)
        raise SystemExit(1) from error
