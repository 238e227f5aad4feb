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
    """The optimizer that `schedule` asks for, for the generators' parameters."""
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
        self.momentum = [
            torch.zeros(len(g), len(g[0]), g[0][0].numel(), device=g[0].device)
            for g in self.kernels
        ]
        own = set(map(id, kernels))
        self.adam = make_adam([p for p in params if id(p) not in own], lr, betas)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of both."""
        lr = self.param_groups[0]["lr"]
        self.adam.param_groups[0]["lr"] = lr
        self.adam.step()
        for kernels, momentum in zip(self.kernels, self.momentum, strict=True):
            rows = [n for n, k in enumerate(kernels) if k.grad is not None]
            if not rows:  # none of this shape has a gradient
                continue
            moved = [kernels[n] for n in rows]
            grad = torch.stack([k.grad.flatten(1) for k in moved])  # pyright: ignore
            average = momentum[rows].lerp_(grad, 1 - MOMENTUM)
            momentum[rows] = average
            update = orthogonalise(grad.lerp(average, MOMENTUM))  # Nesterov's momentum
            rate = lr * self.factor * 0.2 * math.sqrt(max(update.shape[1:]))
            shaped = [u.view_as(k) for u, k in zip(update.to(grad.dtype), moved, strict=True)]
            torch._foreach_add_(moved, shaped, alpha=-rate)  # pyright: ignore

    def state_dict(self) -> dict[str, Any]:
        """The state of both optimizers."""
        return {"muon": list(self.momentum), "adam": self.adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What `state_dict` returned."""
        for mine, loaded in zip(self.momentum, state_dict["muon"], strict=True):
            mine.copy_(loaded)
        self.adam.load_state_dict(state_dict["adam"])
