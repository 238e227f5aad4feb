"""Each loss of section 3.2 against a value computed by hand."""

import pytest
import torch

from devudp_model.ops.metrics import ssim
from training.method.losses import (
    adversarial_loss,
    discriminator_loss,
    pyramid_loss,
    reconstruction_loss,
    self_regression_loss,
    structure_loss,
    total_loss,
)

T = torch.tensor


def test_discriminator_loss_eq_3():
    # 1/2 mean((1 - 1)^2, (-0.5 - 1)^2) + 1/2 mean(0.2^2, 0.4^2) = 1/2 1.125 + 1/2 0.1
    assert discriminator_loss(T([1.0, -0.5]), T([0.2, 0.4])).item() == pytest.approx(0.6125)


def test_adversarial_loss_eq_4():
    # mean((0 - 1)^2, (3 - 1)^2) = 5 / 2
    assert adversarial_loss(T([0.0, 3.0])).item() == pytest.approx(2.5)


def test_reconstruction_loss_eq_6():
    assert reconstruction_loss(T([0.0, 1.0]), T([0.5, -1.0])).item() == pytest.approx(1.25)


def test_self_regression_loss_eqs_8_and_9():
    assert self_regression_loss(T([0.25]), T([-0.25])).item() == pytest.approx(0.5)


def test_pyramid_loss_compares_halves_and_quarters():
    """What alternates in 2x2 is gone at half the size, in 4x4 at a quarter; an offset never is."""
    down, across = (torch.arange(32) for _ in "xy")

    def checks(period: int) -> torch.Tensor:
        cells = down[:, None] // (period // 2) + across // (period // 2)
        return (cells % 2 - 0.5).expand(2, 3, 32, 32)

    black = torch.zeros(2, 3, 32, 32)
    for period, seen_at in ((2, 1), (4, 2), (8, 3), (16, 4)):
        found = [pyramid_loss(black, checks(period), scales).item() for scales in (1, 2, 3, 4)]
        assert found == [0.5 * min(scales, seen_at) for scales in (1, 2, 3, 4)], period
    assert pyramid_loss(black, black + 0.25, 3).item() == pytest.approx(0.75)
    assert pyramid_loss(black, checks(2), 1) == self_regression_loss(black, checks(2))


def test_structure_loss_is_what_ssim_lacks():
    """The metric on 8-bit images, one by one; and a gradient, under autocast as well."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 2, 3, 24, 24), generator=rng, dtype=torch.uint8)
    sharp, restored = (x.float() / 127.5 - 1 for x in images)
    expected = 1 - sum(ssim(a, b) for a, b in zip(*images, strict=True)) / 2
    assert structure_loss(sharp, restored).item() == pytest.approx(expected, abs=1e-5)
    assert structure_loss(sharp, sharp).item() == pytest.approx(0, abs=1e-6)
    restored.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = structure_loss(sharp, restored)
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    loss.backward()
    assert restored.grad is not None and restored.grad.abs().min() > 0


def test_total_loss_eq_10():
    # 1 + 10 * 2 + 5 * (3 + 4)
    assert total_loss(T(1.0), T(2.0), T(3.0), T(4.0)).item() == pytest.approx(56)
    assert total_loss(
        T(1.0), T(2.0), T(3.0), T(4.0), lambda_recon=1, lambda_sr=0
    ).item() == pytest.approx(3)


@pytest.mark.parametrize("side", [8, 16])
def test_losses_do_not_depend_on_the_size(side: int):
    x, y = torch.full((2, 3, side, side), 0.5), torch.zeros(2, 3, side, side)
    values = [
        discriminator_loss(x, y),
        adversarial_loss(x),
        reconstruction_loss(x, y),
        self_regression_loss(x, y),
    ]
    assert [v.item() for v in values] == pytest.approx([0.125, 0.25, 0.5, 0.5])


def test_losses_of_half_precision_are_computed_in_full():
    tiny = torch.full((4,), 1e-4, dtype=torch.bfloat16)
    loss = discriminator_loss(torch.ones(4, dtype=torch.bfloat16), tiny)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(5e-9, rel=0.02)
