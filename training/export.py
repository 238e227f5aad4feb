"""From a run to a checkpoint: safetensors, SHA-256, model card; ONNX where asked for.

devudp-train export runs/mine --out ComfyUI/models/devudp/mine.safetensors --onnx
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from devudp_model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from devudp_model.engine.precision import to_json
from devudp_model.generator import Generator, Norm, Variant
from devudp_model.tensor_files import PREFIXES

from .config import Config, ConfigError
from .data.domains import find_domains
from .differences import Images, images_of_folders, images_of_run, measure_differences
from .onnx_export import check_onnx, export_onnx
from .run.records import read_log, read_run
from .run.sheets import draw_curve
from .run.state import load_state
from .scene_fit import fit_scene
from .settings import load_recipe, parse_recipe, to_toml

logger = logging.getLogger("devudp")

CARD_ORDER = ("variant", "width", "depth", "data", "step", "seed", "hardware", "trained_with")

LICENCE = "not stated; it depends on the images trained on"


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


def write_card(path: Path, metadata: Mapping[str, str], digest: str, curve: Path | None) -> Path:
    """The model card of the checkpoint at `path`: what it is, and how it was made."""
    about = dict(metadata)
    recipe, tables = about.pop("recipe", ""), about.pop("metrics", "")
    order = dict.fromkeys([*CARD_ORDER, *sorted(about)])
    rows = [f"| {name.replace('_', ' ')} | {about[name]} |" for name in order if about.get(name)]
    lines = [
        f"# {path.stem}",
        "",
        f"Weights of DEvUDP's generator, variant `{about['variant']}`. Put `{path.name}` into",
        "ComfyUI's `models/devudp`, or give it to the command line:",
        "",
        f"    devudp restore photo.jpg --out restored --checkpoint {path.name}",
        "",
        "| | |",
        "|---|---|",
        *rows,
        f"| SHA-256 | `{digest}` |",
    ]
    if tables:
        lines += ["", "## Measured", "", tables.strip()]
    if curve is not None and curve.exists():
        beside = path.with_name(f"{path.stem}-curve.png")
        shutil.copyfile(curve, beside)
        lines += ["", "## Losses", "", f"![losses over the steps]({beside.name})"]
    if recipe:
        lines += ["", "## Recipe", "", "```toml", recipe.strip(), "```"]
    card = path.with_suffix(".md")
    card.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return card


def last_validation(out: Path) -> str:
    """The run's last validation as Markdown; empty if it had none."""
    lines = [line for line in read_log(out) if any(k.startswith("validation ") for k in line)]
    if not lines:
        return ""
    return describe_validation(lines[-1])


def describe_validation(line: Mapping[str, object]) -> str:
    """A line of log.jsonl with a validation, as Markdown."""
    rows = [
        f"| {name.removeprefix('validation ')} | {value:.3f} |"
        for name, value in line.items()
        if name.startswith("validation ") and isinstance(value, float)
    ]
    head = f"Held-out images, validation at step {line['step']}:"
    return "\n".join([head, "", "| | |", "|---|---|", *rows])


def describe_checkpoint(out: Path, config: Config, step: int) -> dict[str, str]:
    """The metadata of a run's checkpoint. The recipe is stored without the user's folder names."""
    about = read_run(out)
    bare = dataclasses.replace(config.data, sharp=(), blurry=(), frames=(), root="")
    model = dataclasses.replace(config.model, init=Path(config.model.init).name)
    loss = dataclasses.replace(config.loss, lpips_weights="")
    validation = dataclasses.replace(config.validation, degraded="", reference="")
    recipe = dataclasses.replace(config, data=bare, model=model, loss=loss, validation=validation)
    legs = about["legs"]
    machines = dict.fromkeys(leg["hardware"] for leg in legs)
    trained = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in leg["versions"].items()) for leg in legs
    )
    return {
        "recipe": to_toml(recipe),
        "data": f"{about['data']['images']} images, list's SHA-256 {about['data']['sha256']}",
        "step": str(step),
        "metrics": last_validation(out),
        "licence": LICENCE,
        "seed": str(config.seed),
        "trained_with": "; ".join(trained),
        "hardware": "; ".join(machines),
    }


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
    """The scene model (devudp_model/scene.py) fitted on a run's sharp photographs."""
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


def main(arguments: Sequence[str]) -> None:
    """``devudp-train export``; see the top of this file."""
    parser = argparse.ArgumentParser(prog="devudp-train export", description=export_run.__doc__)
    parser.add_argument("run", type=Path, help="a run, one of its states, or a .safetensors file")
    parser.add_argument("--out", type=Path, help="the .safetensors file to write")
    parser.add_argument("--tables", type=Path, help="Markdown to put into the model card")
    parser.add_argument("--licence", default="", help="of a .safetensors file: its licence")
    parser.add_argument(
        "--sharp", type=Path, help="of a .safetensors file: fit its scene model on this folder"
    )
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        default=[],
        help="of a .safetensors file: degraded images to measure its precisions on",
    )
    parser.add_argument("--onnx", action="store_true", help="an .onnx file beside it, checked")
    options = parser.parse_args(arguments)
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
        logger.info("%s (%.1f MB)", re.sub(r"\\", "/", str(file)), file.stat().st_size / 1e6)
