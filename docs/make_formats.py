"""Writes the table in docs/formats.md from the code that reads and writes.

python docs/make_formats.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from devudp_model.images.formats import TABLE, Format  # noqa: E402 (need not be installed)

PAGE = ROOT / "docs" / "formats.md"
START = "<!-- image formats: made by docs/make_formats.py from devudp_model/images/formats.py -->"
END = "<!-- end of the image formats -->"

HEAD = (
    "format", "suffixes", "read", "written", "bits read", "bits written", "colour kept", "turned",
    "EXIF", "IPTC", "XMP", "gain map", "transparency", "notes",
)  # fmt: skip


def yes(value: bool) -> str:
    """A cell that says whether."""
    return "yes" if value else "no"


def row(format: Format) -> str:
    """One format's row; a format that is only read says what its results, PNG, keep of it."""
    needs = f'yes, extra "{format.extra}"' if format.extra else "yes"
    suffixes = " ".join(format.suffixes[:8]) + (" ..." if len(format.suffixes) > 8 else "")
    colour = ", ".join(format.colour) or "becomes sRGB"
    cells = [
        format.label,
        suffixes,
        needs,
        (needs if format.writes else "no, results are PNG"),
        f"{format.read_bits}",
        f"{format.write_bits}" if format.writes else "16" if format.read_bits > 8 else "8",
        colour,
        "yes, upright",
        yes(format.exif),
        yes(format.iptc),
        yes(format.xmp),
        "taken out and said",
        yes(format.alpha),
        format.note,
    ]
    return f"| {' | '.join(cells)} |"


def table() -> Iterator[str]:
    """The lines of the table."""
    yield f"| {' | '.join(HEAD)} |"
    yield "|" + "---|" * len(HEAD)
    for format in TABLE:
        yield row(format)


def page() -> str:
    """docs/formats.md with its table made anew."""
    before, start, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    assert start and end, f"{PAGE} has no markers"
    rows = "\n".join(table())
    return f"{before}{START}\n\n{rows}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"Wrote the table in {PAGE}")
