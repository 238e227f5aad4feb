"""One training step; reads like section 3.2 of the paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..config import LossConfig
from .losses import (
    adversarial_loss,
    discriminator_loss,
    pyramid_loss,
    reconstruction_loss,
    self_regression_loss,
    structure_loss,
    total_loss,
)


@dataclass
class Networks:
    """G, G_inv and D, with their optimizers: one for both generators, one for D.

    Attributes:
        G_inv: None where the recipe has none.
        lpips: two B,3,H,W in [-1, 1] to a scalar; not trained. None where not used.
    """

    G: nn.Module
    G_inv: nn.Module | None
    D: nn.Module
    opt_G: torch.optim.Optimizer
    opt_D: torch.optim.Optimizer
    lpips: nn.Module | None = None


def due(weights: LossConfig, step: int) -> LossConfig:
    """Returns the weights with the branches that are due at this step, counted from 0."""
    return weights if step % weights.s_branch_every == 0 else replace(weights, s_branch=False)


def generator_losses(
    nets: Networks, batch: Batch, weights: LossConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """Returns the generators' losses by name (``G`` is eq. 10's total), and L = G(A) (B,3,H,W).

    Losses that are switched off are left out.
    """
    G, G_inv = nets.G, nets.G_inv
    zero = batch.A.new_zeros(())
    losses: dict[str, Tensor] = {}
    compared = batch.reblur_target is not None
    with torch.set_grad_enabled(weights.t_branch or compared):
        L = G(batch.A_input)  # eq. 2
    if weights.t_branch:
        losses["adv"] = adversarial_loss(nets.D(L))  # eq. 4
        if G_inv is not None and weights.recon:
            losses["recon"] = reconstruction_loss(batch.A, G_inv(L))  # eqs. 5, 6
    if weights.s_branch:
        losses["sr_B"] = self_regression_loss(batch.B, G(batch.B_input))  # eqs. 7, 8
        if G_inv is not None:
            losses["sr_A"] = self_regression_loss(batch.A, G_inv(batch.A))  # eq. 9
    adv, recon, sr_A, sr_B = (losses.get(name, zero) for name in ("adv", "recon", "sr_A", "sr_B"))
    total = total_loss(
        weights.adv * adv, recon, sr_A, sr_B, lambda_recon=weights.recon, lambda_sr=weights.sr
    )  # eq. 10
    if batch.reblur_target is not None:
        reblur = reblur_losses(batch.reblur_target, L, weights, nets.lpips)
        total = total + sum(getattr(weights, name) * loss for name, loss in reblur.items())
        losses |= reblur
    return losses | {"G": total}, L


def reblur_losses(
    target: Tensor, restored: Tensor, weights: LossConfig, lpips: nn.Module | None
) -> dict[str, Tensor]:
    """Compares G's result with A before its second blur: losses by their weights' names.

    A downsized image is sharper, since its blur shrinks with it; after a second blur, G has to
    restore it (Chen, Tachella, Davies: Equivariant Imaging, 2021; Scanvic et al.: Scale-Equivariant
    Imaging, 2023). Both images are B,3,H,W in [-1, 1].
    """
    losses: dict[str, Tensor] = {}
    if weights.reblur:
        losses["reblur"] = pyramid_loss(target, restored, weights.reblur_scales)
    if weights.ssim:
        losses["ssim"] = structure_loss(target, restored)
    if weights.lpips:
        assert lpips is not None, "loss.lpips without LPIPS among the networks"
        with torch.autocast(target.device.type, enabled=False):
            losses["lpips"] = lpips(target.float(), restored.float())
    return losses


def train_step(
    nets: Networks,
    parts: Sequence[Batch],
    weights: LossConfig,
    *,
    backward: Callable[[Tensor], None] = lambda loss: loss.backward(),
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    pool: Callable[[Tensor], Tensor] = lambda L: L,
    max_norm: float = math.inf,
) -> tuple[dict[str, Tensor], Tensor]:
    """Updates G and G_inv by eq. 10, then D by eq. 3.

    Args:
        parts: the step's batch in equal parts, whose gradients are averaged.
        backward: how a loss is propagated (``accelerator.backward``).
        autocast: the context of the forward passes (``torch.autocast``).
        pool: which restored images D is shown, given the newest (B,3,H,W to the same).
        max_norm: the generators' gradient is clipped to this (L2, all weights).

    Returns:
        The losses by name (detached scalars, means over the parts), and L = G(A), detached.
    """
    nets.D.requires_grad_(False)  # D's weights get no gradient from the generators' losses
    nets.opt_G.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    restored: list[Tensor] = []

    def collect(losses: dict[str, Tensor]) -> None:
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0) + loss.detach() / len(parts)

    for batch in parts:
        with autocast():
            losses, L = generator_losses(nets, batch, weights)
        backward(losses["G"] / len(parts))
        collect(losses)
        restored.append(L.detach())
    if max_norm < math.inf:
        weights_of_G = [p for group in nets.opt_G.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(weights_of_G, max_norm)
    nets.opt_G.step()

    if weights.t_branch:
        nets.D.requires_grad_(True)
        nets.opt_D.zero_grad(set_to_none=True)
        for batch, L in zip(parts, restored, strict=True):
            with autocast():
                loss = discriminator_loss(nets.D(batch.B), nets.D(pool(L)))  # eq. 3
            backward(loss / len(parts))
            collect({"D": loss})
        nets.opt_D.step()
    return sums, torch.cat(restored)
