"""Describes a checkpoint: its metadata and its model card."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

from ..config import Config
from ..config.recipes import to_toml
from ..run.records import read_log, read_run

CARD_ORDER = ("variant", "width", "depth", "data", "step", "seed", "hardware", "trained_with")

LICENCE = "not stated; it depends on the images trained on"


def write_card(path: Path, metadata: Mapping[str, str], digest: str, curve: Path | None) -> Path:
    """Returns the model card of the checkpoint at `path`: what it is, and how it was made."""
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
    """Returns the run's last validation as Markdown; empty if it had none."""
    lines = [line for line in read_log(out) if any(k.startswith("validation ") for k in line)]
    if not lines:
        return ""
    line = lines[-1]
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
