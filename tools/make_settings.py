"""Writes the tables of settings in docs/training.md from the fields of training/config/.

python -m tools.make_settings
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

from training.config import Config, Stage
from training.config.check import RANGES
from training.config.recipes import toml_line

from .make_formats import with_table

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "training.md"
START = "<!-- settings: made by tools/make_settings.py from training/config/ -->"
END = "<!-- end of the settings -->"


def meanings(kind: type) -> dict[str, str]:
    """Reads what stands below each field of a dataclass, by the field's name."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    return {
        ast.unparse(field.target): " ".join(str(below.value.value).split())
        for field, below in pairwise(tree.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


def heading(kind: type) -> str:
    """Returns a dataclass's docstring on one line."""
    return " ".join((inspect.getdoc(kind) or "").split())


def option(name: str, default: Any) -> str:
    """Spells a setting as the command line does."""
    word = name.replace("_", "-")
    if not isinstance(default, bool):
        return f"`--{word}`"
    before, _, last = word.rpartition(".")
    return f"`--{word}`, `--{before}.no-{last}`"


def shown(default: Any) -> str:
    """Returns a default value as a recipe would have it."""
    return "none" if default is None else f"`{toml_line('', default).removeprefix(' = ')}`"


def table(kind: type, prefix: str = "") -> Iterator[str]:
    """Yields the rows of one section."""
    known = meanings(kind)
    yield "| option | default | range | meaning |"
    yield "|---|---|---|---|"
    for field in dataclasses.fields(kind):
        if field.name == "stages" or dataclasses.is_dataclass(get_type_hints(kind)[field.name]):
            continue
        name, default = prefix + field.name, field.default
        limits = str(RANGES[name]) if name in RANGES else ""
        meaning = known[field.name].replace("|", "\\|").replace("<", "\\<")
        yield f"| {option(name, default)} | {shown(default)} | {limits} | {meaning} |"


def settings() -> list[str]:
    """Returns the lines of all sections, as Markdown."""
    lines = ["### The whole run", "", *table(Config)]
    for name, hint in get_type_hints(Config).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            lines += ["", f"### {name}", "", heading(hint), "", *table(hint, f"{name}.")]
    lines += ["", "### stages", "", f"{heading(Stage)} In a recipe only:", ""]
    lines += [f"- `{name}`: {meaning}" for name, meaning in meanings(Stage).items()]
    return lines


def page() -> str:
    """docs/training.md with its tables made anew."""
    return with_table(PAGE.read_text(encoding="utf-8"), START, END, settings())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"Wrote the settings in {PAGE}")
