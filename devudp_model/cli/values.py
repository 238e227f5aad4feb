"""Values of options: the texts that are understood, and their meaning."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from ..batch.shard import Shard
from ..cluster.stores import is_address, stand_in

MIN_MEMORY = 10**6
"""A smaller limit is a number whose unit was forgotten."""

MIN_PIXELS = 10**4
"""And so is a smaller working size."""

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def given_path(text: str) -> Path:
    """A path; an empty one (an unset variable of a script) would mean the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; write . for the current folder")
    return Path(text)


def given_place(text: str) -> Path:
    """Returns a path, or what stands for an address such as `s3://bucket/photos`."""
    return stand_in(text) if is_address(text) else given_path(text)


def whole_number(text: str) -> int:
    """Returns a number from 1 on."""
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is not an integer from 1 on")
    return int(text)


def port(text: str) -> int:
    """Returns the number of a port."""
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to 65535")
    return int(text)


def share(text: str, most: float = 1.0) -> float:
    """Returns a number from 0 to `most`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to {most:g}")
    return value


def shard(text: str) -> Shard:
    """Returns a part such as `2/8`."""
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no part: {error}") from error


def pixel_count(text: str) -> int:
    """Pixels in `2MP`, `1.5mp`, `2000000`."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*(MP)?", text.strip().upper())
    pixels = round(float(match[1]) * (10**6 if match[2] else 1)) if match else 0
    if pixels < MIN_PIXELS:
        problem = f"is {pixels} pixels, too little" if match else "is no number of pixels"
        raise argparse.ArgumentTypeError(f"{text!r} {problem}: write it as 2MP")
    return pixels


def memory_size(text: str) -> int:
    """Bytes in `4GB`, `512M`, `1.5GiB`, `4000000000`."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMG]I?)?B?", text.strip().upper())
    size = int(float(match[1]) * UNITS[match[2] or ""]) if match else 0
    if size < MIN_MEMORY:
        problem = f"is {size} bytes, too little" if match else "is no size"
        raise argparse.ArgumentTypeError(f"{text!r} {problem}: write it as 4GB or 512MB")
    return size
