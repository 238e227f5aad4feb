"""Muon for the convolutions' weights, Adam for the rest."""

import pytest
import torch
from torch import nn

from devudp_model.network.generator import Generator
from training.config import ScheduleConfig
from training.method.optimizer import make_optimizer, orthogonalise

MUON = ScheduleConfig(lr=1e-3, muon=2.0)

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9")


def networks(layout: torch.memory_format = torch.contiguous_format) -> Generator:
    torch.manual_seed(0)
    G = Generator("devudp-dt", 8, 1)
    nn.init.normal_(G.get_parameter("head.weight"), std=0.02)
    return G.to(memory_format=layout)  # pyright: ignore[reportCallIssue]


def train(G: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    torch.manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        (G(torch.rand(2, 3, 16, 16)) - torch.rand(2, 3, 16, 16)).abs().mean().backward()
        optimizer.step()


TOLERANCE = 0.02
"""Of the whole change, relative. bfloat16 has 8 digits, so a sum in another order may differ by
2^-8, 0.4 % of the largest value; five Newton-Schulz steps bring singular values nearer to 1 and
pass that on a few times. A wrong factor or momentum is off by far more."""


@needs_muon
@pytest.mark.parametrize(
    ("steps", "layout"),
    [(1, torch.contiguous_format), (4, torch.contiguous_format), (4, torch.channels_last)],
)
def test_kernels_move_as_torchs_muon_moves_matrices(steps: int, layout: torch.memory_format):
    """Each layer by itself, though those of one shape are worked on together."""
    G = networks(layout)
    names = [n for n, p in G.named_parameters() if p.ndim == 4 and p.shape[0] > 3]
    start = {name: G.get_parameter(name).detach().flatten(1).clone() for name in names}
    matrices = {name: nn.Parameter(start[name].clone()) for name in names}
    mine = make_optimizer(G.parameters(), MUON)
    its = torch.optim.Muon(
        list(matrices.values()), MUON.lr * MUON.muon, weight_decay=0.0, momentum=0.95,
        nesterov=True, adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip
    for seed in range(steps):
        torch.manual_seed(seed)
        mine.zero_grad()
        (G(torch.rand(2, 3, 16, 16)) - torch.rand(2, 3, 16, 16)).abs().mean().backward()
        for name, matrix in matrices.items():
            grad = G.get_parameter(name).grad
            assert grad is not None
            matrix.grad = grad.flatten(1).clone()
        mine.step()
        its.step()
    assert len(names) > 5
    for name in names:
        moved = G.get_parameter(name).detach().flatten(1) - start[name]
        expected = matrices[name].detach() - start[name]
        assert (moved - expected).norm() < TOLERANCE * expected.norm(), name


def test_orthogonalised_matrices_have_singular_values_near_1():
    rng = torch.Generator().manual_seed(0)
    for shape in ((3, 16, 16), (2, 8, 72), (2, 72, 8)):
        made = orthogonalise(torch.randn(*shape, generator=rng) * 7).float()
        values = torch.linalg.svdvals(made)
        assert values.min() > 0.3 and values.max() < 1.3, shape


@pytest.mark.slow
def test_a_network_that_rests_does_not_move():
    """G_inv has no gradient where eqs. 6 and 9 are left out, and its kernels have G's shapes."""
    G, resting = networks(), networks()
    optimizer = make_optimizer([*G.parameters(), *resting.parameters()], MUON)
    alone = networks()
    train(G, optimizer, 2)
    train(alone, make_optimizer(alone.parameters(), MUON), 2)
    for name, weight in G.named_parameters():
        assert torch.equal(resting.get_parameter(name), networks().get_parameter(name)), name
        change = (weight - networks().get_parameter(name)).norm()
        assert (weight - alone.get_parameter(name)).norm() <= TOLERANCE * change, name


def test_the_rest_moves_as_by_adam():
    G, twin = networks(), networks()
    train(G, make_optimizer(G.parameters(), MUON), steps=1)
    train(twin, torch.optim.Adam(twin.parameters(), MUON.lr, MUON.betas), steps=1)
    for name in ("head.weight", "head.bias", "stem.norm.weight", "up1.norm.bias"):
        assert torch.equal(G.get_parameter(name), twin.get_parameter(name)), name
    assert not torch.equal(
        G.get_parameter("stem.conv.weight"), twin.get_parameter("stem.conv.weight")
    )


def test_memory_format_changes_nothing_but_rounding():
    # The columns of a matrix come in another order then: sums, and with them bfloat16, differ.
    plain, last = networks(), networks(torch.channels_last)
    start = plain.get_parameter("encode2.0.conv1.weight").detach().clone()
    for G in (plain, last):
        train(G, make_optimizer(G.parameters(), MUON), steps=1)
    a, b = (G.get_parameter("encode2.0.conv1.weight").detach() - start for G in (plain, last))
    assert last.get_parameter("encode2.0.conv1.weight").is_contiguous(
        memory_format=torch.channels_last
    )
    assert (a - b).norm() < 0.03 * a.norm()


def test_goes_on_from_its_state():
    G, broken = networks(), networks()
    optimizer = make_optimizer(G.parameters(), MUON)
    train(G, optimizer, 2)
    first = make_optimizer(broken.parameters(), MUON)
    train(broken, first, 2)
    second = make_optimizer(broken.parameters(), MUON)
    second.load_state_dict(first.state_dict())
    train(G, optimizer, 2)
    train(broken, second, 2)
    for name, weight in G.named_parameters():
        assert torch.equal(weight, broken.get_parameter(name)), name


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_state_does_not_depend_on_the_memory_format(layout: torch.memory_format):
    """Rows of a kernel in the order I,H,W, as states of 0.7 have them."""
    G, other = networks(layout), networks()
    optimizer = make_optimizer(G.parameters(), MUON)
    train(G, optimizer, 1)
    state = optimizer.state_dict()
    kernel = G.get_parameter("encode2.0.conv1.weight")
    assert kernel.grad is not None
    (rows,) = [m for m in state["muon"] if m.shape[1:] == (16, 144)]
    assert (rows == 0.05 * kernel.grad.flatten(1)).all((1, 2)).sum() == 1
    loaded = make_optimizer(other.parameters(), MUON)
    loaded.load_state_dict(state)
    for mine, its in zip(loaded.state_dict()["muon"], state["muon"], strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_kernels_with_more_outputs_than_inputs(layout: torch.memory_format):
    """The stem of a wide network: Newton-Schulz works on the transposed matrix."""
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(40, 2, 3, 3).to(memory_format=layout))
    before, kernel.grad = kernel.detach().clone(), torch.randn_like(kernel)
    make_optimizer([kernel, nn.Parameter(torch.zeros(1))], MUON).step()
    moved = (before - kernel.detach()).flatten(1)
    nesterov = kernel.grad.flatten(1) * (0.05 + 0.95 * 0.05)
    rate = MUON.lr * MUON.muon * 0.2 * 40**0.5
    expected = orthogonalise(nesterov[None])[0].float() * rate
    assert (moved - expected).norm() < TOLERANCE * expected.norm()


def test_follows_the_learning_rate():
    G = networks()
    optimizer = make_optimizer(G.parameters(), MUON)
    before = [p.detach().clone() for p in G.parameters()]
    optimizer.param_groups[0]["lr"] = 0.0
    train(G, optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, G.parameters(), strict=True))


def test_without_it_all_is_adam():
    assert type(make_optimizer(networks().parameters(), ScheduleConfig())) is torch.optim.Adam
