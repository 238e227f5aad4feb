"""One training step: who learns from what, the branches, the pool."""

import copy

import pytest
import torch
from torch import Tensor, nn
from training.method.discriminator import Discriminator

from devudp_model.generator import Generator
from training.method.pool import PicturePool
from training.method.step import Batch, LossWeights, Networks, generator_losses, train_step


def make_networks(lr: float = 2e-4) -> Networks:
    torch.manual_seed(0)
    G, G_inv, D = Generator(width=4, depth=1), Generator(width=4, depth=1), Discriminator(4)
    opt_G = torch.optim.Adam([*G.parameters(), *G_inv.parameters()], lr, (0.5, 0.999))
    return Networks(G, G_inv, D, opt_G, torch.optim.Adam(D.parameters(), lr, (0.5, 0.999)))


def make_batch(seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    A, B = (torch.rand(2, 3, 32, 32, generator=rng) * 2 - 1 for _ in "AB")
    return Batch(A, B, A, B)


def weights_of(network: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def changed(before: list[Tensor], network: nn.Module) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(before, weights_of(network), strict=True))


def test_discriminator_size_is_the_documented_one():
    assert sum(p.numel() for p in Discriminator().parameters()) == 2_764_737


def test_all_three_networks_learn():
    nets = make_networks()
    before = [weights_of(n) for n in (nets.G, nets.G_inv, nets.D)]
    losses, L = train_step(nets, make_batch(), LossWeights())
    assert all(changed(b, n) for b, n in zip(before, (nets.G, nets.G_inv, nets.D), strict=True))
    assert set(losses) == {"G", "D", "adv", "recon", "sr_A", "sr_B"}
    assert not L.requires_grad and L.shape == (2, 3, 32, 32)


def test_losses_are_those_of_the_paper():
    nets, batch = make_networks(), make_batch()
    G, G_inv, D = (copy.deepcopy(n) for n in (nets.G, nets.G_inv, nets.D))
    with torch.no_grad():
        L = G(batch.A)
        adv = (D(L) - 1).square().mean()
        recon = (G_inv(L) - batch.A).abs().mean()
        sr = (G(batch.B) - batch.B).abs().mean() + (G_inv(batch.A) - batch.A).abs().mean()
        loss_D = 0.5 * (D(batch.B) - 1).square().mean() + 0.5 * D(L).square().mean()
    losses, restored = train_step(nets, batch, LossWeights())
    assert losses["G"].item() == pytest.approx((adv + 10 * recon + 5 * sr).item(), rel=1e-5)
    assert losses["D"].item() == pytest.approx(loss_D.item(), rel=1e-5)
    torch.testing.assert_close(restored, L)


def test_D_gets_no_gradient_from_the_generators():
    nets, grads = make_networks(), []

    def backward(loss: Tensor) -> None:
        loss.backward()
        grads.append([p.grad is not None for p in nets.D.parameters()])

    train_step(nets, make_batch(), LossWeights(), backward=backward)
    assert not any(grads[0]) and all(grads[1])


def test_generators_get_no_gradient_from_D():
    nets = make_networks()
    train_step(nets, make_batch(), LossWeights())
    kept = [p.grad.clone() for p in nets.G.parameters() if p.grad is not None]
    nets.opt_D.zero_grad()
    L = nets.G(make_batch().A).detach()
    nets.D(L).sum().backward()
    now = [p.grad for p in nets.G.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))


def test_without_the_self_regression_branch():
    nets = make_networks()
    losses, _ = train_step(nets, make_batch(), LossWeights(s_branch=False))
    assert "sr_A" not in losses and "sr_B" not in losses and losses["recon"] > 0


def test_without_the_transformation_branch_D_rests():
    nets = make_networks()
    before = weights_of(nets.D)
    losses, _ = train_step(nets, make_batch(), LossWeights(t_branch=False))
    assert losses["sr_B"] > 0 and not {"adv", "recon", "D"} & set(losses)
    assert not changed(before, nets.D)


def test_noise_goes_into_G_and_not_into_the_losses():
    nets, clean = make_networks(), make_batch()
    noisy = clean._replace(A_input=make_batch(1).A, B_input=make_batch(1).B)
    losses, L = generator_losses(nets, noisy, LossWeights())
    torch.testing.assert_close(L, nets.G(noisy.A_input))
    expected = (nets.G(noisy.B_input) - clean.B).abs().mean()
    torch.testing.assert_close(losses["sr_B"], expected)


@pytest.mark.slow
def test_steps_on_one_batch_lower_the_loss():
    nets, batch = make_networks(lr=2e-3), make_batch()
    totals = [train_step(nets, batch, LossWeights())[0]["G"].item() for _ in range(12)]
    assert totals[-1] < 0.8 * totals[0]


def test_pool_of_size_0_hands_out_what_comes_in():
    L = torch.rand(2, 3, 4, 4)
    assert PicturePool(0)(L) is L


def test_pool_mixes_in_earlier_pictures_and_can_be_resumed():
    pool, pictures = PicturePool(4, seed=1), torch.arange(40.0).view(40, 1, 1, 1)
    first = pool(pictures[:4])
    assert torch.equal(first, pictures[:4])
    pool(pictures[4:20])
    state = copy.deepcopy(pool.state())
    rest = pool(pictures[20:])
    older = (rest.flatten() < 20).sum().item()
    assert 0 < older < 20
    other = PicturePool(4, seed=9)
    other.load(state, torch.device("cpu"))
    assert torch.equal(other(pictures[20:]), rest)
