"""Writes the tables in docs/formats.md from the code that reads and writes.

python -m tools.make_formats
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from devudp_model.images.formats import TABLE, Format
from devudp_model.videos.formats import TABLE as VIDEOS
from devudp_model.videos.tracks import COPIED_SOUND, TEXT

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "formats.md"
START = "<!-- image formats: made by tools/make_formats.py from devudp_model/images/formats.py -->"
END = "<!-- end of the image formats -->"

HEAD = (
    "format", "suffixes", "read", "written", "bits read", "bits written", "colour kept", "turned",
    "EXIF", "IPTC", "XMP", "gain map", "transparency", "notes",
)  # fmt: skip


def yes(value: bool) -> str:
    """Returns a cell that says whether."""
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
        "yes, turned with the image" if format.gain_map else "left out, reported",
        yes(format.alpha),
        format.note,
    ]
    return f"| {' | '.join(cells)} |"


def table() -> Iterator[str]:
    """Yields the lines of the table."""
    yield f"| {' | '.join(HEAD)} |"
    yield "|" + "---|" * len(HEAD)
    for format in TABLE:
        yield row(format)


VIDEO_START = "<!-- video formats: made from devudp_model/videos/formats.py -->"
VIDEO_END = "<!-- end of the video formats -->"

VIDEO_HEAD = (
    "format", "suffixes", "read", "written", "bits read", "bits written", "chroma", "colour kept",
    "HDR", "turned", "fields", "sound copied", "sound converted", "subtitles", "chapters",
    "metadata", "transparency", "notes",
)  # fmt: skip


def video_table() -> Iterator[str]:
    """The lines of the table of videos; what is restored becomes MP4, so much is the same in all
    rows."""
    yield f"| {' | '.join(VIDEO_HEAD)} |"
    yield "|" + "---|" * len(VIDEO_HEAD)
    common = (
        "16", "8, 10", "4:2:0, 4:2:2, 4:4:4: no coarser", "matrix, primaries, transfer, range",
        "PQ, HLG", "yes, upright", "become frames (bwdif), reported",
        ", ".join(sorted(COPIED_SOUND)), "to AAC, reported",
        f"mov_text; {', '.join(sorted(TEXT))} become it", "yes", "yes",
        "left out, reported",
    )  # fmt: skip
    for each in VIDEOS:
        written = "yes" if ".mp4" in each.suffixes else "no, what is restored becomes MP4"
        cells = each.label, " ".join(each.suffixes), 'yes, extra "video"', written
        yield f"| {' | '.join([*cells, *common, each.note])} |"


def page() -> str:
    """docs/formats.md with its tables made anew."""
    text = PAGE.read_text(encoding="utf-8")
    text = with_table(text, START, END, table())
    return with_table(text, VIDEO_START, VIDEO_END, video_table())


def with_table(text: str, start: str, end: str, lines: Iterable[str]) -> str:
    """Returns a text with what is between two markers made anew."""
    before, found, rest = text.partition(start)
    _, ended, after = rest.partition(end)
    assert found and ended, f"no markers: {start}"
    rows = "\n".join(lines)
    return f"{before}{start}\n\n{rows}\n\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"Wrote the table in {PAGE}")
