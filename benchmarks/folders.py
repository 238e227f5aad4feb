"""Image files by the command line: how many a second, before and after; the peak of a large one;
and videos, as folders of their frames.

The network has one channel, so that nearly all is reading, writing and what a task does beside it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from devudp_model.checkpoint import save_checkpoint
from devudp_model.network.generator import Generator

from .measure import ROOT, restoring, time_and_peak
from .plan import Size
from .tables import Cell, Table

RUNS = 2
"""Of each version, in turn; the faster one counts."""


MIXED = ((256, 256), (240, 320), (480, 640), (384, 256), (360, 640), (512, 512), (300, 400))
"""Heights and widths of small images of all kinds."""


def table_of_folders(
    sizes: Sequence[Size], few: int, many: int, width: int | None, before: Path | None
) -> Table:
    """Files a second that the larger of two folders has more, so starting does not count.

    Args:
        sizes: heights and widths of the images, in turns.
        few, many: how many images; with no `few`, starting counts, as for a user.
        width: of the network; None for the shipped weights.
        before: a checkout of another version, to compare with.
    """
    versions = {**({"before": before.resolve()} if before else {}), "this version": ROOT}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        weights = None if width is None else make_weights(folder / "narrow.safetensors", width)
        inputs = [make_folder(folder / f"{count}", count, *sizes) for count in (few, many) if count]
        found: dict[str, list[float]] = {name: [] for name in versions}
        megabytes: dict[str, float] = {}
        for turn in range(RUNS):
            for name, root in versions.items():
                out = folder / f"{turn} {name}"
                seconds = [restore(root, each, out / each.name, weights) for each in inputs]
                found[name].append((many - few) / (seconds[-1] - sum(seconds[:-1])))
                files = [path.stat().st_size for path in (out / str(many)).iterdir()]
                megabytes[name] = sum(files) / len(files) / 1e6
    first = max(found[next(iter(versions))])
    rows: list[list[Cell]] = [
        [name, max(rates), max(rates) / first, megabytes[name]] for name, rates in found.items()
    ]
    network = "the shipped weights" if width is None else f"a network of width {width}"
    header = ["version", "files a second", "times the first", "MB a result"]
    what = "mixed small images" if len(sizes) > 1 else f"{sizes[0][1]}x{sizes[0][0]}"
    note = f"`devudp restore FOLDER --task joint` with {network}, PNG to PNG, {many} files"
    note += "." if few else ", starting included."
    return Table(f"Folders of {what}, {network}", header, rows, note, labels=1)


def table_of_large_file(size: tuple[int, int], bound: str) -> Table:
    """Returns the whole process's peak memory for one image file, of height and width `size`."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        weights = make_weights(folder / "narrow.safetensors", 1)
        images = make_folder(folder / "in", 1, size)
        how = "--memory", bound, "--device", "cpu", "--checkpoint", weights, "--file-memory", "8GB"
        _, peak = time_and_peak(restoring(images, folder / "out", *how))
    copies = 2 * 3 * size[0] * size[1]
    row: list[Cell] = [f"{size[1]}x{size[0]}", bound, copies / 1e9]
    row.append(peak / 1e9)
    header = ["image", "--memory", "two copies of the image, GB", "peak, GB"]
    note = "`devudp restore`, a network of width 1, a PNG file; peak of the whole process."
    return Table("Bounded memory of the command line", header, [row], note)


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


def make_weights(path: Path, width: int) -> Path:
    """Returns a network that changes images."""
    torch.manual_seed(0)
    generator = Generator("devudp", width)
    torch.nn.init.normal_(generator.head.weight, std=0.02)  # no droplets to heal
    save_checkpoint(path, generator, {}, dtype=torch.float32)
    return path


def make_folder(folder: Path, count: int, *sizes: tuple[int, int]) -> Path:
    """Parts of a photograph, enlarged, with a little noise; of these heights and widths in turn."""
    folder.mkdir()
    height, width = (max(side) for side in zip(*sizes, strict=True))
    with Image.open(ROOT / "samples" / "dark_coffee.jpg") as photograph:
        whole = photograph.convert("RGB").resize((width + count, height + count))
    rng = np.random.default_rng(0)
    for number in range(count):
        size = sizes[number % len(sizes)]
        part = whole.crop((number, number, number + size[1], number + size[0]))
        noisy = np.asarray(part) + rng.normal(0, 2, (*size, 3))
        pixels = noisy.clip(0, 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.png", compress_level=1)
    return folder


def restore(root: Path, images: Path, out: Path, weights: Path | None) -> float:
    """Seconds of the command line of the version in `root`."""
    own = [] if weights is None else ["--checkpoint", weights]
    command = restoring(images, out, "--device", "cpu", *own)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    quiet = subprocess.DEVNULL
    start = time.perf_counter()
    subprocess.run(command, cwd=root, env=environment, check=True, stdout=quiet, stderr=quiet)
    return time.perf_counter() - start
