"""devudp-train check-data: lists the images a training would use and reports what is wrong.

    devudp-train check-data devudp --data.sharp my/sharp
    devudp-train check-data unpaired --data.sharp my/sharp --data.blurry my/blurry --sheet crops.png
    devudp-train check-data devudp --data.sharp my/sharp --manifest my.tsv

Errors end it with status 1: images that cannot be read or have more than 8 bits, the same image in
both domains, files that differ from a manifest. That some images are too small, and would be
enlarged, is a warning. For manifests see `training/data/manifest.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..config import Config
from ..method.reblur import MARGIN
from ..settings import load_recipe, parse_overrides
from .dataset import UnpairedPictures, develop
from .domains import DataConfig, Sides, find_sides
from .image_cache import UnreadableImage, decode
from .manifest import (
    compare,
    make_manifest,
    name_files,
    read_manifest,
    read_sources,
    write_manifest,
)
from .sheets import Cell, Row, draw_sheet

logger = logging.getLogger("devudp")

SHOWN_CASES = 10
SHEET_ROWS, SHEET_PAIRS = 6, 3

HIGH_BIT_DEPTH_MODES = {"I", "F", "I;16", "I;16B", "I;16L"}
"""Pillow's modes with more than 8 bits, which `decode` would clip to white."""


@dataclass(frozen=True)
class Inspection:
    """One file: its width and height, a hash of its decoded pixels, or what is wrong with it."""

    path: Path
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    error: str = ""


@dataclass(frozen=True)
class Group:
    """Images with one role in the training.

    Attributes:
        name: what the report calls them.
        domain: "A" (blurry) or "B" (sharp).
        paths: the files.
        cut: side in pixels of the square that is cut from each before all else; a smaller image is
            enlarged first.
    """

    name: str
    domain: str
    paths: Sequence[Path]
    cut: int


def cut_sides(data: DataConfig) -> tuple[int, int]:
    """Sides in pixels of the squares cut for A, without the margin of synthetic blur, and for B."""
    if not data.blurs_A_again:
        return data.crop, data.crop
    side = round((data.crop + 2 * MARGIN) / data.again_scale)
    return side, round(data.crop / data.again_scale)


def group_images(data: DataConfig, sides: Sides) -> list[Group]:
    """The images by their role, without roles that have none."""
    A_side, B_side = cut_sides(data)
    frames = [frame for clip in sides.clips for frame in clip]
    groups = [
        Group("A, blurry", "A", sides.real_blurry, A_side),
        Group("A, sharp images to be blurred", "A", sides.to_blur, A_side + 2 * MARGIN),
        Group(f"A, frames of {len(sides.clips)} clips", "A", frames, A_side),
        Group("B, sharp", "B", sides.sharp, B_side),
    ]
    return [group for group in groups if group.paths]


def inspect(path: Path) -> Inspection:
    """Decodes one file."""
    try:
        with Image.open(path) as image:
            mode = image.mode
        pixels = decode(path)
    except UnreadableImage as error:
        return Inspection(path, error=f"cannot be read: {error}")
    except OSError as error:
        return Inspection(path, error=f"cannot be read: {path}: {error}")
    if mode in HIGH_BIT_DEPTH_MODES:
        return Inspection(path, error=f"{path}: more than 8 bits ({mode}); convert it to 8-bit RGB")
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
    return Inspection(path, (pixels.shape[1], pixels.shape[0]), f"{pixels.shape}{digest}")


def find_errors(
    groups: Sequence[Group], inspected: Mapping[Path, Inspection]
) -> dict[str, list[str]]:
    """What makes images unfit for the training: cases by kind."""
    errors: dict[str, list[str]] = defaultdict(list)
    first: dict[str, dict[str, Path]] = defaultdict(dict)  # of each content, by domain
    for group in groups:
        for path in group.paths:
            found = inspected[path]
            if found.error:
                errors["unreadable or unsuitable"].append(found.error)
            else:
                first[found.digest].setdefault(group.domain, path)
    for by_domain in first.values():
        if len(by_domain) == 2:
            errors["the same image in both domains (they must be unpaired)"].append(
                f"{by_domain['A']} and {by_domain['B']}"
            )
    return dict(errors)


def find_enlarged(group: Group, inspected: Mapping[Path, Inspection]) -> list[str]:
    """The images of a group that are smaller than the square that is cut, smallest first."""
    small = [
        inspected[path]
        for path in group.paths
        if not inspected[path].error and min(inspected[path].size) < group.cut
    ]
    small.sort(key=lambda found: min(found.size))
    return [f"{found.path}: {found.size[0]}x{found.size[1]}" for found in small]


def describe(group: Group, inspected: Mapping[Path, Inspection]) -> str:
    """One line: how many images, their formats and sizes, and the side that is cut."""
    kinds = Counter(path.suffix.lower().lstrip(".") for path in group.paths)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    line = f"{group.name}: {len(group.paths)} images ({listed})"
    short = sorted(min(inspected[p].size) for p in group.paths if not inspected[p].error)
    if not short:
        return f"{line}; none can be read"
    return (
        f"{line}; short side {short[0]} to {short[-1]} pixels, median {short[len(short) // 2]}; "
        f"cut to {group.cut}x{group.cut}"
    )


def contact_sheet(config: Config) -> Image.Image:
    """Crops as the training will see them: what G is given of A, and B, in alternate columns."""
    data = UnpairedPictures(config.data, 0, config.seed)
    samples = [data[number] for number in range(SHEET_ROWS * SHEET_PAIRS)]
    batch = develop(samples, config.data, torch.device("cpu"))

    def cell(domain: str, image: Tensor) -> Cell:
        pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return Cell(domain, pixels.permute(1, 2, 0).numpy())

    cells = [
        cell(domain, image)
        for pair in zip(batch.A_input, batch.B, strict=True)
        for domain, image in zip("AB", pair, strict=True)
    ]
    width = 2 * SHEET_PAIRS
    return draw_sheet([Row("", cells[k : k + width]) for k in range(0, len(cells), width)])


def report(kind: str, cases: Sequence[str]) -> None:
    """Logs a kind of problem and some of its cases."""
    logger.warning("%s", kind)
    for case in cases[:SHOWN_CASES]:
        logger.warning("    %s", case)
    if len(cases) > SHOWN_CASES:
        logger.warning("    and %d more", len(cases) - SHOWN_CASES)


def check(config: Config, sheet: Path) -> int:
    """Inspects all images, logs a report, and writes the contact sheet.

    Returns:
        The number of errors.

    Raises:
        FileNotFoundError, ValueError: an empty domain, see `find_sides`.
        UnreadableImage: too few images can be read to make a sheet.
    """
    groups = group_images(config.data, find_sides(config.data))
    everything = [path for group in groups for path in group.paths]
    with ThreadPoolExecutor() as threads:
        inspected = {found.path: found for found in threads.map(inspect, everything)}
    for group in groups:
        logger.info(describe(group, inspected))
    for group in groups:
        if small := find_enlarged(group, inspected):
            report(
                f"Warning: {len(small)} of {len(group.paths)} images of '{group.name}' are smaller "
                f"than the {group.cut} pixels that are cut, and would be enlarged. Lower "
                "data.crop, or leave them out:",
                small,
            )
    errors = find_errors(groups, inspected)
    for kind, cases in errors.items():
        report(f"Error: {len(cases)} x {kind}:", cases)
    sheet.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(config).save(sheet)
    logger.info("Crops as the training sees them: %s", sheet)
    return sum(map(len, errors.values()))


def check_manifest(data: DataConfig, manifest: Path) -> int:
    """Compares the files with a manifest and names those that differ; returns their number.

    Raises:
        ConfigError: the manifest cannot be read.
    """
    named = name_files(data, list_files(data))
    differences = compare(read_manifest(manifest), named)
    for kind, names in differences._asdict().items():
        if names:
            report(f"Error: {len(names)} x {kind}, compared with {manifest}:", names)
    count = sum(map(len, differences))
    if not count:
        logger.info("All %d files are as in %s.", len(named), manifest)
    return count


def save_manifest(data: DataConfig, manifest: Path, sources: Path | None) -> None:
    """Writes a manifest of the files; those without a known source are counted.

    Raises:
        ConfigError: the table of sources cannot be read.
    """
    known = read_sources(sources) if sources else []
    entries = make_manifest(name_files(data, list_files(data)), known)
    write_manifest(entries, manifest)
    logger.info("%d files listed in %s", len(entries), manifest)
    unknown = [entry.file for entry in entries if not entry.source]
    if sources and unknown:
        report(f"Warning: {len(unknown)} files have no source in {sources}:", unknown)


def list_files(data: DataConfig) -> list[Path]:
    """All files that a training would use."""
    return [path for group in group_images(data, find_sides(data)) for path in group.paths]


def make_parser() -> argparse.ArgumentParser:
    """The command's own options; the others are settings of the recipe."""
    program = "devudp-train check-data RECIPE"
    parser = argparse.ArgumentParser(prog=program, add_help=False, allow_abbrev=False)
    parser.add_argument("recipe")
    parser.add_argument("--sheet", type=Path, default=Path("check-data.png"))
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--write-manifest", type=Path)
    parser.add_argument("--sources", type=Path)
    return parser


def main(arguments: Sequence[str]) -> None:
    """RECIPE [--sheet FILE] [--manifest FILE] [--write-manifest FILE [--sources FILE]]
    [--section.field VALUE ...]

    Raises:
        SystemExit: with status 1 after errors in the data.
    """
    parser = make_parser()
    known, rest = parser.parse_known_args(arguments)
    if known.sources and not known.write_manifest:
        parser.error("--sources is for --write-manifest")
    if any(word in ("-h", "--help") for word in rest):
        logger.info("%s\n%s", __doc__, parser.format_usage())
    config = parse_overrides(load_recipe(known.recipe), rest, program="devudp-train check-data")
    errors = check(config, known.sheet)
    if known.manifest:
        errors += check_manifest(config.data, known.manifest)
    if known.write_manifest:
        save_manifest(config.data, known.write_manifest, known.sources)
    if errors:
        logger.error("%d errors. The training skips images that it cannot read.", errors)
        raise SystemExit(1)
    logger.info("No errors.")
