"""devudp-train check-data: lists what a training would use, shows some of it, names what is wrong.

devudp-train check-data devudp --data.sharp my/sharp --data.blurry my/blurry
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ..config import Config
from ..run.records import picture_sheet, write_picture
from ..settings import load_recipe, parse_overrides
from .dataset import UnpairedPictures, develop
from .domains import Sides, find_sides
from .image_cache import UnreadablePicture, decode

logger = logging.getLogger("devudp")

SHOWN_FAULTS = 10
SHEET_ROWS, SHEET_PAIRS = 6, 3

DEEP_MODES = {"I", "F", "I;16", "I;16B", "I;16L"}
"""Pillow's modes with more than 8 bits, which would be clipped to white."""


@dataclass(frozen=True)
class Look:
    """What one file turned out to be: its size, a hash of its pixels, or what is wrong with it."""

    path: Path
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    fault: str = ""


def look(path: Path) -> Look:
    """Decodes one file."""
    try:
        with Image.open(path) as image:
            mode = image.mode
        pixels = decode(path)
    except (UnreadablePicture, OSError) as error:
        return Look(path, fault=f"cannot be read: {error}")
    if mode in DEEP_MODES:
        return Look(path, fault=f"{path}: more than 8 bits ({mode}); convert it to 8-bit RGB")
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
    return Look(path, (pixels.shape[1], pixels.shape[0]), f"{pixels.shape}{digest}")


def find_faults(sides: Sides, looks: dict[Path, Look], crop: int) -> dict[str, list[str]]:
    """What is wrong with the pictures, by kind."""
    faults: dict[str, list[str]] = defaultdict(list)
    roles: dict[str, dict[str, Path]] = defaultdict(dict)
    A = [*sides.real_blurry, *sides.to_blur, *(f for clip in sides.clips for f in clip)]
    for role, paths in (("A", A), ("B", sides.sharp)):
        for path in paths:
            one = looks[path]
            if one.fault:
                faults["unreadable or unsuitable"].append(one.fault)
                continue
            if min(one.size) < crop:
                faults[f"smaller than the crop of {crop} pixels (they would be enlarged)"].append(
                    f"{path}: {one.size[0]}x{one.size[1]}"
                )
            roles[one.digest].setdefault(role, path)
    both = "the same picture on both sides (the domains must be unpaired)"
    for found in roles.values():
        if len(found) == 2:
            faults[both].append(f"{found['A']} and {found['B']}")
    return dict(faults)


def describe_side(name: str, paths: Sequence[Path], looks: dict[Path, Look]) -> str:
    """One line: how many pictures, of which sizes and kinds."""
    good = [looks[path] for path in paths if not looks[path].fault]
    if not good:
        return f"{name}: none"
    short = sorted(min(one.size) for one in good)
    kinds = Counter(path.suffix.lower().lstrip(".") for path in paths)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return (
        f"{name}: {len(paths)} pictures ({listed}); short side {short[0]} to {short[-1]} pixels, "
        f"median {short[len(short) // 2]}"
    )


def contact_sheet(config: Config) -> torch.Tensor:
    """Crops as the training will see them: H,W,3 uint8; columns A (or G's input), B in turns."""
    data = UnpairedPictures(config.data, 0, config.seed)
    samples = [data[number] for number in range(SHEET_ROWS * SHEET_PAIRS)]
    batch = develop(samples, config.data, torch.device("cpu"))
    cells = [x for pair in zip(batch.A_input, batch.B, strict=True) for x in pair]
    width = 2 * SHEET_PAIRS
    return picture_sheet([cells[k : k + width] for k in range(0, len(cells), width)])


def check(config: Config, sheet: Path) -> int:
    """Logs what was found; returns how many faults.

    Raises:
        FileNotFoundError, ValueError: an empty side, see `find_sides`.
    """
    sides = find_sides(config.data)
    frames = [frame for clip in sides.clips for frame in clip]
    everything = [*sides.real_blurry, *sides.to_blur, *frames, *sides.sharp]
    with ThreadPoolExecutor() as threads:
        looks = {one.path: one for one in threads.map(look, everything)}
    logger.info(describe_side("A, blurry", sides.real_blurry, looks))
    if sides.to_blur:
        logger.info(describe_side("A, sharp ones to be blurred", sides.to_blur, looks))
    if frames:
        logger.info(describe_side(f"A, frames of {len(sides.clips)} clips", frames, looks))
    logger.info(describe_side("B, sharp", sides.sharp, looks))
    faults = find_faults(sides, looks, config.data.crop)
    for kind, cases in faults.items():
        logger.warning("%d x %s", len(cases), kind)
        for case in cases[:SHOWN_FAULTS]:
            logger.warning("    %s", case)
        if len(cases) > SHOWN_FAULTS:
            logger.warning("    and %d more", len(cases) - SHOWN_FAULTS)
    write_picture(contact_sheet(config), sheet)
    logger.info("Crops as the training sees them (A, B, A, B, ...): %s", sheet)
    return sum(map(len, faults.values()))


def main(arguments: Sequence[str]) -> None:
    """RECIPE [--sheet FILE] [--section.field VALUE ...]

    Raises:
        SystemExit: with status 1 if anything is wrong.
    """
    parser = argparse.ArgumentParser(prog="devudp-train check-data RECIPE", add_help=False)
    parser.add_argument("recipe")
    parser.add_argument("--sheet", type=Path, default=Path("check-data.png"))
    known, rest = parser.parse_known_args(arguments)
    config = parse_overrides(load_recipe(known.recipe), rest, program="devudp-train check-data")
    found = check(config, known.sheet)
    if found:
        logger.error("%d things are wrong. The training skips what it cannot read.", found)
        raise SystemExit(1)
    logger.info("Nothing is wrong.")
