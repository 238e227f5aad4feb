"""Before and after in one view. No component of the library has 100 % and a label."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

FITTED, FULL = "fitted", "100 %"

VIEW = """<div class="compare {size}" style="--at: 50%">
<div class="images" tabindex="0" role="group" aria-label="{name}: before and after">
<img src="{before}" alt="{name}, before"><img class="after" src="{after}" alt="{name}, restored">
<span class="line"></span></div>
<label><span>Left of the line: before. Right of it: restored.</span>
<input type="range" min="0" max="100" value="50"
aria-label="Where the line is, percent from the left"
oninput="this.closest('.compare').style.setProperty('--at', this.value + '%')"></label></div>"""


def view(name: str, before: Path, after: Path, size: str) -> str:
    """HTML of two images of one size, and a slider between them.

    Args:
        name: of the photograph.
        before, after: files that the page may show.
        size: `FITTED` or `FULL`.
    """
    return VIEW.format(
        name=escape(name),
        before=address(before),
        after=address(after),
        size="full" if size == FULL else "fitted",
    )


def address(path: Path) -> str:
    """Returns where the page finds a file; with its time, so that a new one is seen as new."""
    quoted = path.resolve().as_uri().removeprefix("file:///" if os.name == "nt" else "file://")
    return f"/gradio_api/file={quoted}?{path.stat().st_mtime_ns}"
