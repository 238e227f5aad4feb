"""Reads colour profiles (ICC): curves and primaries of those that have no more.

Profiles with tables (printers, scanners) are left to the libraries, see `colour.py`. For the
others, arithmetic in floating point is exact, also above white, where littlecms at 16 bits is not.
"""

from __future__ import annotations

import struct

import torch
from torch import Tensor

from .curves import Curve, Linear, Parametric, Sampled

HEADER = 128
MAX_TAGS = 200
TABLES = (b"A2B0", b"A2B1", b"A2B2", b"D2B0", b"D2B1")
MATRIX = ((b"rXYZ", b"rTRC"), (b"gXYZ", b"gTRC"), (b"bXYZ", b"bTRC"))

SHAPES = {0: "g", 1: "gab", 2: "gabE", 3: "gabcd", 4: "gabcdef"}
"""The parameters of a parametric curve, by its type; E stands for both constants of type 2."""


def kind(icc: bytes) -> bytes:
    """Returns what pixels a profile is for: b"RGB ", b"GRAY", b"CMYK", ...; b"" without one."""
    return icc[16:20]


def tags(icc: bytes) -> dict[bytes, bytes]:
    """Returns the content of each tag; {} of a damaged profile."""
    count = int.from_bytes(icc[HEADER : HEADER + 4], "big")
    tagged = {}
    for number in range(min(count, MAX_TAGS)):
        entry = icc[HEADER + 4 + 12 * number :][:12]
        if len(entry) < 12:
            return {}
        start, size = struct.unpack(">II", entry[4:])
        tagged[entry[:4]] = icc[start : start + size]
    return tagged


def cicp(icc: bytes) -> tuple[int, int] | None:
    """Returns primaries and transfer curve of a profile that names them by numbers (HDR)."""
    content = tags(icc).get(b"cicp", b"")
    return (content[8], content[9]) if len(content) >= 12 else None


def matrix_and_curves(icc: bytes) -> tuple[Tensor | None, list[Curve]] | None:
    """Returns the matrix from linear RGB to XYZ (None of grey) and the curves.

    None where the profile has tables, is damaged, or is of another kind.
    """
    tagged = tags(icc)
    try:
        if kind(icc) == b"GRAY" and b"kTRC" in tagged and icc[20:24] == b"XYZ ":
            return None, [_curve(tagged[b"kTRC"])]
        if kind(icc) != b"RGB " or icc[20:24] != b"XYZ " or any(tag in tagged for tag in TABLES):
            return None
        columns = [_xyz(tagged[xyz]) for xyz, _ in MATRIX]
        matrix = torch.tensor(columns, dtype=torch.float64).T
        if matrix.det().abs() < 1e-4:
            return None
        return matrix, [_curve(tagged[curve]) for _, curve in MATRIX]
    except (KeyError, struct.error, ValueError):
        return None


def _fixed(content: bytes) -> list[float]:
    """s15Fixed16 numbers."""
    return [value / 65536 for value in struct.unpack(f">{len(content) // 4}i", content)]


def _xyz(content: bytes) -> list[float]:
    if len(content) < 20:
        raise ValueError("no colour")
    return _fixed(content[8:20])


def _curve(content: bytes) -> Curve:
    """Reads the curve of a tag of the type curv or para.

    Raises:
        ValueError, struct.error: damaged.
    """
    if content[:4] == b"para":
        names = SHAPES.get(int.from_bytes(content[8:10], "big"))
        if names is None:
            raise ValueError("unknown curve")
        return _parametric(names, _fixed(content[12 : 12 + 4 * len(names)]))
    if content[:4] != b"curv":
        raise ValueError("unknown curve")
    count = int.from_bytes(content[8:12], "big")
    values = struct.unpack(f">{count}H", content[12 : 12 + 2 * count])
    if count == 0:
        return Linear()
    if count == 1:
        return Parametric(max(values[0], 1) / 256)
    return Sampled(torch.tensor(values, dtype=torch.float64) / 65535)


def _parametric(names: str, values: list[float]) -> Parametric:
    """Types 1 and 2 state their turning point by a and b."""
    parameters = dict(zip(names, values, strict=True))
    constant = parameters.pop("E", 0.0)
    if names in ("gab", "gabE"):
        parameters.update(
            d=-parameters["b"] / parameters["a"] if parameters["a"] else 0.0, e=constant, f=constant
        )
    if parameters["g"] <= 0 or parameters.get("a", 1.0) == 0:
        raise ValueError("no curve")
    return Parametric(**parameters)
