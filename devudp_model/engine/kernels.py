"""Does what is done to a strip, in few calls.

On the CPU they are TorchScript: Python's interpreter lock is free while one runs, from its first
operation to its last. Else threads with a strip each would wait for it at every small operation,
which on two cores took a fifth of the time.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

log = logging.getLogger("devudp")


def normalize_into(out: Tensor, x: Tensor, mean: Tensor, var: Tensor, eps: float) -> None:
    """out = (x - mean) / sqrt(var + eps), channel by channel, computed in float32, in one pass.

    Args:
        out, x: 1,C,h,W of any floating type.
        mean, var: vectors of C, float32.
    """
    if x.is_cpu:  # straight into `out`; elsewhere this variant is not always there
        unused = torch.empty(0)
        torch.ops.aten.native_batch_norm(
            x,
            None,
            None,
            mean,
            var,
            False,
            0.0,
            eps,
            out=out,
            save_mean=unused,
            save_invstd=unused,
        )
    else:
        out.copy_(F.batch_norm(x, mean, var, None, None, False, 0.0, eps))


def signed(x: Tensor) -> Tensor:
    """Returns a view of `x` with its signs: `signed(x).clamp_(min=0)` is ReLU in region.

    On the CPU bfloat16 as integers, where numbers with a sign bit are negative: four times as fast
    as by way of float32. (A NaN may become 0. The statistics tell where there was one.)
    """
    return x.view(torch.int16) if x.is_cpu and x.dtype == torch.bfloat16 else x


def compute_rows(
    out: Tensor,
    found: list[Tensor],
    base: list[Tensor],
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    rectified: Tensor | None,
) -> None:
    """Rows of a feature: out = [base +] [ReLU of] what was found, normalised.

    Args:
        out: 1,C,h,W.
        found, base: their rows, in pieces one below the other; nothing found if that is in `out`
            already, nothing as base if nothing is added.
        rectified: `signed` of `out`, for a ReLU; None for none.
        mean, var: of what was found, vectors of C, float32; None to leave it as it is.
    """
    row = 0
    for piece in found:
        region = out[:, :, row : row + piece.shape[2]]
        row += piece.shape[2]
        if mean is not None and var is not None:
            normalize_into(region, piece, mean, var, eps)
        else:
            region.copy_(piece)
    if rectified is not None:
        rectified.clamp_(min=0)
    row = 0
    for piece in base:
        out[:, :, row : row + piece.shape[2]].add_(piece)
        row += piece.shape[2]


def interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Returns the phases of an upsampling put together.

    Args:
        even, odd: 1,2C,h,w+1, what the even and odd rows are made of: C channels of the even
            columns, which begin a pixel earlier, and C of the odd ones.

    Returns:
        1,C,2h,2w.
    """
    channels, height, width = even.shape[1] // 2, even.shape[2], even.shape[3] - 1
    out = even.new_empty([height, 2, width, 2, channels])
    for y in range(2):
        phases = even if y == 0 else odd
        pixels = phases.permute(0, 2, 3, 1)[0].view(height, width + 1, 2, channels)
        for x in range(2):
            out[:, y, :, x].copy_(pixels[:, x : x + width, x])
    return out.view(1, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


def sum_columns(columns: Tensor, count: int) -> Tensor:
    """Adds up what each column of a kernel makes of each pixel, to what the kernel makes of it.

    Args:
        columns: 1,`count` C,h,W, channels_last: C channels for each column of the kernel, from left
            to right; `count` is odd.

    Returns:
        1,C,h,W.
    """
    width, channels, middle = columns.shape[3], columns.shape[1] // count, count // 2
    found = columns.permute(0, 2, 3, 1)[0]
    out = found[:, :, middle * channels : (middle + 1) * channels].clone()
    for column in range(count):
        some = found[:, :, column * channels : (column + 1) * channels]
        right = column - middle
        if 0 < right < width:
            out[:, : width - right].add_(some[:, right:])
        elif -width < right < 0:
            out[:, -right:].add_(some[:, : width + right])
    return out.permute(2, 0, 1)[None]


def group_sums(
    pixels: Tensor, origin: Tensor | None, rows: int, buffer: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums over groups of `rows` rows of h,W,C, less `origin`, and of the squares: n,C, float32.

    One thread adds up all of a group. `buffer`: rows,W,C, float32.
    """
    sums: list[Tensor] = []
    squares: list[Tensor] = []
    for start in range(0, pixels.shape[0], rows):
        chunk = pixels[start : start + rows]
        count = chunk.shape[0]
        if origin is not None:
            torch.sub(chunk, origin, out=buffer[:count])
        else:
            buffer[:count].copy_(chunk)
        if count < rows:
            buffer[count:].zero_()
        group = buffer.view(1, -1, buffer.shape[2])
        sums.append(group.sum(1))
        squares.append(group.square_().sum(1))
    return torch.cat(sums), torch.cat(squares)


def quantize(
    out: Tensor,
    found: list[Tensor],
    numbers: Tensor,
    integers: Tensor,
    gain: Tensor,
    zero: Tensor,
    most: float,
) -> None:
    """Rounds rows x to x gain + zero, channel by channel, clipped to 0..`most`.

    Args:
        out: terms,C,h,W+2, uint8, channels_last: one term; or two, 256 times the first and once the
            second. The columns at both edges are left alone.
        found: the rows, in pieces 1,C,h,W one below the other, float32, channels_last.
        numbers: 1,C,h,W, float32, channels_last, is written to; may be what was found.
        integers: the same memory as int32.
        gain, zero: vectors of C, float32; `zero` in integers.
    """
    pixels = numbers.permute(0, 2, 3, 1)[0]
    row = 0
    for piece in found:
        rows = piece.permute(0, 2, 3, 1)[0]
        torch.mul(rows, gain, out=pixels[row : row + rows.shape[0]])
        row += rows.shape[0]
    # Numbers of this size have no digits behind the point, and as integers they end in what is
    # wanted. Integers become bytes five times as fast as floating-point numbers do.
    large = 8388608.0
    pixels.add_(zero + large).clamp_(large, large + most)
    inner, whole = out.permute(0, 2, 3, 1)[:, :, 1:-1], integers.permute(0, 2, 3, 1)[0]
    inner[-1].copy_(whole)
    if out.shape[0] > 1:
        inner[0].copy_(whole.bitwise_right_shift_(8))


class Kernels(NamedTuple):
    """The functions of this module."""

    compute_rows: Callable[..., None]
    interleave: Callable[..., Tensor]
    sum_columns: Callable[..., Tensor]
    group_sums: Callable[..., tuple[Tensor, Tensor]]
    quantize: Callable[..., None]


EAGER = Kernels(compute_rows, interleave, sum_columns, group_sums, quantize)

_scripted: list[Kernels] = []


def kernels_for(device: torch.device) -> Kernels:
    """Returns the fastest kernels on a device."""
    if device.type != "cpu":
        return EAGER
    if not _scripted:
        _scripted.append(Kernels(*(scripted(function) for function in EAGER)))
    return _scripted[0]


def scripted(function: Callable) -> Callable:
    """As TorchScript; as it is where PyTorch cannot make that of it (it needs the source)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch deprecates it, but has nothing in its place
            return torch.jit.script(function)
    except Exception:
        log.debug("not scripted: %s", function.__name__, exc_info=True)
        return function
