"""The camera movements of a step's crops, as tensors: `synthesis.py` blurs by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from devudp_model.ops.degrade import Shake


class Motion(NamedTuple):
    """Camera movements of N images, with as many poses each as the longest has.

    `path` N,P,3 (x, y, roll), `weight` N,P (0 for poses that an image does not have), `pivot` N,2,
    `length`, `roll`, `highlights`, `curve` (0: sRGB's) N.
    """

    path: Tensor
    weight: Tensor
    pivot: Tensor
    length: Tensor
    roll: Tensor
    highlights: Tensor
    curve: Tensor


def stack_motions(shakes: Sequence[Shake | None]) -> Motion | None:
    """Movements of N images; None if none of them moves. An image that does not has one pose."""
    if all(shake is None for shake in shakes):
        return None
    still = Shake(torch.zeros(1, 3), (0.0, 0.0), 0.0, 0.0, 0.0)
    moves = [still if shake is None else shake for shake in shakes]
    poses = max(len(move.path) for move in moves)
    path = torch.stack([F.pad(m.path, (0, 0, 0, poses - len(m.path))) for m in moves])
    counts = torch.tensor([[len(move.path)] for move in moves])
    weight = (torch.arange(poses) < counts) / counts
    pivot = torch.tensor([move.pivot for move in moves])
    rest = [[m.extent, m.roll, m.highlights, m.curve or 0.0] for m in moves]
    return Motion(path, weight, pivot, *torch.tensor(rest).unbind(1))


def affine_of(motion: Motion, height: int, width: int) -> Tensor:
    """For each pose N,P,2,3 in `F.affine_grid`'s coordinates: roll about the pivot, then shift."""
    angle = motion.path[..., 2] * motion.roll[:, None] / max(math.hypot(height, width) / 2, 1)
    cos, sin = angle.cos(), angle.sin()
    x, y = (2 * motion.pivot).unsqueeze(1).unbind(-1)
    dx, dy = (2 * motion.path[..., :2] * motion.length[:, None, None]).unbind(-1)
    across, down = sin * height / width, sin * width / height
    first = torch.stack([cos, -across, x - cos * x + across * y + dx / width], -1)
    second = torch.stack([down, cos, y - down * x - cos * y + dy / height], -1)
    return torch.stack([first, second], -2)
