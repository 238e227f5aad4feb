"""devudp-train export: writes a run's weights as a checkpoint for the node and the command line.

  devudp-train export runs/mine --out ComfyUI/models/devudp/mine.safetensors
  devudp-train export runs/mine/states/state-00004000.pt --out early.safetensors
  devudp-train export mine.safetensors --images my/dark --licence CC-BY-4.0

The weights are those of the last state. Beside them come their SHA-256 and a model card. Where the
run averaged its weights, they are taken, and the plain ones go to NAME-raw.safetensors.
A .safetensors file keeps its weights and gets what the options below add to it.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from devudp_model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from devudp_model.engine.precision import to_json
from devudp_model.network.generator import Generator, Norm, Variant
from devudp_model.network.tensor_files import PREFIXES

from ..config import Config, ConfigError
from ..config.recipes import load_recipe, parse_recipe
from ..console import plain_parser
from ..data.domains import find_domains
from ..run.sheets import draw_curve
from ..run.state import load_state
from .differences import Images, images_of_folders, images_of_run, measure_differences
from .model_card import describe_checkpoint, write_card
from .onnx_export import check_onnx, export_onnx
from .scene_fit import fit_scene

logger = logging.getLogger("devudp")


def export_weights(
    weights: Mapping[str, Tensor],
    variant: Variant,
    metadata: Mapping[str, str],
    path: str | Path,
    *,
    norm: Norm | None = None,
    shortcut: bool | None = None,
    curve: Path | None = None,
    tables: str = "",
    dtype: torch.dtype = torch.float16,
    images: Callable[[Generator], Images] | None = None,
) -> Path:
    """Writes a generator's weights as a checkpoint that the node and the command line load.

    Beside it come `path`.sha256 and a model card (the same name, .md).

    Args:
        weights: G's state dict; prefixes that compiling or parallelising added to the names are
            removed.
        variant: which network they belong to; width and depth are read from the shapes.
        metadata: see `devudp_model.checkpoint.Checkpoint`.
        path: ends in .safetensors.
        norm, shortcut: of an ablation, see `Generator`.
        curve: a plot of the losses, copied beside the card.
        tables: Markdown, such as `devudp-evaluate` writes: the metadata's metrics, and in the card.
        dtype: of the convolutions' weights.
        images: for a generator, what to measure its precisions on; None: they are not measured
            (again).

    Raises:
        CheckpointError: the weights belong to another network, or are not finite.
        OSError: a file cannot be written.
    """
    path = Path(path)
    weights = dict(weights)
    for prefix in PREFIXES:
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    stem = weights.get("stem.conv.weight", torch.empty(0))
    depth = sum(f"encode1.{k}.conv1.weight" in weights for k in range(len(weights)))
    try:
        generator = Generator(variant, len(stem), depth, norm=norm, shortcut=shortcut)
        generator.load_state_dict(weights)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"not exported: not the weights of {variant} ({error})") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    if tables:
        metadata = {**metadata, "metrics": tables.strip()}
    save_checkpoint(path, generator.eval(), metadata, dtype=dtype)
    if images is not None:
        # Of what was stored, which is not quite what the training had.
        stored = load_checkpoint(path).generator
        measured = measure_differences(stored, images(stored))
        for name, found in measured.items():
            logger.info("%s differs from fp32 by %s of 255", name, found)
        metadata = {**metadata, "precision": to_json(measured)}
        save_checkpoint(path, generator, metadata, dtype=dtype)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sums = path.with_name(path.name + ".sha256")
    sums.write_text(f"{digest}  {path.name}\n", encoding="utf-8", newline="\n")
    write_card(path, load_checkpoint(path).metadata, digest, curve)
    return path


def export_run(run: Path, out: Path | None = None, *, tables: str = "") -> list[Path]:
    """Exports a run's last state: the averaged weights if there are any, then the plain ones.

    Args:
        run: the run's folder, or the file of one of its states.
        out: the checkpoint's file; RUN/VARIANT.safetensors by default. If there are averaged
            weights, the plain ones get "-raw" after their name.
        tables: see `export_weights`.

    Raises:
        ConfigError: there is no state.
    """
    path, state = load_state(run)
    folder = path.parent.parent
    config = load_recipe(folder / "config.toml")
    model = config.model
    metadata = describe_checkpoint(folder, config, state["step"])
    out = out or folder / f"{model.variant}.safetensors"
    curve = draw_curve(folder)
    if model.variant == "devudp":
        metadata |= scene_metadata(config)
    jobs = [(out, state["G"])]
    if state["ema"] is not None:
        jobs = [(out, state["ema"]), (out.with_name(f"{out.stem}-raw{out.suffix}"), state["G"])]
    return [
        export_weights(
            weights,
            model.variant,
            metadata,
            file,
            norm=model.norm,
            shortcut=model.shortcut,
            curve=curve,
            tables=tables,
            images=partial(images_of_run, config),
        )
        for file, weights in jobs
    ]


def scene_metadata(config: Config) -> dict[str, str]:
    """The scene model (devudp_model/restoring/exposure.py) fitted on a run's sharp photographs."""
    try:
        domains = find_domains(config)
    except (OSError, ValueError) as error:
        logger.warning("No scene model: %s", error)
        return {}
    scene = fit_scene(sorted([*domains.sharp, *domains.to_blur]), config.seed)
    return {"scene": scene.to_json()} if scene else {}


def complete_checkpoint(
    path: Path,
    out: Path,
    *,
    sharp: Path | None = None,
    licence: str = "",
    tables: str = "",
    images: Sequence[Path] = (),
) -> Path:
    """Adds to a checkpoint's metadata; the weights stay as they are.

    Args:
        sharp: a folder of sharp photographs to fit the scene model on: those that the recipe in
            the metadata would train on.
        licence, tables: see `describe_checkpoint`, `export_weights`.
        images: folders of degraded images to measure the precisions on.

    Raises:
        CheckpointError, FileNotFoundError: see there.
    """
    checkpoint = load_checkpoint(path, fold=False)
    metadata = dict(checkpoint.metadata)
    if licence:
        metadata["licence"] = licence
    if sharp is not None:
        config = parse_recipe(metadata["recipe"])
        data = dataclasses.replace(config.data, sharp=(str(sharp),))
        metadata |= scene_metadata(dataclasses.replace(config, data=data))
    weights = checkpoint.generator.state_dict()
    measured_on = partial(images_of_folders, images) if images else None
    return export_weights(
        weights, checkpoint.generator.variant, metadata, out, tables=tables, images=measured_on
    )


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = plain_parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run, one of its states, or a .safetensors file")
    add("--out", type=Path, metavar="FILE",
        help="the .safetensors file to write; default: it lies in the run's folder")  # fmt: skip
    add("--tables", type=Path, metavar="FILE", help="Markdown to put into the model card")
    add("--onnx", action="store_true", help="also write an .onnx file beside it, and check it")
    add = parser.add_argument_group("of a .safetensors file").add_argument
    add("--licence", default="", metavar="TEXT", help="the licence of the weights")
    add("--sharp", type=Path, metavar="DIR",
        help="fit the scene model on the sharp photographs of this folder")  # fmt: skip
    add("--images", type=Path, nargs="+", default=[], metavar="DIR",
        help="measure how far 16 bits are from fp32 on degraded images")  # fmt: skip
    return parser


def main(arguments: Sequence[str]) -> None:
    """``devudp-train export``; see the top of this file."""
    options = make_parser().parse_args(arguments)
    if options.out and options.out.suffix != ".safetensors":
        raise ConfigError(f"--out {options.out} should end in .safetensors")
    tables = options.tables.read_text(encoding="utf-8") if options.tables else ""
    if options.run.suffix == ".safetensors":
        files = [options.run]
        more = {"sharp": options.sharp, "licence": options.licence, "tables": tables}
        more["images"] = options.images
        if any(more.values()):
            files = [complete_checkpoint(options.run, options.out or options.run, **more)]
    else:
        files = export_run(options.run, options.out, tables=tables)
    if options.onnx:
        generator = load_checkpoint(files[0]).generator
        target = (options.out or files[0]).with_suffix(".onnx")
        export_onnx(generator, target)
        logger.info("%s agrees to %.1e", target, check_onnx(generator, target))
        files.append(target)
    for file in files:
        logger.info("%s (%.1f MB)", file.as_posix(), file.stat().st_size / 1e6)
