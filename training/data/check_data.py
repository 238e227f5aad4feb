"""devudp-train check-data: lists the images a run would use and reports what is wrong.

    devudp-train check-data devudp --data.sharp my/sharp
    devudp-train check-data unpaired --data.sharp my/sharp --data.blurry my/blurry --sheet crops.png
    devudp-train check-data devudp --data.sharp my/sharp --manifest my.tsv

Errors end it with status 1: images that cannot be read, the same image in both domains, files that
differ from a manifest. Images that are too small, and would be enlarged, cause a warning. Manifests
list names, sizes, sources and hashes: see docs/training.md.
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

from ..config import Config
from ..config.recipes import load_recipe, parse_overrides
from ..config.stages import stage_configs
from ..console import help_in, make_parser, parse
from .dataset import UNUSED_FROM, Key, UnpairedImages
from .domains import find_domains
from .image_cache import UnreadableImage, decode
from .manifest import (
    compare,
    make_manifest,
    name_files,
    read_manifest,
    read_sources,
    write_manifest,
)
from .sheets import Cell, Row, draw_sheet, to_pixels
from .synthesis import cut_sides, render_batch, stack_plans

logger = logging.getLogger("devudp")

SHOWN_CASES = 10
SHEET_ROWS, SHEET_PAIRS = 6, 3


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
        domain: "A" (blurry), "B" (sharp), or "held out" (for validation).
        paths: the files.
        cut: side in pixels of the largest square that any stage cuts from it; a smaller image is
            enlarged first. 0: none is cut.
    """

    name: str
    domain: str
    paths: Sequence[Path]
    cut: int


def group_images(config: Config) -> list[Group]:
    """Returns the images of a run by role; a role without images is left out.

    Raises:
        FileNotFoundError, ConfigError: an empty domain, see `find_domains`.
    """
    domains = find_domains(config)
    A_side, B_side = map(max, zip(*(cut_sides(s.data) for s in stage_configs(config)), strict=True))
    frames = [frame for clip in domains.clips for frame in clip]
    groups = [
        Group("A, blurry", "A", domains.real_blurry, A_side),
        Group("A, sharp images to be blurred", "A", domains.to_blur, A_side),
        Group(f"A, frames of {len(domains.clips)} clips", "A", frames, A_side),
        Group("B, sharp", "B", domains.sharp, B_side),
        Group("held out for validation", "held out", domains.held_out, 0),
    ]
    return [group for group in groups if group.paths]


def inspect(path: Path) -> Inspection:
    """Decodes one file."""
    try:
        pixels = decode(path)
    except UnreadableImage as error:
        return Inspection(path, error=f"cannot be read: {error}")
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
    return Inspection(path, (pixels.shape[1], pixels.shape[0]), f"{pixels.shape}{digest}")


def find_errors(
    groups: Sequence[Group], inspected: Mapping[Path, Inspection]
) -> dict[str, list[str]]:
    """Images that are unfit for training: the cases of each kind of problem."""
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
        if len(by_domain) > 1:
            kind = f"the same image in {' and '.join(by_domain)}, which must not share any"
            errors[kind].append(" and ".join(map(str, by_domain.values())))
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
        f"{line}; short side {short[0]} to {short[-1]} pixels, median {short[len(short) // 2]}"
        + (f"; {group.cut}x{group.cut} are cut" if group.cut else "")
    )


def contact_sheet(config: Config) -> Image.Image:
    """Crops as the networks will see them: G's inputs from A and from B, in alternate columns.

    Each stage has its own rows, below its name.
    """
    images, stages = UnpairedImages(config), stage_configs(config)
    names = [stage.name for stage in config.stages] or [""]
    count = max(1, SHEET_ROWS // len(stages)) * SHEET_PAIRS
    rows = []
    for k, stage in enumerate(stages):
        samples = [images[Key(k, UNUSED_FROM + number)] for number in range(count)]
        A, B = (stack_plans([getattr(s, side) for s in samples]) for side in "AB")
        batch = render_batch(A, B, stage.data, torch.device("cpu"))
        cells = [
            Cell(domain, to_pixels(image))
            for pair in zip(batch.A_input, batch.B_input, strict=True)
            for domain, image in zip("AB", pair, strict=True)
        ]
        width = 2 * SHEET_PAIRS
        parts = [cells[start : start + width] for start in range(0, len(cells), width)]
        rows += [Row("" if start else names[k], part) for start, part in enumerate(parts)]
    return draw_sheet(rows)


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
        FileNotFoundError, ConfigError: an empty domain, see `find_domains`.
        UnreadableImage: too few images can be read to make a sheet.
    """
    groups = group_images(config)
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


def check_manifest(config: Config, manifest: Path) -> int:
    """Compares the files with a manifest and names those that differ; returns their number.

    Raises:
        ConfigError: the manifest cannot be read.
    """
    named = name_files(config.data, list_files(config))
    differences = compare(read_manifest(manifest), named)
    for kind, names in differences._asdict().items():
        if names:
            report(f"Error: {len(names)} x {kind}, compared with {manifest}:", names)
    count = sum(map(len, differences))
    if not count:
        logger.info("All %d files are as in %s.", len(named), manifest)
    return count


def save_manifest(config: Config, manifest: Path, sources: Path | None) -> None:
    """Writes a manifest of the files; those without a known source are counted.

    Raises:
        ConfigError: the table of sources cannot be read.
    """
    known = read_sources(sources) if sources else []
    entries = make_manifest(name_files(config.data, list_files(config)), known)
    write_manifest(entries, manifest)
    logger.info("%d files listed in %s", len(entries), manifest)
    unknown = [entry.file for entry in entries if not entry.source]
    if sources and unknown:
        report(f"Warning: {len(unknown)} files have no source in {sources}:", unknown)


def list_files(config: Config) -> list[Path]:
    """Returns all files that a run would use."""
    return [path for group in group_images(config) for path in group.paths]


def own_options() -> argparse.ArgumentParser:
    """Returns the command's own options; the others are settings of the recipe."""
    program, *about = help_in(__doc__)
    parser = make_parser(program, "RECIPE", *about)
    add = parser.add_argument
    add("--sheet", type=Path, default=Path("check-data.png"), metavar="FILE",
        help="an image of crops as the training sees them; default: %(default)s")  # fmt: skip
    add("--manifest", type=Path, metavar="FILE", help="compare the files with this list")
    add("--write-manifest", type=Path, metavar="FILE", help="write such a list, with hashes")
    add("--sources", type=Path, metavar="FILE",
        help="for --write-manifest: a table of prefix, source and licence")  # fmt: skip
    return parser


def main(arguments: Sequence[str]) -> None:
    """``devudp-train check-data``; see the top of this file.

    Raises:
        SystemExit: with status 1 after errors in the data.
    """
    parser = own_options()
    known, rest = parse(parser, arguments)
    if known.sources and not known.write_manifest:
        parser.error("--sources is for --write-manifest")
    program = f"devudp-train check-data {known.recipe}"
    config = parse_overrides(load_recipe(known.recipe), rest, program=program)
    errors = check(config, known.sheet)
    if known.manifest:
        errors += check_manifest(config, known.manifest)
    if known.write_manifest:
        save_manifest(config, known.write_manifest, known.sources)
    if errors:
        logger.error("%d errors. The training skips images that it cannot read.", errors)
        raise SystemExit(1)
    logger.info("No errors.")
