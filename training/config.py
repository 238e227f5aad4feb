"""A training's settings: frozen dataclasses, read from a recipe and overridden on the command line.

config = load_recipe("paper-gopro")            # a shipped recipe, or a path to a .toml file
config = parse_overrides(config, ["--data.root", "GOPRO_Large", "--batch", "8"])
save_config(config, "config.toml")             # reads back as the same config
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from devudp_model.generator import Norm, Variant

from .sides import DataConfig
from .step import LossWeights

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parent / "recipes"


class ConfigError(ValueError):
    """A setting that cannot be used; the message says which and what to do."""


@dataclass(frozen=True)
class ModelConfig:
    """The networks.

    Attributes:
        variant: "devudp" (Fig. 5a) or "devudp-dt" (Fig. 5b).
        width: channels of G and G_inv at full resolution (the paper's: 64).
        depth: residual blocks in each of their stages (the paper's: 2).
        norm: ablation: "instance" or "batch" in place of the variant's own.
        shortcut: ablation: with or without the global shortcut, in place of the variant's own.
        G_inv_width: G_inv's, where it is not to be G's; a narrower one makes steps cheaper, and
            G_inv is not needed afterwards.
        G_inv: "network" (the paper's), or "known blur": in its place the very blur that was made
            on the fly (see `training/known_blur.py`). Needs data.made_blur = 1.
        calibrate: BatchNorm takes its running statistics from this many batches before the first
            step; with schedule.freeze_norm = 0 it keeps them. 0: not (the paper's).
        D_width: channels of the discriminator after its first convolution.
        init: a checkpoint to start G from (.safetensors); empty: from random numbers.
    """

    variant: Variant = "devudp"
    width: int = 64
    depth: int = 2
    norm: Norm | None = None
    shortcut: bool | None = None
    G_inv_width: int | None = None
    G_inv: Literal["network", "known blur"] = "network"
    calibrate: int = 0
    D_width: int = 64
    init: str = ""


@dataclass(frozen=True)
class ScheduleConfig:
    """How long, and how fast.

    Attributes:
        unit: what the numbers below count: "epochs" (each picture of A once) or "steps".
        length: of the whole training.
        halve_every: the learning rate is halved this often.
        freeze_norm: from here on BatchNorm uses its running statistics instead of the batch's; for
            "devudp-dt" with small batches, whose statistics are noisy. None: never (the paper's).
        lr: the learning rate at the start, of both optimizers.
        warm_up: steps in which it grows to that from nothing.
        max_norm: longer gradients of the generators are shortened to this. None: none are.
        betas: Adam's.
    """

    unit: Literal["epochs", "steps"] = "epochs"
    length: int = 200
    halve_every: int = 50
    freeze_norm: int | None = None
    lr: float = 2e-4
    warm_up: int = 0
    max_norm: float | None = None
    betas: tuple[float, float] = (0.5, 0.999)


@dataclass(frozen=True)
class SpeedConfig:
    """What changes the speed and not (or hardly) the result.

    Attributes:
        device: "auto" (a GPU where there is one), "cpu", or "cuda".
        precision: "fp32", the reference, or "bf16" (autocast).
        compile: torch.compile the networks: a minute at the start, faster steps.
        channels_last: memory format of pictures and weights.
        workers: processes that load pictures; 0: none beside the training's own.
        threads: CPU threads of each process; 0: PyTorch's choice.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    channels_last: bool = False
    workers: int = 2
    threads: int = 0


@dataclass(frozen=True)
class RecordConfig:
    """What is written during the training; every number counts steps, 0 means never.

    Attributes:
        log_every: losses, averaged, to the log and TensorBoard.
        save_every: a state to resume from; the last two are kept.
        sample_every: a picture of what the networks do.
        weights_every: G's weights as a checkpoint, all of them kept.
        tensorboard: whether to write TensorBoard's files.
    """

    log_every: int = 50
    save_every: int = 1000
    sample_every: int = 1000
    weights_every: int = 0
    tensorboard: bool = True


@dataclass(frozen=True)
class Config:
    """Everything that a training depends on, besides the pictures themselves.

    Attributes:
        seed: all random numbers follow from it.
        batch: pictures of each domain in one step, of all processes together (the paper's: 4).
        ema: decay of the exponential moving average of G's weights, e.g. 0.998; 0: none.
        pool: L = G(A) of this many earlier pictures are kept to train D on, as CycleGAN does;
            0: none (the paper's).
    """

    seed: int = 0
    batch: int = 4
    ema: float = 0.0
    pool: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    record: RecordConfig = field(default_factory=RecordConfig)

    def __post_init__(self) -> None:
        low, high = self.data.short_side
        checks = {
            "batch must be at least 1": self.batch >= 1,
            "ema must be from 0 to below 1": 0 <= self.ema < 1,
            "schedule.length and schedule.halve_every must be at least 1": min(
                self.schedule.length, self.schedule.halve_every
            )
            >= 1,
            "data.crop must be at least 24 pixels, D's smallest picture": self.data.crop >= 24,
            "data.short_side must be two numbers, the smaller one first": low <= high,
            "one of loss.t_branch and loss.s_branch must be on": self.loss.t_branch
            or self.loss.s_branch,
            "model.G_inv = 'known blur' needs data.made_blur = 1, no data.blurry and no "
            "data.frames, since nobody knows their blur (the recipe unpaired takes them)": (
                self.model.G_inv == "network" or self.data.all_blur_is_made
            ),
            "data.crop must be above 24 pixels with model.G_inv 'known blur', which leaves out 12 "
            "at each side": self.model.G_inv == "network" or self.data.crop > 24,
            "data.again_scale of data.crop must be at least 24 pixels, of which 8 remain": (
                not self.loss.again or self.data.again_scale * self.data.crop >= 24
            ),
            "data.again_times and loss.branches_every must be at least 1": min(
                self.data.again_times, self.loss.branches_every
            )
            >= 1,
            "loss.branches_every above 1 needs loss.again: other steps have no other loss": (
                self.loss.branches_every == 1 or self.loss.again > 0
            ),
            "loss.again needs data.again_extent": not self.loss.again
            or self.data.again_extent is not None,
        }
        for demand, met in checks.items():
            if not met:
                raise ConfigError(f"{demand}. Change it in the recipe or on the command line.")


def recipe_names() -> list[str]:
    """The shipped recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_path(name: str | os.PathLike[str]) -> Path:
    """The file of a shipped recipe, or the file that was named.

    Raises:
        ConfigError: neither exists; the message has the nearest name.
    """
    for path in (Path(name), RECIPES / f"{name}.toml"):
        if path.suffix == ".toml" and path.is_file():
            return path
    raise ConfigError(
        f"no recipe {name}: {nearest(str(name), recipe_names())} "
        f"Shipped are {', '.join(recipe_names())}; or name a .toml file."
    )


def load_recipe(name: str | os.PathLike[str]) -> Config:
    """Reads a recipe; what it does not mention keeps its default.

    Raises:
        ConfigError: no such recipe, no TOML, or an unknown key or a value of a wrong type in it.
    """
    path = recipe_path(name)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return build(Config, content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def build(kind: type, content: Mapping[str, Any], prefix: str = "") -> Any:
    """A config dataclass from nested tables.

    Raises:
        ConfigError: an unknown key (with the nearest known one), or a value of a wrong type.
    """
    hints, values = get_type_hints(kind), {}
    for key, value in content.items():
        if key not in hints:
            raise ConfigError(f"unknown key {prefix}{key!r}: {nearest(key, hints)}")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{prefix}{key} is a table of settings, not {value!r}")
            values[key] = build(hints[key], value, f"{prefix}{key}.")
        else:
            values[key] = convert(hints[key], value, prefix + key)
    return kind(**values)


def nearest(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """'did you mean ...?', or the list of what is known."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {match[0]!r}?" if match else f"known are {', '.join(known)}."


def convert(hint: Any, value: Any, name: str) -> Any:
    """A TOML value as the field's type wants it (an integer for a float, a list for a tuple)."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):  # X | None
        return convert(next(arg for arg in args if arg is not type(None)), value, name)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{name} = {value!r}: {nearest(str(value), args)}")
        return value
    if origin is tuple and isinstance(value, list):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(kinds) == len(value):
            return tuple(convert(k, v, name) for k, v in zip(kinds, value, strict=True))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint:
        return value
    kind = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise ConfigError(f"{name} = {value!r} should be {kind}")


def parse_overrides(config: Config, arguments: Sequence[str], *, program: str = "") -> Config:
    """The config with `--section.field value` arguments put over it; --help lists all fields.

    Raises:
        ConfigError: values that do not go together.
        SystemExit: an unknown option (with near ones), or --help.
    """
    return tyro.cli(
        Config,
        default=config,
        args=list(arguments),
        prog=program or None,
        description="Settings, with the recipe's values as defaults:",
    )


def to_toml(config: Config) -> str:
    """The config as TOML; `load_recipe` reads it back as an equal one."""
    lines, tables = [], []
    for name, value in shallow(config).items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            rows = [toml_line(k, v) for k, v in shallow(value).items() if v is not None]
            tables += ["", f"[{name}]", *rows]
        else:
            lines.append(toml_line(name, value))
    return "\n".join([*lines, *tables, ""])


def shallow(config: Any) -> dict[str, Any]:
    """A dataclass's fields by name, in order."""
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def toml_line(name: str, value: Any) -> str:
    """One setting; strings are written literally where TOML allows it (Windows paths)."""

    def one(v: Any) -> str:
        if isinstance(v, bool):
            return str(v).lower()
        if isinstance(v, str):
            plain = "'" not in v and v.isprintable()
            escaped = v.replace("\\", "\\\\").replace('"', '\\"')
            return f"'{v}'" if plain else f'"{escaped}"'
        return repr(v)

    return f"{name} = " + (
        f"[{', '.join(map(one, value))}]" if isinstance(value, tuple) else one(value)
    )
