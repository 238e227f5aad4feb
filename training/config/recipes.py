"""Reads settings from recipes and the command line, and stores them.

config = load_recipe("paper-gopro")            # a shipped recipe, or a path to a .toml file
config = parse_overrides(config, ["--data.root", "GOPRO_Large", "--batch", "8"])
to_toml(config)                                # reads back as the same config
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from ..console import showing_help
from .ranges import ConfigError
from .settings import Config, Stage
from .stages import check, override, with_changes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parents[1] / "recipes"


def recipe_names() -> list[str]:
    """Returns the shipped recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_path(name: str | os.PathLike[str]) -> Path:
    """Returns the file of a shipped recipe, or the file that was named.

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
        return parse_recipe(path.read_text(encoding="utf-8"))
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_recipe(text: str) -> Config:
    """Returns a config from a recipe's text.

    Raises:
        ConfigError: see `load_recipe`.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}") from error
    return check(build_recipe(content))


def build_recipe(content: Mapping[str, Any]) -> Config:
    """Returns a config from a recipe's tables.

    Raises:
        ConfigError: see `flatten`.
    """
    plain = {key: value for key, value in content.items() if key != "stages"}
    config = with_changes(Config(), dict(flatten(Config, plain)))
    tables = content.get("stages", [])
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise ConfigError("stages are written as [[stages]] tables")
    stages = tuple(map(build_stage, tables))
    return dataclasses.replace(config, stages=stages)


def build_stage(table: Mapping[str, Any]) -> Stage:
    """Returns a stage from its table: name, length, and the settings that it changes."""
    table = dict(table)
    name, length = table.pop("name", None), table.pop("length", None)
    if not isinstance(name, str) or type(length) is not int:
        raise ConfigError("every [[stages]] table needs a name and a length (an integer)")
    try:
        return Stage(name, length, dict(flatten(Config, table)))
    except ConfigError as error:
        raise ConfigError(f"stage {name!r}: {error}") from error


def flatten(kind: type, table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings in nested tables, by their dotted names, with the types of their fields.

    Raises:
        ConfigError: an unknown key (with the nearest known one), or a value of a wrong type.
    """
    hints = get_type_hints(kind)
    for key, value in table.items():
        if key not in hints:
            raise ConfigError(f"unknown key {prefix}{key!r}: {nearest(key, hints)}")
        if not dataclasses.is_dataclass(hints[key]):
            yield prefix + key, convert(hints[key], value, prefix + key)
        elif isinstance(value, Mapping):
            yield from flatten(hints[key], value, f"{prefix}{key}.")  # pyright: ignore
        else:
            raise ConfigError(f"{prefix}{key} is a table of settings, not {value!r}")


def nearest(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """'did you mean ...?', or the list of what is known."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {match[0]!r}?" if match else f"known are {', '.join(known)}."


def convert(hint: Any, value: Any, name: str) -> Any:
    """Returns a TOML value as the field's type (an integer becomes a float, a list a tuple)."""
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
    """Returns the config with `--section.field value` arguments applied; --help lists all fields.

    Raises:
        ConfigError: values that do not go together.
        SystemExit: an unknown option (with near ones), or --help.
    """
    with showing_help():
        changed = tyro.cli(
            Config,
            default=dataclasses.replace(config, stages=()),
            args=list(arguments),
            prog=program or None,
            description="Settings, with the recipe's values as defaults:",
        )
    return check(override(config, changed, named_settings(arguments)))


def named_settings(arguments: Sequence[str]) -> set[str]:
    """Returns the settings that a command line names: "data.crop" for "--data.crop" and so on."""
    words = [a[2:].partition("=")[0].replace("-", "_") for a in arguments if a.startswith("--")]
    return {word.replace(".no_", ".") for word in words}


def to_toml(config: Config) -> str:
    """Returns the config as TOML; `load_recipe` reads it back as an equal one."""
    lines, tables = [], []
    for name, value in vars(config).items():
        if name == "stages":
            continue
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            rows = [toml_line(k, v) for k, v in vars(value).items() if v is not None]
            tables += ["", f"[{name}]", *rows]
        else:
            lines.append(toml_line(name, value))
    for stage in config.stages:
        rows = [toml_line(k, v) for k, v in stage.changes.items()]
        tables += [
            "",
            "[[stages]]",
            toml_line("name", stage.name),
            f"length = {stage.length}",
            *rows,
        ]
    return "\n".join([*lines, *tables, ""])


def toml_line(name: str, value: Any) -> str:
    """One setting; strings are written literally where TOML allows it (Windows paths)."""

    def one(v: Any) -> str:
        if isinstance(v, bool):
            return str(v).lower()
        if isinstance(v, str):
            plain = "'" not in v and v.isprintable()
            return f"'{v}'" if plain else json.dumps(v)  # JSON's escapes are TOML's too
        return repr(v)

    return f"{name} = " + (
        f"[{', '.join(map(one, value))}]" if isinstance(value, tuple) else one(value)
    )
