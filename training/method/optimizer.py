"""The generators' optimizer: Adam as in the paper, or Muon for the convolutions' weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ConfigError, ScheduleConfig


def make_optimizer(
    params: Iterable[nn.Parameter], schedule: ScheduleConfig
) -> torch.optim.Optimizer:
    """What `schedule` asks for, for the generators' parameters.

    Raises:
        ConfigError: Muon, where torch has none yet.
    """
    if schedule.muon:
        return MuonAdam(params, schedule.lr, schedule.betas, schedule.muon)
    return torch.optim.Adam(params, schedule.lr, schedule.betas)


def as_matrix(kernel: Tensor, like: Tensor) -> Tensor:
    """O,I,H,W to O,I*H*W with one row for each output, in the order of `like`'s memory."""
    rows = kernel
    if like.is_contiguous(memory_format=torch.channels_last):
        rows = kernel.permute(0, 2, 3, 1)
    return rows.flatten(1)


class MuonAdam(torch.optim.Optimizer):
    """Muon for the convolutions' weights, Adam for everything else.

    Adam makes the steps of single weights alike, Muon those of a layer's directions: rarely seen
    ones move as fast as common ones (Jordan and others: Muon, an optimizer for hidden layers in
    neural networks, 2024). The last layer, which has three rows, is Adam's.

    Args:
        params: of the networks, on their device and in their memory format for good.
        lr: Adam's learning rate, and with `factor` Muon's, which is counted as Adam's is: by the
            spread of the steps (``adjust_lr_fn="match_rms_adamw"``).
        betas: Adam's.
        factor: Muon's learning rate over Adam's.

    Raises:
        ConfigError: this torch has no Muon.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        factor: float,
    ):
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(
                f"schedule.muon needs torch 2.9 or later, and this is {torch.__version__}. "
                "Update torch, or set it to 0 for Adam"
            )
        params = list(params)
        super().__init__(params, {"lr": lr})
        self.factor = factor
        self.kernels = [p for p in params if p.ndim == 4 and p.shape[0] > 3]
        # torch's Muon takes matrices only: the same memory, seen as such.
        self.matrices = [nn.Parameter(as_matrix(p.detach(), p)) for p in self.kernels]
        self.muon = torch.optim.Muon(
            self.matrices, lr * factor, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        )
        kernels = set(map(id, self.kernels))
        self.adam = torch.optim.Adam([p for p in params if id(p) not in kernels], lr, betas)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of both."""
        lr = self.param_groups[0]["lr"]
        self.muon.param_groups[0]["lr"] = lr * self.factor
        self.adam.param_groups[0]["lr"] = lr
        for kernel, matrix in zip(self.kernels, self.matrices, strict=True):
            matrix.grad = None if kernel.grad is None else as_matrix(kernel.grad, kernel)
        self.muon.step()
        self.adam.step()
        for matrix in self.matrices:
            matrix.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Those of both."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What `state_dict` gave."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adam.load_state_dict(state_dict["adam"])
