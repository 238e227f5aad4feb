"""The same photograph in many colour spaces, made by arithmetic that is not the project's own."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch

from devudp_model.images.reading import read_stored
from devudp_model.ops.dtypes import from_unit, to_unit

# Columns of the matrices from linear RGB to XYZ for D50, as published profiles have them.
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491))


def gamma(exponent: float) -> bytes:
    """A curve as a profile holds it."""
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(exponent * 256)) + bytes(2)


LINEAR = b"curv" + bytes(8)
SRGB_CURVE = (
    b"para"
    + bytes(4)
    + struct.pack(">HH", 3, 0)
    + b"".join(
        struct.pack(">i", round(n * 65536))
        for n in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    )
)


def profile(name: str, columns: tuple, curve: bytes) -> bytes:
    """An ICC profile of version 4 with a matrix; of grey without columns."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    text = name.encode("utf-16-be")
    words = b"mluc" + bytes(4) + struct.pack(">II", 1, 12) + b"enUS"
    words += struct.pack(">II", len(text), 28) + text
    parts = [(b"desc", words), (b"cprt", words), (b"wtpt", xyz((0.9642, 1, 0.8249)))]
    if columns:
        parts += [(b"%cXYZ" % c, xyz(v)) for c, v in zip(b"rgb", columns, strict=True)]
        parts += [(b"%cTRC" % c, curve) for c in b"rgb"]
    else:
        parts.append((b"kTRC", curve))
    table, body, start = b"", b"", 132 + 12 * len(parts)
    for tag, content in parts:
        content += b"\0" * (-len(content) % 4)
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content
    head = struct.pack(">I", start + len(body)) + b"none" + struct.pack(">I", 0x04000000)
    head += b"mntr" + (b"RGB " if columns else b"GRAY") + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += xyz((0.9642, 1, 0.8249))[8:] + bytes(48)
    return head.ljust(128, b"\0")[:128] + struct.pack(">I", len(parts)) + table + body


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB numbers in [0, 1] to linear light."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    """Linear light to sRGB numbers."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def into(light: np.ndarray, columns: tuple) -> np.ndarray:
    """Linear sRGB H,W,3 to another space's linear RGB."""
    own, target = np.array(SRGB).T, np.array(columns).T
    return light @ (np.linalg.inv(target) @ own).T


def lab(srgb: np.ndarray) -> np.ndarray:
    """sRGB H,W,3 in [0, 1] to CIE L*a*b* (D50)."""
    xyz = linear(srgb) @ np.array(SRGB)
    share = xyz / np.array([0.9642, 1, 0.8249])
    root = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """CIE 1976 colour difference of two sRGB images in [0, 1], for each pixel."""
    return np.sqrt(((lab(first) - lab(second)) ** 2).sum(-1))


def read_srgb(path: Path, bits: int = 8) -> np.ndarray:
    """Reads the colours of an image file: H,W,3 sRGB, upright, in 8 or 16 bits."""
    kind = torch.uint8 if bits == 8 else torch.uint16
    pixels = from_unit(to_unit(read_stored(path).pixels), kind)
    return np.ascontiguousarray(pixels.expand(-1, 3, -1, -1)[0].permute(1, 2, 0).numpy())
