"""Writes docs/api.md from the docstrings of the public names.

python -m tools.make_api
"""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import devudp_model

ROOT = Path(__file__).parents[1]

PAGE = ROOT / "docs" / "api.md"
SECTIONS = ("Args", "Attributes", "Returns", "Raises")
WIDTH = 100
"""Longer signatures get a line for each parameter."""


def page() -> str:
    """Returns all of docs/api.md."""
    names = sorted(name for name in devudp_model.__all__ if name != "__version__")
    public = {name: getattr(devudp_model, name) for name in names}
    parts = [
        "# The Python package",
        "<!-- Made by tools/make_api.py from the docstrings. Change those, then run it again. -->",
        *paragraphs(inspect.getdoc(devudp_model) or ""),
        "`devudp_model.__version__` is the version of the package. Everything that is not on this "
        "page may change without notice.",
    ]
    for name, value in public.items():
        parts += described(name, value)
    if returned := sorted(returned_classes(public.values()), key=lambda cls: cls.__name__):
        parts += ["## What comes back", *(p for c in returned for p in described(c.__name__, c, 3))]
    return "\n\n".join(parts) + "\n"


def returned_classes(public: typing.Iterable[Any]) -> set[type]:
    """Classes of this package that public functions return, and that are not public by name."""
    public = list(public)
    found = set()
    for value in filter(inspect.isfunction, public):
        cls = typing.get_type_hints(value).get("return")
        ours = isinstance(cls, type) and cls.__module__.startswith(devudp_model.__name__)
        if isinstance(cls, type) and ours and cls not in public:
            found.add(cls)
    return found


def described(name: str, value: Any, level: int = 2) -> list[str]:
    """Returns a heading, the signature, and what the docstring says."""
    doc = inspect.getdoc(value) or ""
    assert doc, f"{name} is public and has no docstring"
    code = signature(name, value).replace("'", '"')
    parts = [f"{'#' * level} {name}", f"```python\n{code}\n```", *paragraphs(doc)]
    if "__call__" in vars(value):
        call = signature("", value.__call__).replace("(self, ", "(").replace("    self,\n", "")
        call = f"```python\n{call}\n```".replace("'", '"')
        parts += [f"**Calling one**\n\n{call}", *paragraphs(inspect.getdoc(value.__call__) or "")]
    return parts


def signature(name: str, value: Any) -> str:
    """As one would write it, with the annotations as they stand in the code."""
    found = inspect.signature(value)
    if inspect.isclass(value):
        found = found.replace(return_annotation=inspect.Signature.empty)
    # Annotations are strings (from __future__ import annotations), which str() would quote.
    one_line = re.sub(r"'([^']*)'(?=[,)]| =|$)", unquote, f"{name}{found}")
    if len(one_line) <= WIDTH:
        return one_line
    lines, star = [], False
    for parameter in found.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not star:
            lines.append("*")
            star = True
        line = re.sub(r": '(.*?)'(?= = |$)", r": \1", str(parameter))
        lines.append(re.sub(r"(\w+) = <factory>$", r"\1 = \1()", line))
    end = one_line[one_line.rindex(")") :]
    return f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + end


def unquote(match: re.Match[str]) -> str:
    before = match.string[: match.start()]
    return match[1] if before.endswith((": ", "-> ")) else match[0]


def paragraphs(doc: str) -> Iterator[str]:
    """Yields a docstring as Markdown: sections become lists, indented lines become code."""
    section = ""
    for block in re.split(r"\n\s*\n", doc):
        heading, _, rest = block.partition("\n")
        if heading.rstrip(":") in SECTIONS and heading.endswith(":"):
            section = heading.rstrip(":")
            yield f"**{section}**"
            yield entries(rest, section)
        elif all(line.startswith("    ") for line in block.splitlines()):
            yield "```python\n" + textwrap.dedent(block) + "\n```"
        else:
            yield from text_then_code(block)


def text_then_code(block: str) -> Iterator[str]:
    """Prose; a code example may follow it without an empty line."""
    lines = block.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("    ")), len(lines))
    yield " ".join(line.strip() for line in lines[:first])
    if first < len(lines):
        yield "```python\n" + textwrap.dedent("\n".join(lines[first:])) + "\n```"


def entries(text: str, section: str) -> str:
    """`name: what it is`, continued on lines that are indented further, as a list."""
    text = textwrap.dedent(text)
    if section == "Returns":
        return " ".join(line.strip() for line in text.splitlines())
    items: list[str] = []
    for line in text.splitlines():
        if line.startswith(" ") and items:
            items[-1] += " " + line.strip()
        else:
            items.append(line)
    return "\n".join(re.sub(r"^([\w, ]+?):", r"- `\1`:", item) for item in items)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"Wrote {PAGE}")
