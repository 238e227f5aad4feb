"""The generators' optimizer: Adam as in the paper, or Muon for the convolutions' weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ScheduleConfig

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan et al.: Muon, an optimizer for hidden layers in neural networks (2024)."""

NEWTON_SCHULZ_STEPS = 5


def make_adam(
    params: Iterable[nn.Parameter], lr: float, betas: tuple[float, float]
) -> torch.optim.Adam:
    """Adam, in one kernel for all weights on a GPU."""
    params = list(params)
    fused = bool(params) and params[0].device.type == "cuda"
    return torch.optim.Adam(params, lr, betas, fused=fused or None)


def make_optimizer(
    params: Iterable[nn.Parameter], schedule: ScheduleConfig
) -> torch.optim.Optimizer:
    """Returns the optimizer that `schedule` asks for, for the generators' parameters."""
    if schedule.muon:
        return MuonAdam(params, schedule.lr, schedule.betas, schedule.muon)
    return make_adam(params, schedule.lr, schedule.betas)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Each matrix of N,O,I with all singular values near 1, by Newton-Schulz in bfloat16."""
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


def in_memory_order(x: Tensor, kernel: Tensor) -> Tensor:
    """Returns a view of O,I,H,W with its dimensions in the order of `kernel`'s memory.

    The order of a matrix's columns makes no difference to Muon; putting those of a channels_last
    kernel into another one and back would take as long as the rest of its step.
    """
    last = kernel.is_contiguous(memory_format=torch.channels_last)
    return x.permute(0, 2, 3, 1) if last else x


class MuonAdam(torch.optim.Optimizer):
    """Muon for the convolutions' weights, Adam for everything else.

    Muon orthogonalises each layer's update, so that rare directions move as fast as common ones
    (Jordan et al., 2024). Each kernel is a matrix with one row per output channel; kernels of one
    shape are processed together. The last layer, which has three rows, is left to Adam. Same as
    `torch.optim.Muon` with ``adjust_lr_fn="match_rms_adamw"``, without weight decay.

    Args:
        params: of the networks.
        lr: of Adam; Muon's is `factor` times that.
        betas: of Adam.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        factor: float,
    ):
        params = list(params)
        super().__init__(params, {"lr": lr})
        self.factor = factor
        kernels = [p for p in params if p.ndim == 4 and p.shape[0] > 3]
        groups: dict[torch.Size, list[nn.Parameter]] = {}
        for kernel in kernels:
            groups.setdefault(kernel.shape, []).append(kernel)
        self.kernels = list(groups.values())
        self.momentum = [[torch.zeros_like(kernel) for kernel in g] for g in self.kernels]
        own = set(map(id, kernels))
        self.adam = make_adam([p for p in params if id(p) not in own], lr, betas)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of both."""
        lr = self.param_groups[0]["lr"]
        self.adam.param_groups[0]["lr"] = lr
        self.adam.step()
        for kernels, momentum in zip(self.kernels, self.momentum, strict=True):
            pairs = zip(kernels, momentum, strict=True)
            moved = [(k, average, k.grad) for k, average in pairs if k.grad is not None]
            if not moved:  # none of this shape has a gradient
                continue
            shape = (len(moved), len(kernels[0]), kernels[0][0].numel())
            update = torch.empty(shape, dtype=torch.bfloat16, device=kernels[0].device)
            # One kernel after the other, whose gradient is then still in the processor's cache.
            for (kernel, average, grad), rows in zip(moved, update, strict=True):
                average.lerp_(grad, 1 - MOMENTUM)
                nesterov = in_memory_order(grad.lerp(average, MOMENTUM), kernel)
                rows.view(nesterov.shape).copy_(nesterov)
            rate = lr * self.factor * 0.2 * math.sqrt(max(shape[1:]))
            for (kernel, *_), rows in zip(moved, orthogonalise(update), strict=True):
                place = in_memory_order(kernel, kernel)
                place.add_(rows.to(kernel.dtype).reshape(place.shape), alpha=-rate)

    def state_dict(self) -> dict[str, Any]:
        """The state of both optimizers; Muon's is N,O,I*H*W for the N kernels of each shape."""
        muon = [torch.stack([average.flatten(1) for average in group]) for group in self.momentum]
        return {"muon": muon, "adam": self.adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what `state_dict` returned."""
        for mine, loaded in zip(self.momentum, state_dict["muon"], strict=True):
            for average, rows in zip(mine, loaded, strict=True):
                average.copy_(rows.view_as(average))
        self.adam.load_state_dict(state_dict["adam"])
