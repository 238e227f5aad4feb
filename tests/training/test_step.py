"""One training step: who learns from what, the branches, the pool, parts of a batch."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn

from devudp_model.network.generator import Generator
from tests.training.training_run import changed, copied
from training.batch import Batch
from training.config import LossConfig, ModelConfig
from training.method.losses import pyramid_loss, structure_loss
from training.method.networks import Discriminator, make_generator
from training.method.pool import ImagePool
from training.method.step import Networks, due, generator_losses, train_step

PAPER = LossConfig()
ALONE = LossConfig(t_branch=False, s_branch=False, reblur=1.0)


def make_networks(lr: float = 2e-4, inverse: bool = True, sgd: bool = False) -> Networks:
    torch.manual_seed(0)
    G, D = Generator(width=4, depth=1), Discriminator(4)
    G_inv = Generator(width=4, depth=1) if inverse else None
    both = [*G.parameters(), *(G_inv.parameters() if G_inv else ())]
    if sgd:
        return Networks(G, G_inv, D, torch.optim.SGD(both, lr), torch.optim.SGD(D.parameters(), lr))
    opt_D = torch.optim.Adam(D.parameters(), lr, (0.5, 0.999))
    return Networks(G, G_inv, D, torch.optim.Adam(both, lr, (0.5, 0.999)), opt_D)


def make_batch(seed: int = 0, reblur: bool = False, count: int = 2) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    A, B, target = (torch.rand(count, 3, 32, 32, generator=rng) * 2 - 1 for _ in "ABt")
    return Batch(A, B, A, B, target if reblur else None)


def grads_of(network: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


def test_discriminator_size_is_the_documented_one():
    assert sum(p.numel() for p in Discriminator().parameters()) == 2_764_737
    assert Discriminator(4)(torch.zeros(2, 3, 24, 24)).shape[:2] == (2, 1)


def test_all_three_networks_learn():
    nets = make_networks()
    networks = [n for n in (nets.G, nets.G_inv, nets.D) if n is not None]
    before = [copied(n) for n in networks]
    losses, L = train_step(nets, [make_batch()], PAPER)
    assert len(networks) == 3
    assert all(changed(b, n) for b, n in zip(before, networks, strict=True))
    assert set(losses) == {"G", "D", "adv", "recon", "sr_A", "sr_B"}
    assert not L.requires_grad and L.shape == (2, 3, 32, 32)


def test_losses_are_those_of_the_paper():
    nets, batch = make_networks(), make_batch()
    assert nets.G_inv is not None
    G, G_inv, D = (copy.deepcopy(n) for n in (nets.G, nets.G_inv, nets.D))
    with torch.no_grad():
        L = G(batch.A)
        adv = (D(L) - 1).square().mean()
        recon = (G_inv(L) - batch.A).abs().mean()
        sr = (G(batch.B) - batch.B).abs().mean() + (G_inv(batch.A) - batch.A).abs().mean()
        loss_D = 0.5 * (D(batch.B) - 1).square().mean() + 0.5 * D(L).square().mean()
    losses, restored = train_step(nets, [batch], PAPER)
    assert losses["G"].item() == pytest.approx((adv + 10 * recon + 5 * sr).item(), rel=1e-5)
    assert losses["D"].item() == pytest.approx(loss_D.item(), rel=1e-5)
    torch.testing.assert_close(restored, L)


def test_weights_of_the_losses():
    weights = LossConfig(adv=0.1, recon=3.0, sr=0.5)
    losses, _ = generator_losses(make_networks(), make_batch(), weights)
    total = 0.1 * losses["adv"] + 3 * losses["recon"] + 0.5 * (losses["sr_A"] + losses["sr_B"])
    assert losses["G"].item() == pytest.approx(total.item(), rel=1e-5)


def test_D_gets_no_gradient_from_the_generators():
    nets, grads = make_networks(), []

    def backward(loss: Tensor) -> None:
        loss.backward()
        grads.append([p.grad is not None for p in nets.D.parameters()])

    train_step(nets, [make_batch()], PAPER, backward=backward)
    assert not any(grads[0]) and all(grads[1])


def test_generators_get_no_gradient_from_D():
    nets, grads = make_networks(), []

    def backward(loss: Tensor) -> None:
        loss.backward()
        grads.append(grads_of(nets.G))

    train_step(nets, [make_batch()], PAPER, backward=backward)
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_without_the_self_regression_branch():
    losses, _ = train_step(make_networks(), [make_batch()], LossConfig(s_branch=False))
    assert set(losses) == {"G", "D", "adv", "recon"}


def test_without_the_transformation_branch_D_rests():
    nets = make_networks()
    before = copied(nets.D)
    losses, _ = train_step(nets, [make_batch()], LossConfig(t_branch=False))
    assert set(losses) == {"G", "sr_A", "sr_B"} and losses["sr_B"] > 0
    assert not changed(before, nets.D)


def test_without_G_inv():
    losses, _ = train_step(make_networks(inverse=False), [make_batch()], PAPER)
    assert set(losses) == {"G", "D", "adv", "sr_B"}


def test_the_self_regression_branch_at_every_third_step():
    weights = LossConfig(s_branch_every=3)
    assert [due(weights, step).s_branch for step in range(7)] == [
        True, False, False, True, False, False, True]  # fmt: skip
    assert due(PAPER, 5) == PAPER


def test_noise_goes_into_G_and_not_into_the_losses():
    nets, clean = make_networks(), make_batch()
    noisy = clean._replace(A_input=make_batch(1).A, B_input=make_batch(1).B)
    losses, L = generator_losses(nets, noisy, PAPER)
    torch.testing.assert_close(L, nets.G(noisy.A_input))
    expected = (nets.G(noisy.B_input) - clean.B).abs().mean()
    torch.testing.assert_close(losses["sr_B"], expected)


def test_where_A_was_blurred_a_second_time_L_has_to_be_what_it_was():
    nets, batch = make_networks(inverse=False), make_batch(reblur=True)
    nets.lpips = nn.L1Loss()  # any distance does here
    weights = LossConfig(adv=0.1, reblur=10.0, reblur_scales=3, ssim=2.0, lpips=3.0)
    losses, L = generator_losses(nets, batch, weights)
    assert batch.reblur_target is not None
    torch.testing.assert_close(losses["reblur"], pyramid_loss(batch.reblur_target, L, 3))
    torch.testing.assert_close(losses["ssim"], structure_loss(batch.reblur_target, L))
    torch.testing.assert_close(losses["lpips"], (batch.reblur_target - L).abs().mean())
    total = 0.1 * losses["adv"] + 5 * losses["sr_B"] + 10 * losses["reblur"]
    total = total + 2 * losses["ssim"] + 3 * losses["lpips"]
    assert losses["G"].item() == pytest.approx(total.item(), rel=1e-5)
    only, L = generator_losses(nets, batch, ALONE)
    assert set(only) == {"G", "reblur"} and L.requires_grad


def test_lpips_is_computed_in_full_precision():
    """Its differences of large features would drown in 16 bits."""
    seen = []

    class Distance(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            seen.append((x.dtype, y.dtype, torch.is_autocast_enabled("cpu")))
            return (x - y).abs().mean()

    nets = make_networks(inverse=False)
    nets.lpips = Distance()
    with torch.autocast("cpu", torch.bfloat16):
        generator_losses(nets, make_batch(reblur=True), LossConfig(lpips=1.0))
    assert seen == [(torch.float32, torch.float32, False)]


def test_where_nothing_is_asked_of_L_it_costs_no_gradient():
    nets = make_networks()
    losses, L = generator_losses(nets, make_batch(), LossConfig(t_branch=False))
    assert not L.requires_grad and losses["G"].requires_grad


def test_long_gradients_are_shortened():
    def gradient(max_norm: float) -> float:
        nets = make_networks(sgd=True)
        train_step(nets, [make_batch()], PAPER, max_norm=max_norm)
        assert nets.G_inv is not None
        grads = [*grads_of(nets.G), *grads_of(nets.G_inv)]
        return torch.stack([g.norm() for g in grads]).norm().item()

    free = gradient(1e9)
    assert gradient(free / 4) == pytest.approx(free / 4, rel=1e-3)
    assert gradient(2 * free) == pytest.approx(free, rel=1e-6)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_learn_what_the_whole_batch_does(parts: int):
    """InstanceNorm looks at each image by itself, so only the order of sums differs."""
    whole, pieces = (make_networks(sgd=True) for _ in range(2))
    batch = make_batch(count=4)
    chunks = [Batch(*row) for row in zip(*(x.chunk(parts) for x in batch[:4]), strict=True)]
    losses, L = train_step(whole, [batch], PAPER)
    sums, restored = train_step(pieces, chunks, PAPER)
    torch.testing.assert_close(restored, L, atol=1e-5, rtol=0)
    assert losses.keys() == sums.keys()
    for name, loss in losses.items():
        assert sums[name].item() == pytest.approx(loss.item(), rel=1e-5), name
    for a, b in ((whole.G, pieces.G), (whole.G_inv, pieces.G_inv), (whole.D, pieces.D)):
        assert a is not None and b is not None
        for mine, its in zip(grads_of(a), grads_of(b), strict=True):
            assert (mine - its).norm() <= 1e-4 * mine.norm() + 1e-6


@pytest.mark.slow
def test_steps_on_one_batch_lower_the_loss():
    nets, batch = make_networks(lr=2e-3), make_batch()
    totals = [train_step(nets, [batch], PAPER)[0]["G"].item() for _ in range(12)]
    assert totals[-1] < 0.8 * totals[0]


# The pool


def test_D_learns_from_what_the_pool_hands_out():
    """Each part's L goes through the pool, and D's loss is of what comes out."""
    earlier, given = make_batch(9).A, []

    def pool(L: Tensor) -> Tensor:
        given.append(L)
        return earlier

    nets, batch = make_networks(), make_batch()
    D = copy.deepcopy(nets.D)
    losses, L = train_step(nets, [batch], PAPER, pool=pool)
    assert len(given) == 1 and torch.equal(given[0], L)
    with torch.no_grad():
        expected = 0.5 * (D(batch.B) - 1).square().mean() + 0.5 * D(earlier).square().mean()
        without = 0.5 * (D(batch.B) - 1).square().mean() + 0.5 * D(L).square().mean()
    assert abs(expected - without) > 1e-4
    assert losses["D"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_pool_of_size_0_hands_out_what_comes_in():
    L = torch.rand(2, 3, 4, 4)
    assert ImagePool(0)(L) is L


def test_pool_mixes_in_earlier_images_and_can_be_resumed():
    pool, images = ImagePool(4, seed=1), torch.arange(40.0).view(40, 1, 1, 1)
    first = pool(images[:4])
    assert torch.equal(first, images[:4])
    pool(images[4:20])
    state = copy.deepcopy(pool.state())
    rest = pool(images[20:])
    older = (rest.flatten() < 20).sum().item()
    assert 0 < older < 20
    other = ImagePool(4, seed=9)
    other.load(state, torch.device("cpu"))
    assert torch.equal(other(images[20:]), rest)


def test_pool_starts_anew_with_crops_of_another_size():
    pool = ImagePool(2)
    pool(torch.zeros(2, 3, 8, 8))
    larger = torch.rand(2, 3, 16, 16)
    assert torch.equal(pool(larger), larger)


# Where G starts


def test_the_last_layer_is_zero_where_the_recipe_leaves_it_so():
    dt = ModelConfig("devudp-dt", 4, 1)
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(make_generator(dt, 4).eval()(image), image)
    other = make_generator(dataclasses.replace(dt, zero_head=False), 4).eval()
    assert (other(image) - image).abs().mean() > 0.01
    assert make_generator(ModelConfig("devudp", 4, 1), 6).width == 6
