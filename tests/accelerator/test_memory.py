"""The accelerator's memory runs out, at any place: the result is right or the message is.

And nothing stays there afterwards.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from devudp_model.restorer import Restorer
from devudp_model.restoring.frozen import FrozenRestorer
from devudp_model.restoring.options import Options
from devudp_model.restoring.tasks import TASK_SPECS, Task
from devudp_model.system.memory import MemoryApi, is_out_of_memory
from tests.accelerator.conftest import photos, small_generator
from tests.accelerator.counts import STATE, watching_memory

pytestmark = pytest.mark.slow  # they take seconds together

FREE = 2**29
"""Bytes; half of it is the smallest limit that is tried."""

API = MemoryApi(is_out_of_memory, lambda device: FREE, lambda: None)
"""Without a cache, so that nobody waits for the garbage collection."""


def places(allocations: int) -> Iterator[int]:
    """The first allocations and some of the others, up to the last."""
    yield from range(1, 7)
    yield from range(7, allocations, max(allocations // 8, 1))
    yield allocations


def check_every_place(run: Callable[[], Tensor], message: type[Exception] | Any) -> None:
    """Lets memory run out once at each place, and for good from there on."""
    expected = run().cpu()
    gc.collect()
    kept = STATE.in_use()
    with watching_memory() as memory:
        run()
    for place in places(memory.allocations):
        with watching_memory(lambda number, place=place: number == place) as memory:
            try:
                result = run().cpu()
            except message as error:
                assert "memory" in str(error)
            else:
                torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
                del result
            assert memory.allocations >= place
        assert STATE.in_use() == kept, f"something stays after failure {place}"
    for place in (1, memory.allocations // 2):
        fails = watching_memory(lambda number, place=place: number >= place)
        with fails, pytest.raises(message, match="memory"):
            run()
        assert STATE.in_use() == kept, f"something stays after failures from {place} on"


@pytest.mark.parametrize("task", ["joint", "deblur"])
def test_of_an_image(task: Task, device: torch.device, coarser: None) -> None:
    net = small_generator(TASK_SPECS[task].variant).to(device)
    image = photos(1, 3, 40, 44)

    def run() -> Tensor:
        return Restorer(net, task, Options(precision="fp32"), memory=API)(image)

    check_every_place(run, MemoryError)


@pytest.mark.parametrize("task", ["joint", "deblur"])
def test_of_the_frames_of_a_video(task: Task, device: torch.device, coarser: None) -> None:
    net = small_generator(TASK_SPECS[task].variant).to(device)
    frames = photos(2, 3, 40, 44)

    def run() -> Tensor:
        restorer = Restorer(net, task, Options(precision="fp32"), memory=API)
        return restorer.scenes()(frames)(frames[1:])

    check_every_place(run, MemoryError)


def test_of_a_piece(device: torch.device, coarser: None) -> None:
    """Nobody tries again here: the nodes that cut tiles take smaller ones."""
    net, image = small_generator("devudp-dt").to(device), photos(1, 3, 40, 44)

    def run() -> Tensor:
        frozen = FrozenRestorer(net, image.to(device), Options("deblur", precision="fp32"))
        return frozen(image[..., :24, :32].to(device), frozen.given[..., :24, :32])

    check_every_place(run, torch.OutOfMemoryError)
