"""The losses of section 3.2 as pure functions. All are means, whatever the size of the crops."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from devudp_model.ops.metrics import similarity


def discriminator_loss(D_B: Tensor, D_L: Tensor) -> Tensor:
    """Eq. 3: L_D = 1/2 E[(D(B) - 1)^2] + 1/2 E[D(L)^2], with L detached by the caller.

    Args:
        D_B: D's answers on sharp images B, any shape.
        D_L: D's answers on restored images L = G(A).
    """
    return 0.5 * (D_B.float() - 1).square().mean() + 0.5 * D_L.float().square().mean()


def adversarial_loss(D_L: Tensor) -> Tensor:
    """Eq. 4: L_G = E[(D(L) - 1)^2]."""
    return (D_L.float() - 1).square().mean()


def reconstruction_loss(A: Tensor, A_recon: Tensor) -> Tensor:
    """Eq. 6: L_recon = |A - A_recon|_1, with A_recon = G_inv(G(A))."""
    return F.l1_loss(A_recon.float(), A.float())


def self_regression_loss(x: Tensor, x_self: Tensor) -> Tensor:
    """Eq. 8, L_sr_B = |B - B_self|_1 with B_self = G(B); eq. 9, the same of A and G_inv."""
    return F.l1_loss(x_self.float(), x.float())


def pyramid_loss(x: Tensor, restored: Tensor, sizes: int) -> Tensor:
    """Returns the sum of L1 between images (B,3,H,W), their halves, quarters, ...: `sizes` in all.

    At full size alone, the finest detail counts most, and blur leaves least of that. The error of a
    long streak is coarser.
    """
    total = self_regression_loss(x, restored)
    for level in range(1, sizes):
        small, restored_small = (F.avg_pool2d(y.float(), 2**level) for y in (x, restored))
        total = total + self_regression_loss(small, restored_small)
    return total


def structure_loss(x: Tensor, restored: Tensor) -> Tensor:
    """1 - SSIM of images (B,3,H,W in [-1, 1], sides of 11 pixels and more), in float32.

    L1 rewards the right brightness; SSIM rewards the right contrast, in faint detail as much as in
    strong (Zhao et al.: Loss Functions for Image Restoration with Neural Networks, 2017).
    """
    with torch.autocast(x.device.type, enabled=False):
        return 1 - similarity((x.float() + 1) / 2, (restored.float() + 1) / 2, 1.0)


def total_loss(
    adv: Tensor,
    recon: Tensor,
    sr_A: Tensor,
    sr_B: Tensor,
    *,
    lambda_recon: float = 10.0,
    lambda_sr: float = 5.0,
) -> Tensor:
    """Eq. 10: L_total = L_adv + lambda_recon L_recon + lambda_sr (L_sr_A + L_sr_B)."""
    return adv + lambda_recon * recon + lambda_sr * (sr_A + sr_B)
