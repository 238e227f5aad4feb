"""Muon for the convolutions' weights, Adam for the rest."""

import pytest
import torch
from torch import nn

from devudp_model.generator import Generator
from training.config import ConfigError, ScheduleConfig
from training.method.optimizer import MuonAdam, make_optimizer

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


@needs_muon
def test_kernels_move_as_torchs_muon_moves_matrices():
    G, schedule = networks(), MUON
    kernel = G.get_parameter("encode1.0.conv1.weight")
    before = kernel.detach().flatten(1).clone()
    train(G, make_optimizer(G.parameters(), schedule), steps=1)
    matrix = nn.Parameter(before)
    assert kernel.grad is not None
    matrix.grad = kernel.grad.flatten(1)
    torch.optim.Muon(
        [matrix],
        schedule.lr * schedule.muon,
        weight_decay=0.0,
        adjust_lr_fn="match_rms_adamw",
    ).step()
    assert torch.equal(kernel.detach().flatten(1), matrix.detach())


@needs_muon
def test_the_rest_moves_as_by_adam():
    G, twin = networks(), networks()
    train(G, make_optimizer(G.parameters(), MUON), steps=1)
    train(twin, torch.optim.Adam(twin.parameters(), MUON.lr, MUON.betas), steps=1)
    for name in ("head.weight", "head.bias", "stem.norm.weight", "up1.norm.bias"):
        assert torch.equal(G.get_parameter(name), twin.get_parameter(name)), name
    assert not torch.equal(
        G.get_parameter("stem.conv.weight"), twin.get_parameter("stem.conv.weight")
    )


@needs_muon
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


@needs_muon
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


@needs_muon
def test_follows_the_learning_rate():
    G = networks()
    optimizer = make_optimizer(G.parameters(), MUON)
    before = [p.detach().clone() for p in G.parameters()]
    optimizer.param_groups[0]["lr"] = 0.0
    train(G, optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, G.parameters(), strict=True))


def test_without_it_all_is_adam():
    assert type(make_optimizer(networks().parameters(), ScheduleConfig())) is torch.optim.Adam


def test_an_older_torch_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ConfigError, match="this is"):
        MuonAdam(networks().parameters(), 1e-3, (0.9, 0.999), 1.0)
