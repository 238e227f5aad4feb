"""Videos on the command line: frames per second, and memory. Linux only."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from .folders import make_folder
from .measure import restoring, time_and_peak
from .tables import Cell, Table


def table_of_frames(
    size: tuple[int, int], few: int, many: int, precision: str, device: torch.device
) -> Table:
    """Two videos, `few` and `many` frames long.

    Frames per second are those that the longer video has more: start-up does not count.
    """
    with tempfile.TemporaryDirectory() as folder:
        videos = [make_folder(Path(folder) / str(count), count, size) for count in (few, many)]
        found = [restore_video(each, precision, device) for each in videos]
    seconds, peaks = zip(*found, strict=True)
    rate = (many - few) / (seconds[1] - seconds[0])
    row: list[Cell] = [precision, rate, *(peak / 1e6 for peak in peaks)]
    header = ["precision", "frames a second"]
    header += [f"peak MB, {count} frames" for count in (few, many)]
    note = (
        "`devudp restore FOLDER --task joint --statistics shared`, reading and writing PNG. Peak "
        "of the process, Python and torch included."
    )
    return Table(f"Videos of {size[1]}x{size[0]}", header, [row], note, labels=1)


def restore_video(video: Path, precision: str, device: torch.device) -> tuple[float, int]:
    """Returns seconds, and the peak bytes of the process."""
    out = video.with_name(f"{video.name}-restored")
    how = "--statistics", "shared", "--precision", precision, "--device", device.type
    return time_and_peak(restoring(video, out, *how))
