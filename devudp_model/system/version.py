"""The version: of the clone that this file lies in, or of the installed package."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path


def version() -> str:
    """From pyproject.toml, which a clone and a node pack have; else from installed metadata."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    try:
        text = project.read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r'^version = "([^"]+)"', text, re.MULTILINE)
    if found and re.search(r'^name = "devudp"', text, re.MULTILINE):
        return found[1]
    try:
        return installed_version("devudp")
    except PackageNotFoundError:
        return "unknown"
