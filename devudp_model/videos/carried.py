"""Reads what a container says of a video: title, dates, place, chapters, what MP4 lacks."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

from .hdr import DYNAMIC
from .planes import Layout
from .pyav import is_cover, video_stream
from .reader import VideoReader

OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
"""Metadata that are about the file as it was, not about the video."""

PLAIN = {
    "title", "artist", "album_artist", "album", "composer", "comment", "copyright", "date", "genre",
    "description", "synopsis", "keywords", "show", "episode_id", "network", "lyrics", "grouping",
    "creation_time", "location", "timecode", "track", "disc",
}  # fmt: skip
"""Metadata that MP4 has names of its own for; others need Apple's way, where every key has one."""


def metadata_of(container: Any) -> dict[str, str]:
    """Returns what a container says of the video."""
    known = {key.lower(): value for key, value in container.metadata.items()}
    found = {key: value for key, value in known.items() if key not in OF_THE_FILE and value}
    streams = [video_stream(container), *container.streams]
    for key in ("timecode", "creation_time"):
        stated = (stream.metadata.get(key) for stream in streams)
        found.setdefault(key, next((value for value in stated if value), ""))
    return {key: value for key, value in found.items() if value and not key.startswith("location-")}


def options_for(metadata: dict[str, str]) -> dict[str, str]:
    """Returns the options of FFmpeg's writer of MP4 that these metadata need."""
    return {} if PLAIN.issuperset(metadata) else {"movflags": "use_metadata_tags"}


def copy_chapters(reader: Any, out: Any, base: Fraction, seconds: float) -> None:
    """Writes the chapters of another container, from `base` on."""
    if not hasattr(reader, "chapters") or not hasattr(out, "set_chapters"):
        return
    chapters = []
    for number, chapter in enumerate(reader.chapters()):
        unit = Fraction(chapter["time_base"])
        start, end = (int(chapter[key] - base / unit) for key in ("start", "end"))
        if end <= 0 or (seconds and start * unit >= seconds):
            continue
        chapters.append({**chapter, "id": number, "start": max(start, 0), "end": end})
    if chapters:
        out.set_chapters(chapters)


def left_out(container: Any) -> list[str]:
    """Returns a sentence for each kind of stream that is not taken over."""
    counts: Counter[str] = Counter()
    chosen = video_stream(container)
    chapters = bool(container.chapters()) if hasattr(container, "chapters") else False
    for stream in container.streams:
        name = getattr(getattr(stream, "codec_context", None), "name", "") or ""
        if stream.type == "video" and stream is not chosen and not is_cover(stream):
            counts["further video"] += 1
        elif stream.type == "attachment":
            counts["attached file (such as fonts)"] += 1
        elif stream.type not in ("video", "audio", "subtitle"):
            tag = str(getattr(stream, "codec_tag", "") or "")
            handler = stream.metadata.get("handler_name", "")
            if stream.metadata.get("timecode") or (chapters and "text" in f"{name}{tag}{handler}"):
                continue  # written anew
            if chapters and not name and not stream.metadata.get("timecode"):
                continue
            counts["data track (such as positions or motion)"] += 1
    return [f"{count} {kind} left out." for kind, count in counts.items()]


def sentences(reader: VideoReader, layout: Layout, seen: int, total: int) -> list[str]:
    """Returns what is to be said of the images at the end.

    Args:
        reader: that has read all of them.
        layout: of the first frame.
        seen: how many frames came out.
        total: how many the file says it has; 0 if it does not say.
    """
    counts, colours, said = reader.counts, reader.colours, []
    if counts["deinterlaced"]:
        said.append("It is interlaced: deinterlaced (bwdif), one image for two fields.")
    if counts["scaled"]:
        width, height = reader.size
        other = "x".join(map(str, reader.other_size))
        said.append(
            f"Its size changes: {counts['scaled']} frames of {other} were scaled to "
            f"{width}x{height}, that of the first."
        )
    if layout.alpha or reader.video.metadata.get("alpha_mode") == "1":
        said.append("Its transparency is left out: MP4 has none.")
    if layout.bits > 10:
        said.append(f"Its {layout.bits} bits become 10.")
    if colours is not None and colours.recoded:
        said.append(f"Its colours, coded as {colours.recoded}, are coded as BT.709.")
    for name in dict.fromkeys(DYNAMIC[key] for key in reader.said if key in DYNAMIC):
        said.append(f"{name} is left out: its numbers are for the images as they were.")
    if "A53_CC" in reader.said:
        said.append("The closed captions inside the images are left out.")
    return said + damages(reader, seen, total)


def damages(reader: VideoReader, seen: int, total: int) -> list[str]:
    """Returns a sentence on what could not be read, if there is such."""
    packets = reader.counts["packets"] - reader.beginning.forgiven
    mended, said = reader.counts["frames"], []
    if sentence := reader.beginning.sentence():
        said.append(sentence)
    there, length = reader.missing_end
    if length:
        said.append(f"It ends early: {there:.1f} s of {length:.1f} s are there.")
    if not packets and not mended:
        return said
    of = f" of {total}" if total > seen else ""
    parts = [
        f"{packets} of its packets could not be read" if packets else "",
        f"{mended} frame{'s are' if mended > 1 else ' is'} damaged" if mended else "",
    ]
    what = " and ".join(filter(None, parts))
    return [*said, f"It is damaged: {what}; {seen}{of} frames were saved."]
