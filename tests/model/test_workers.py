"""Strips on several threads: the same image whichever is slow, and no strip waits for ever."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from devudp_model.bands.workers import Order, in_parallel, worker_count, workers, working
from devudp_model.engine import buffers as buffers
from devudp_model.engine import statistics as statistics
from devudp_model.engine import strips as strips
from devudp_model.engine.hooks import hooked
from devudp_model.engine.layers import Layer
from devudp_model.engine.network import Network
from devudp_model.network.generator import VARIANTS, Variant
from devudp_model.restoring import compose
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.tasks import TASKS
from tests.model.engine_network import generator, random_image

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(usual)


@pytest.fixture
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "CACHE_BYTES", 4096)
    monkeypatch.setattr(statistics, "GROUP_NUMBERS", 1)


def sleepy(monkeypatch: pytest.MonkeyPatch, every: Callable[[int], bool]) -> None:
    """Threads that the system stops now and then, in the middle of a strip."""
    calls, lock, forward = iter(range(10**6)), threading.Lock(), Layer.forward

    def slow(self: Layer, strip: Tensor) -> Tensor:
        with lock:
            number = next(calls)
        if every(number):
            time.sleep(0.003)
        return forward(self, strip)

    monkeypatch.setattr(Layer, "forward", slow)


@pytest.mark.usefixtures("small_strips")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "kept_in", ["strips", "blocks", pytest.param("files", marks=pytest.mark.slow)]
)
def test_slow_threads_change_no_bit(
    variant: Variant, kept_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = 1 if kept_in == "files" else None
    monkeypatch.setattr(buffers, "LARGE_BYTES", 0 if kept_in == "blocks" else 2**28)
    x = random_image(2, 3, 32, 28)
    torch.set_num_threads(1)
    expected = Network(generator(variant), torch.float32)(x)
    torch.set_num_threads(3)
    for every in (lambda i: i % 5 == 0, lambda i: i % 7 < 2, lambda i: i == 3):
        with monkeypatch.context() as patch:
            sleepy(patch, every)
            out = Network(generator(variant), torch.float32)(x, memory=memory)
        assert torch.equal(out, expected)


@pytest.mark.usefixtures("small_strips")
@pytest.mark.parametrize("task", TASKS)
def test_bands_of_the_whole_image_change_no_bit(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = generator("devudp"), random_image(2, 3, 90, 40)
    monkeypatch.setattr(compose, "MIN_ROWS", 4)
    torch.set_num_threads(1)
    expected = restore(x, net, Options(task))
    torch.set_num_threads(3)
    seen: list[tuple[int, int]] = []
    with hooked(finished=lambda rows, start, height: seen.append((start, rows.shape[2]))):
        assert torch.equal(restore(x, net, Options(task)), expected)
    assert len(seen) > 2
    assert sum(rows for _, rows in seen) == 2 * 90 and seen[0][0] == 0
    assert torch.get_num_threads() == 3


def test_each_worker_has_one_thread_and_the_callers_number_stays() -> None:
    seen: set[tuple[int, int]] = set()
    meet = threading.Barrier(3)

    def work(index: int) -> float:
        meet.wait(10)
        seen.add((threading.get_ident(), torch.get_num_threads()))
        return 0

    found: list[int] = []
    with working(CPU):
        in_parallel(work, 3)
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
    assert len(seen) == 3 and {threads for _, threads in seen} == {1}
    assert torch.get_num_threads() == 3
    assert found == [3], "other threads of the host keep their number"


def test_workers_are_made_once_and_follow_the_number_of_threads() -> None:
    assert workers(3) is workers(3)
    with working(CPU):
        assert worker_count() == 3
        with working(CPU):
            assert worker_count() == 3
        assert worker_count() == 3
    torch.set_num_threads(2)
    with working(CPU):
        assert worker_count() == 2
    assert worker_count() == 1 and torch.get_num_threads() == 2


@pytest.mark.usefixtures("small_strips")
@pytest.mark.parametrize("place", ["layer", "reader", "writer", "statistics"])
def test_an_error_in_a_strip_is_raised_and_nobody_waits(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = {
        "layer": (Layer, "forward"),
        "reader": (strips.FeatureReader, "compute"),
        "writer": (strips.FeatureWriter, "write"),
        "statistics": (strips.FeatureStatistics, "add"),
    }[place]
    usual, calls = getattr(owner, name), iter(range(10**6))

    def broken(*args: Any) -> Any:
        if next(calls) == 4:
            raise MemoryError("here")
        return usual(*args)

    net, x = Network(generator("devudp"), torch.float32), random_image(1, 3, 48, 40)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(MemoryError, match="here"):
        net(x)
    monkeypatch.setattr(owner, name, usual)
    assert net(x).isfinite().all(), "the workers go on"


@pytest.mark.usefixtures("small_strips")
def test_an_interruption_comes_from_the_calling_thread() -> None:
    net, x = Network(generator("devudp"), torch.float32), random_image(1, 3, 48, 40)
    done: list[float] = []

    def advance(amount: float) -> None:
        assert threading.current_thread() is threading.main_thread()
        done.append(amount)
        if len(done) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), hooked(advance):
        net(x)
    done.clear()
    done += [0] * 5
    with hooked(advance):
        net(x)
    assert sum(done) == pytest.approx(48 * 40)


def test_what_is_put_is_passed_on_in_order_and_not_too_far_ahead() -> None:
    passed: list[int] = []
    order = Order(passed.append, ahead=2)
    order.put(1, 1)
    assert passed == []
    waiting = threading.Thread(target=order.put, args=(2, 2))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive(), "2 is too far ahead of 0"
    order.put(0, 0)
    waiting.join(10)
    assert passed == [0, 1, 2]
