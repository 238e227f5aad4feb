"""Before and after in one view. No component of the library has 100 % and a label."""

from __future__ import annotations

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

CSS = """
.compare .images {position: relative; overflow: auto; max-height: 75vh; border-radius: 8px}
.compare.fitted img {width: 100%; height: auto; max-height: 75vh; object-fit: contain}
.compare.full img {max-width: none; width: auto; height: auto}
.compare img {display: block}
.compare img.after {position: absolute; top: 0; left: 0; clip-path: inset(0 0 0 var(--at))}
.compare .images {display: grid; justify-items: start}
.compare .images > * {grid-area: 1 / 1}
.compare .line {position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px;
  background: #fff; box-shadow: 0 0 3px #000; pointer-events: none}
.compare.full .line {display: none}
.compare input[type=range] {width: 100%; margin: 0}
.compare label span {font-size: .9rem}
.devudp-note {font-size: .95rem}
#photos [title="common.upload"] {display: none}  /* a button within a button, without a name */
#photos a {color: inherit}
"""


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
    """Where the page finds a file; with its time, so that a new one is not taken for the old."""
    quoted = path.resolve().as_uri().removeprefix("file://")
    return f"/gradio_api/file={quoted}?{path.stat().st_mtime_ns}"
