"""One training step; reads like section 3.2 of the paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .losses import (
    adversarial_loss,
    discriminator_loss,
    pyramid_loss,
    reconstruction_loss,
    self_regression_loss,
    structure_loss,
    total_loss,
)
from .reblur import Again, BlurInverse, KnownBlur, blur_again, interior


@dataclass(frozen=True)
class LossWeights:
    """Eq. 10's weights, and switches for the ablation of Fig. 4.

    Attributes:
        recon: lambda_recon.
        sr: lambda_sr.
        adv: weight of the adversarial loss (1 in the paper).
        again: weight of the loss on pictures blurred again (0 in the paper); see `known_blur`.
        again_sizes: at how many sizes that loss compares them (full, half, quarter, ...), summed.
        ssim: weight of 1 - SSIM of the same pictures (0 in the paper).
        lpips: weight of LPIPS of the same pictures (0 in the paper); see `perceptual`.
        t_branch: the transformation branch, eqs. 2 to 6.
        s_branch: the self-regression branch, eqs. 7 to 9.
        s_branch_every: the self-regression branch only at every so many steps (1 in the paper).
    """

    recon: float = 10.0
    sr: float = 5.0
    adv: float = 1.0
    again: float = 0.0
    again_sizes: int = 1
    ssim: float = 0.0
    lpips: float = 0.0
    t_branch: bool = True
    s_branch: bool = True
    s_branch_every: int = 1

    def at(self, step: int) -> LossWeights:
        """With the branches that are due at this step, counted from 0."""
        return self if step % self.s_branch_every == 0 else replace(self, s_branch=False)


class Batch(NamedTuple):
    """One unpaired batch, each B,3,H,W in [-1, 1].

    `A` and `B` are what the losses compare with. `A_input` and `B_input` are what G is given: the
    same pictures, or the same with sensor noise where the recipe adds some. `blurs` says how those
    of A came about that were blurred on the fly, `again` how L is to be blurred once more. Where A
    was blurred again, `less` is what it was before that.
    """

    A: Tensor
    B: Tensor
    A_input: Tensor
    B_input: Tensor
    blurs: tuple[KnownBlur, ...] = ()
    again: tuple[Again, ...] = ()
    less: Tensor | None = None


@dataclass
class Networks:
    """G, G_inv and D, with their optimizers: one for both generators, one for D.

    `lpips` (B,3,H,W twice, in [-1, 1], to a scalar) does not learn; where its loss is used.
    """

    G: nn.Module
    G_inv: nn.Module
    D: nn.Module
    opt_G: torch.optim.Optimizer
    opt_D: torch.optim.Optimizer
    lpips: nn.Module | None = None


def reconstruct(G_inv: nn.Module, L: Tensor, batch: Batch) -> Tensor:
    """Eq. 5: A_recon = G_inv(L), by the network or by the known blur."""
    return G_inv(L, batch.blurs) if isinstance(G_inv, BlurInverse) else G_inv(L)


def generator_losses(
    nets: Networks, batch: Batch, weights: LossWeights
) -> tuple[dict[str, Tensor], Tensor]:
    """The generators' losses by name (``G`` is eq. 10's total), and L = G(A) (B,3,H,W).

    Those of a branch that is left out are not among them.
    """
    G, G_inv = nets.G, nets.G_inv
    zero = batch.A.new_zeros(())
    losses: dict[str, Tensor] = {}
    known = isinstance(G_inv, BlurInverse)
    with torch.set_grad_enabled(weights.t_branch or batch.less is not None):
        L = G(batch.A_input)  # eq. 2
    if weights.t_branch:
        losses["adv"] = adversarial_loss(nets.D(L))  # eq. 4
    if weights.t_branch and weights.recon:
        A_recon = reconstruct(G_inv, L, batch)  # eq. 5
        pair = (batch.A, A_recon)
        pair = tuple(map(interior, pair)) if known else pair
        losses["recon"] = reconstruction_loss(*pair)  # eq. 6
    if weights.s_branch:
        B_self = G(batch.B_input)  # eq. 7
        losses["sr_B"] = self_regression_loss(batch.B, B_self)  # eq. 8
        if not known:
            A_self = G_inv(batch.A)
            losses["sr_A"] = self_regression_loss(batch.A, A_self)  # eq. 9
    adv, recon, sr_A, sr_B = (losses.get(name, zero) for name in ("adv", "recon", "sr_A", "sr_B"))
    total = total_loss(
        weights.adv * adv, recon, sr_A, sr_B, lambda_recon=weights.recon, lambda_sr=weights.sr
    )  # eq. 10
    if weights.again:
        if batch.less is not None:
            sharp, restored = batch.less, L
        else:
            sharp, blurry = blur_again(L.detach(), batch.again)
            restored = G(blurry)
        again = again_losses(sharp, restored, weights, nets.lpips)
        total = total + sum(getattr(weights, name) * loss for name, loss in again.items())
        losses |= again
    return losses | {"G": total}, L


def again_losses(
    sharp: Tensor, restored: Tensor, weights: LossWeights, lpips: nn.Module | None
) -> dict[str, Tensor]:
    """By the names of their weights: the losses on pictures blurred again (B,3,H,W each)."""
    losses = {"again": pyramid_loss(sharp, restored, weights.again_sizes)}
    if weights.ssim:
        losses["ssim"] = structure_loss(sharp, restored)
    if weights.lpips:
        assert lpips is not None, "loss.lpips without LPIPS among the networks"
        with torch.autocast(sharp.device.type, enabled=False):
            losses["lpips"] = lpips(sharp.float(), restored.float())
    return losses


def train_step(
    nets: Networks,
    batch: Batch,
    weights: LossWeights,
    *,
    backward: Callable[[Tensor], None] = lambda loss: loss.backward(),
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    pool: Callable[[Tensor], Tensor] = lambda L: L,
    max_norm: float = math.inf,
) -> tuple[dict[str, Tensor], Tensor]:
    """Updates G and G_inv by eq. 10, then D by eq. 3.

    Args:
        backward: how a loss is propagated (``accelerator.backward``).
        autocast: the context of the forward passes (``torch.autocast``).
        pool: which restored pictures D is shown, given the newest (B,3,H,W to the same).
        max_norm: a larger gradient of the generators is shortened to this (L2, all weights).

    Returns:
        The losses by name (detached scalars), and L = G(A), detached.
    """
    nets.D.requires_grad_(False)  # D's weights get no gradient from the generators' losses
    with autocast():
        losses, L = generator_losses(nets, batch, weights)
    nets.opt_G.zero_grad(set_to_none=True)
    backward(losses["G"])
    if max_norm < math.inf:
        weights_of_G = [p for group in nets.opt_G.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(weights_of_G, max_norm)
    nets.opt_G.step()

    L = L.detach()
    if weights.t_branch:
        nets.D.requires_grad_(True)
        with autocast():
            losses["D"] = discriminator_loss(nets.D(batch.B), nets.D(pool(L)))  # eq. 3
        nets.opt_D.zero_grad(set_to_none=True)
        backward(losses["D"])
        nets.opt_D.step()
    return {name: loss.detach() for name, loss in losses.items()}, L
