"""3x3 convolutions in fp32 on a CPU, in a quarter of the multiplications.

Winograd's F(4x4, 3x3) (Lavin, Gray: Fast algorithms for convolutional neural networks, 2016): a
tile of 4x4 outputs is made of 6x6 inputs, which are transformed (B), multiplied with weights that
were transformed as well (G), and transformed back (A). The products are matrix products, one for
each of the 36 numbers of a tile; they are left to oneDNN, as a convolution of 36 groups.

A row of tiles is computed at a time, always in chunks of the same width: how a tile is rounded
depends on where it lies in the image and on nothing else, so strips have to begin at whole tiles.
"""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import scripted

log = logging.getLogger("devudp")

TILE = 4
"""Rows and columns of a tile's outputs."""

LEAST_CHANNELS, LEAST_CHANNELS_AVX512 = 64, 128
"""With fewer channels the transforms take longer than what they save; where products are twice as
fast, sooner."""

CHUNK_NUMBERS = 5120
"""Tiles that are computed at a time, times channels: what they are made of fits into a core's
cache."""

INPUT = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
"""B transposed, for the points 0, 1, -1, 2, -2 and infinity."""

OUTPUT = torch.tensor(
    [
        [1.0, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ]
)
"""A transposed."""

WEIGHT = (
    torch.tensor(
        [[6.0, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]],
        dtype=torch.float64,
    )
    / 24
)
"""G."""


def convolve_tiles(
    strip: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    outer: int,
    chunk: int,
    into: Tensor,
    back: Tensor,
) -> Tensor:
    """Convolves 1,C,rows + 2,W, float32, channels_last, with zeros to the left and right.

    Args:
        weight: of `outer` outputs, packed (see `Tiles`); the bias of `outer`.
        chunk: tiles to compute at a time.
        into, back: `INPUT` and `OUTPUT`.

    Returns:
        1,`outer`,rows,W, channels_last.
    """
    channels, rows, width = strip.shape[1], strip.shape[2] - 2, strip.shape[3]
    down, right = (rows + 3) // 4, (width + 3) // 4
    wide = 4 * right + 2
    lines = strip.permute(0, 2, 3, 1)[0].reshape(rows + 2, width * channels)
    # Memory for all chunks: making it anew each time would take as long as the transforms.
    row = strip.new_empty([6, width * channels])
    padded = strip.new_zeros([6, wide, channels])
    most = min(chunk, right)
    tiles = strip.new_empty([most, 6, 6, channels])
    halfway = strip.new_empty([most * 6, 6, channels])
    half_back = strip.new_empty([most, 4, 6 * outer])
    pixels = strip.new_empty([most * 4, 4, outer])
    out = strip.new_empty([4 * down, 4 * right, outer])
    for y in range(down):
        here = min(6, rows + 2 - 4 * y)
        torch.mm(into[:, :here], lines[4 * y : 4 * y + here], out=row)
        padded[:, 1 : width + 1].copy_(row.view(6, width, channels))
        for start in range(0, right, chunk):
            n = min(chunk, right - start)
            shape, strides = [n, 6, 6, channels], [4 * channels, wide * channels, channels, 1]
            tiles[:n].copy_(padded.as_strided(shape, strides, 4 * start * channels))
            found = pixels[: 4 * n]
            multiply(found, tiles[:n], weight, halfway[: 6 * n], half_back[:n], into, back)
            target = out[4 * y : 4 * y + 4, 4 * start : 4 * (start + n)].view(4, n, 4, outer)
            target.copy_(found.view(n, 4, 4, outer).transpose(0, 1))
    inside = out[:rows, :width].contiguous()
    if bias is not None:
        inside.add_(bias)
    return inside.permute(2, 0, 1)[None]


def multiply(
    out: Tensor,
    tiles: Tensor,
    weight: Tensor,
    halfway: Tensor,
    half_back: Tensor,
    into: Tensor,
    back: Tensor,
) -> None:
    """Computes tiles whose rows are transformed already.

    Args:
        out: 4n,4,O: the four rows of n tiles, one tile after the other.
        tiles: n,6,6,C.
        halfway, half_back: 6n,6,C and n,4,6 O, to work in.
        weight, into, back: as of `convolve_tiles`.
    """
    n, channels, outer = tiles.shape[0], tiles.shape[3], out.shape[2]
    torch.bmm(into.expand(6 * n, 6, 6), tiles.view(6 * n, 6, channels), out=halfway)
    numbers = halfway.view(1, n, 1, 36 * channels).permute(0, 3, 1, 2)
    products = torch.ops.mkldnn._convolution_pointwise(
        numbers, weight, None, [0, 0], [1, 1], [1, 1], 36, "none", [], ""
    )
    products = products.permute(0, 2, 3, 1).reshape(n, 6, 6 * outer)
    torch.bmm(back.expand(n, 4, 6), products, out=half_back)
    torch.bmm(back.expand(4 * n, 4, 6), half_back.view(4 * n, 6, outer), out=out)


_packing = threading.Lock()


class Tiles:
    """A layer's convolution in tiles. Its weights are packed when it is first called, and again
    once they have changed.

    Args:
        weight: O,C,3,3, float32, on the CPU.
        bias: of O.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = weight, bias
        self.outer, self.channels = weight.shape[:2]
        self.chunk = max(CHUNK_NUMBERS // self.channels, 1)
        self.nbytes = 36 * self.outer * self.channels * weight.itemsize
        self.packed: Tensor | None = None
        self.packed_of: int | None = None

    def __getstate__(self) -> dict[str, object]:
        """Leaves out what is packed: PyTorch can neither copy nor store it."""
        return {**self.__dict__, "packed": None}

    def version(self) -> int | None:
        """Changes when the weights are changed in place; None where PyTorch does not count that."""
        return None if self.weight.is_inference() else self.weight._version

    def pack(self) -> Tensor:
        """Transforms the weights and returns them as oneDNN wants them."""
        taps = self.weight.permute(2, 3, 0, 1).reshape(9, -1).double()
        transformed = (torch.kron(WEIGHT, WEIGHT) @ taps).float()  # einsum takes six times as long
        groups = transformed.view(36 * self.outer, self.channels, 1, 1)
        size = [1, 36 * self.channels, self.chunk, 1]
        pack = torch.ops.mkldnn._reorder_convolution_weight
        return pack(groups, [0, 0], [1, 1], [1, 1], 36, size)

    def __call__(self, strip: Tensor) -> Tensor:
        """1,C,rows + 2,W to 1,O,rows,W."""
        with _packing:
            if self.packed is None or self.packed_of != self.version():
                self.packed, self.packed_of = self.pack(), self.version()
            packed = self.packed
        convolve = kernel()
        return convolve(strip, packed, self.bias, self.outer, self.chunk, INPUT, OUTPUT)


@lru_cache(maxsize=1)
def kernel() -> Callable[..., Tensor]:
    """Returns `convolve_tiles`, scripted: see kernels.py."""
    return scripted(convolve_tiles)


def pays_in_tiles(weight: Tensor) -> bool:
    """True if a convolution with O,C,h,w without stride is faster in tiles."""
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    least = LEAST_CHANNELS_AVX512 if has_avx512 else LEAST_CHANNELS
    return (
        weight.is_cpu
        and weight.dtype == torch.float32
        and weight.shape[2:] == (3, 3)
        and min(weight.shape[:2]) >= least
        and has_tiles()
    )


@lru_cache(maxsize=1)
def has_tiles() -> bool:
    """True if PyTorch has what it takes here: oneDNN, with weights that are packed beforehand."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False  # nobody has measured whether it is faster there
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return False  # twice as slow: oneDNN's products of groups need these instructions
    weight = torch.linspace(-1, 1, 9 * 16 * 16).view(16, 16, 3, 3)
    strip = torch.linspace(-1, 1, 16 * 6 * 8).view(1, 16, 6, 8)
    strip = strip.contiguous(memory_format=torch.channels_last)
    try:
        found = Tiles(weight, None)(strip)
    except Exception:
        log.debug("no convolutions in tiles", exc_info=True)
        return False
    return torch.allclose(found, F.conv2d(strip, weight, padding=(0, 1)), atol=1e-3)
