"""The make-believe accelerator itself: what it refuses, counts and runs out of."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.accelerator.counts import STATE, counting, watching_memory


def test_tensors_of_two_devices_are_refused(device: torch.device) -> None:
    x, y = torch.ones(3, 3, device=device), torch.ones(3, 3)
    for mix in (
        lambda: x + y,
        lambda: y * x.sum(),
        lambda: torch.cat([x, y]),
        lambda: F.conv2d(x[None, None], y[None, None]),
        lambda: y.add_(x),
        lambda: y[0, 0].add_(x[0, 0]),
        lambda: torch.add(x, x, out=y),
        lambda: y[x > 0],
        lambda: x.index_select(0, torch.tensor([0])),
        lambda: torch.where(y > 0, x, x),
        lambda: torch.randn(3, device=device, generator=torch.Generator()),
        lambda: x.numpy(),
    ):
        with pytest.raises((RuntimeError, TypeError)):
            mix()


def test_what_CUDA_allows_is_allowed(device: torch.device) -> None:
    x, y = torch.ones(3, 3, device=device), torch.ones(3, 3)
    assert (x * torch.tensor(2.0)).device == device  # a number of the processor's
    assert x[torch.tensor([0, 2])].shape == (2, 3)  # its indices
    assert torch.equal(x.copy_(y * 2).cpu(), y * 2)
    assert torch.equal(y.copy_(x), torch.full((3, 3), 2.0))
    rng = torch.Generator(device).manual_seed(3)
    assert torch.randn(3, device=device, generator=rng).device == device


def test_operations_copies_and_waits_are_counted(device: torch.device) -> None:
    with counting() as counts:
        x = torch.ones(4, 4).to(device)
        y = (x[1:] * 2).sum()
    assert (counts.of("kernel"), counts.of("view"), counts.of("upload")) == (2, 1, 1)
    assert counts.waits == 0 and counts.operations == 4 and counts.launches == 3
    waits = [
        y.item,
        y.cpu,
        lambda: bool(y > 1),
        lambda: y.to("cpu"),
        (x > 0).nonzero,
        lambda: x[x > 0],
        lambda: torch.equal(x, x),
        lambda: torch.empty(4, 4).copy_(x),
        x.tolist,
    ]
    for wait in waits:
        with torch.inference_mode(), counting() as counts:
            wait()
        assert counts.waits == 1, counts.table()


@pytest.mark.slow
def test_modules_move_train_and_are_copied(device: torch.device) -> None:
    torch.manual_seed(0)
    here = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 3))
    there = copy.deepcopy(copy.deepcopy(here).to(device))
    images = torch.rand(2, 3, 9, 9)
    for net in (here, there):
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            net(images.to(next(net.parameters()).device)).square().mean().backward()
            optimizer.step()
    assert all(p.device == device for p in there.parameters())
    for a, b in zip(here.parameters(), there.to("cpu").parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_memory_is_counted_and_runs_out(device: torch.device) -> None:
    gc.collect()
    before = STATE.in_use()
    x = torch.zeros(1000, device=device)
    assert STATE.in_use() == before + 4000
    with watching_memory(lambda number: number == 2) as memory:
        y = x[:10].clone()
        with pytest.raises(torch.OutOfMemoryError):
            x.square()
        z = x + 1
    assert memory.allocations == 3 and memory.peak == before + 4000 + 40 + 4000
    view = z[:1]
    del x, y, z
    assert STATE.in_use() == before + 4000  # of which a view is left
    del view
    assert STATE.in_use() == before
