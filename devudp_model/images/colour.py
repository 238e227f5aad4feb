"""Turns a file's colours into the network's, sRGB, and back: the one door between them.

    space = space_of_icc(icc, channels)             # None: it is sRGB already
    seen = to_srgb(stored, space)                   # uint8 or uint16
    result = from_srgb(restored, stored, space)     # as stored was

What sRGB cannot hold (colours beyond it, light above white) is kept aside: the result is what was
stored plus what the restoration changed. So where nothing is changed, nothing changes.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import ImageCms
from torch import Tensor

from ..bands.rows import bands_of
from ..ops.dtypes import LARGEST, from_unit, to_unit
from . import icc as profiles
from .curves import SRGB, Curve, Hlg, Linear, Parametric, Pq, decode, hlg_to_display, hlg_to_scene
from .formats import CICP, DCF, FLOAT, GAMMA, ICC
from .littlecms import ColourError as ColourError
from .littlecms import by_library

TOLERANCE = 1.5 / 255
"""A space that is nowhere further from sRGB is taken for it: nothing is converted then."""

LARGEST_STEP = 2.0
"""Of sRGB at 8 bits, between neighbours of a file's 8 bits. Display P3's are 1; linear light's, in
the dark, 13."""

D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)

BRADFORD = torch.tensor(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]],
    dtype=torch.float64,
)

PRIMARIES = {  # ITU-T H.273: x and y of red, green, blue, white
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *D65),
    4: (0.670, 0.330, 0.210, 0.710, 0.140, 0.080, 0.310, 0.316),
    5: (0.640, 0.330, 0.290, 0.600, 0.150, 0.060, *D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65),
}

# The curves of BT.709, 601 and 2020 are a camera's; what shows such an image takes sRGB's.
TRANSFERS: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 13, 14, 15), SRGB),
    4: Parametric(2.2),
    5: Parametric(2.8),
    8: Linear(),
    16: Pq(),
    18: Hlg(),
}
UNSPECIFIED = 2
HDR = (16, 18)

Table = Callable[[np.ndarray, bool], np.ndarray]
"""H,W,C uint8 or uint16 to sRGB; if True, back."""


@dataclass(frozen=True, eq=False)
class Space:
    """A colour space that is not sRGB.

    Attributes:
        name: for people.
        kind: how a file states it: one of the constants of `formats.py`.
        matrix: from its linear RGB to sRGB's; None of grey.
        curves: one, or one a channel.
        table: of a profile with tables.
        hdr: whether it holds light above white.
    """

    name: str
    kind: str
    matrix: Tensor | None = None
    curves: tuple[Curve, ...] = ()
    table: Table | None = None
    hdr: bool = False

    def light(self, x: Tensor) -> Tensor:
        """Turns 1,C,H,W of the file's numbers, any type, into linear light of sRGB's primaries."""
        if x.shape[1] == 1:
            light = decode(self.curves[0], x)
            return hlg_to_display(light, light) if isinstance(self.curves[0], Hlg) else light
        light = torch.cat([decode(c, x[:, n : n + 1]) for n, c in enumerate(self.each())], 1)
        if isinstance(self.curves[0], Hlg):
            light = hlg_to_display(light, _luminance(light))
        return _times(self.matrix, light)

    def numbers(self, light: Tensor) -> Tensor:
        """Turns linear light of sRGB's primaries into the file's numbers."""
        if light.shape[1] > 1 and self.matrix is not None:
            light = _times(torch.linalg.inv(self.matrix), light)
        if isinstance(self.curves[0], Hlg):
            light = light.clamp(min=0)
            light = hlg_to_scene(light, _luminance(light))
        if light.shape[1] == 1:
            return self.curves[0].encode(light)
        return torch.cat([c.encode(light[:, n : n + 1]) for n, c in enumerate(self.each())], 1)

    def each(self) -> Sequence[Curve]:
        return self.curves if len(self.curves) == 3 else self.curves * 3


def _luminance(light: Tensor) -> Tensor:
    """BT.2020's, which HLG is defined with; of grey, itself."""
    if light.shape[1] == 1:
        return light
    weights = light.new_tensor([0.2627, 0.678, 0.0593]).view(1, 3, 1, 1)
    return (light * weights).sum(1, keepdim=True)


def _times(matrix: Tensor | None, light: Tensor) -> Tensor:
    """Returns a matrix for each pixel of 1,3,H,W."""
    if matrix is None:
        return light
    # Not einsum: its first use imports a second's worth of torch.
    return (matrix.to(light.dtype) @ light[0].flatten(1)).view(light.shape)


def to_xyz(primaries: Sequence[float]) -> Tensor:
    """Returns the matrix from linear RGB to XYZ for D50, as profiles have it."""
    x, y = torch.tensor(primaries, dtype=torch.float64).view(4, 2).unbind(1)
    xyz = torch.stack([x, y, 1 - (x + y)]) / y
    white = xyz[:, 3]
    matrix = xyz[:, :3] * torch.linalg.solve(xyz[:, :3], white)
    target = torch.tensor([D50[0], D50[1], 1 - sum(D50)], dtype=torch.float64) / D50[1]
    gain = torch.diag((BRADFORD @ target) / (BRADFORD @ white))
    return torch.linalg.inv(BRADFORD) @ gain @ BRADFORD @ matrix


SRGB_TO_XYZ = to_xyz(PRIMARIES[1])


def _from_xyz(matrix: Tensor | None) -> Tensor | None:
    return None if matrix is None else torch.linalg.inv(SRGB_TO_XYZ) @ matrix


def adobe_space() -> Space:
    """Returns Adobe RGB, of cameras' files that say so in EXIF."""
    matrix = _from_xyz(to_xyz((0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *D65)))
    return Space("Adobe RGB", DCF, matrix, (Parametric(563 / 256),))


def linear_space() -> Space:
    """Returns that of floating point without a profile: linear light, by convention."""
    return Space("linear light (floating point)", FLOAT, curves=(Linear(),), hdr=True)


def space_of_cicp(primaries: int, transfer: int, kind: str = CICP) -> Space | None:
    """Returns the space that H.273's numbers name; None of sRGB.

    Raises:
        ColourError: nothing is known of them.
    """
    if primaries == UNSPECIFIED:
        primaries = 9 if transfer in HDR else 1
    transfer = 13 if transfer == UNSPECIFIED else transfer
    if primaries not in PRIMARIES or transfer not in TRANSFERS:
        raise ColourError(
            f"has colours that cannot be converted (cICP {primaries}, {transfer}). Save it as sRGB."
        )
    names = {9: "BT.2020", 12: "Display P3", 11: "DCI-P3", 16: "PQ", 18: "HLG", 8: "linear light"}
    words = [names[number] for number in (primaries, transfer) if number in names]
    matrix = _from_xyz(to_xyz(PRIMARIES[primaries]))
    space = Space(
        " ".join(words) or "cICP", kind, matrix, (TRANSFERS[transfer],), hdr=transfer in HDR
    )
    return None if _is_srgb(space, 3) else space


def space_of_gamma(gamma: float | None, primaries: Sequence[float] | None) -> Space | None:
    """Returns the space of a PNG file's chunks gAMA (its exponent) and cHRM; None of sRGB."""
    curve = SRGB if gamma is None or abs(gamma * 2.2 - 1) < 0.01 else Parametric(1 / gamma)
    chromaticities = primaries or PRIMARIES[1]
    if min(chromaticities) <= 0 or abs(to_xyz(chromaticities).det()) < 1e-4:
        return None
    name = f"gamma {gamma:g}" if curve is not SRGB else "other primaries"
    space = Space(name, GAMMA, _from_xyz(to_xyz(chromaticities)), (curve,))
    return None if _is_srgb(space, 3) else space


@functools.lru_cache(32)
def space_of_icc(icc: bytes, channels: int) -> Space | None:
    """Returns the space of a whole profile, for grey (1) or RGB (3); None of sRGB.

    Raises:
        ColourError: its colours cannot be converted.
    """
    numbers = profiles.cicp(icc)
    if numbers is not None and numbers[1] in HDR and channels == 3:
        return space_of_cicp(*numbers, kind=ICC)
    parts, name = profiles.matrix_and_curves(icc), _name_of(icc)
    if parts is not None:
        space = Space(name, ICC, _from_xyz(parts[0]), tuple(parts[1]))
    else:
        space = Space(name, ICC, table=functools.partial(by_library, icc, name))
    return None if _is_srgb(space, channels) else space


def _name_of(icc: bytes) -> str:
    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()
    except (ImageCms.PyCMSError, OSError):
        return "a colour profile"


def _is_srgb(space: Space, channels: int) -> bool:
    """By a grid of colours."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(*[steps] * channels)).reshape(1, channels, -1, 1)
    stored = torch.from_numpy(grid)
    return (to_unit(to_srgb(stored, space)) - to_unit(stored)).abs().max().item() <= TOLERANCE


def _rows_to_srgb(rows: Tensor, space: Space) -> Tensor:
    """1,C,h,W of any type to float32, in [0, 1] unless `space` is of floating point or HDR."""
    if space.table is not None:
        return _by_table(rows, space.table, back=False)
    return SRGB.encode(space.light(rows).clamp(0, 1))


def _changed(before: Tensor, seen: Tensor, after: Tensor, space: Space) -> Tensor:
    """Adds what was changed to what was stored, in light: there, what is beyond sRGB is little in
    the dark and stays little where that gets bright. The file's numbers, float32.

    Args:
        before: 1,C,h,W, as stored.
        seen: of it, in sRGB, integers.
        after: sRGB, in [0, 1].
        space: of `before`.
    """
    if space.table is not None:
        return (
            to_unit(before)
            + _by_table(after, space.table, back=True)
            - _by_table(seen, space.table, back=True)
        )
    light = space.light(before) + (decode(SRGB, after) - decode(SRGB, seen))
    return space.numbers(light)


def _by_table(rows: Tensor, table: Table, *, back: bool) -> Tensor:
    """Converts 1,C,h,W of any type to sRGB, or back."""
    pixels = from_unit(to_unit(rows), torch.uint16)[0].permute(1, 2, 0).contiguous().numpy()
    converted = torch.from_numpy(np.ascontiguousarray(table(pixels, back)))
    return to_unit(converted.permute(2, 0, 1)[None])


def seen_type(stored: Tensor, space: Space) -> torch.dtype:
    """Returns the type that sRGB needs for what is stored: 8 bits stay 8 if no step gets large."""
    if stored.dtype != torch.uint8:
        return torch.uint16
    ramp = torch.arange(256).to(torch.uint8).expand(1, stored.shape[1], 1, -1)
    steps = _rows_to_srgb(ramp, space).diff(dim=-1)
    return torch.uint8 if steps.abs().max().item() * 255 <= LARGEST_STEP else torch.uint16


def to_srgb(stored: Tensor, space: Space) -> Tensor:
    """1,C,H,W of any type to sRGB, as `seen_type` says; band by band."""
    out = torch.empty(stored.shape, dtype=seen_type(stored, space))
    for _, start, stop in bands_of(stored):
        converted = _rows_to_srgb(stored[:, :, start:stop], space)
        out[:, :, start:stop] = from_unit(converted, out.dtype)
    return out


def from_srgb(restored: Tensor, stored: Tensor, space: Space) -> Tensor:
    """Puts a result into the space, and type, of what was stored; 1,C,H,W, band by band.

    Args:
        restored: in sRGB, any type.
        stored: the image that it was made from, as `to_srgb` took it.
        space: of `stored`.
    """
    out, seen_as = torch.empty(stored.shape, dtype=stored.dtype), seen_type(stored, space)
    for _, start, stop in bands_of(stored):
        before = stored[:, :, start:stop]
        seen = from_unit(_rows_to_srgb(before, space), seen_as)
        after = to_unit(restored[:, :, start:stop].detach().cpu()).clamp(0, 1)
        same = (after == to_unit(seen)).all(1, keepdim=True)
        numbers = torch.where(same, to_unit(before), _changed(before, seen, after, space))
        out[:, :, start:stop] = from_unit(numbers, out.dtype) if out.dtype in LARGEST else numbers
    return out
