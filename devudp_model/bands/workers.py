"""Threads that work on strips, one strip each at a time.

PyTorch's own way is the other one: all threads inside every small operation, each of which then
waits for the slowest thread. On a busy machine that is a thread that is not running, a thousand
times in an image. Here a thread that the system has stopped holds up its own strip only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")

AHEAD = 2
"""Strips for each worker that may be done before one that is not."""


def nothing() -> None:
    """Does nothing."""


class Stopped(Exception):
    """Another strip has failed, or the caller has been interrupted."""


class Order(Generic[Item]):
    """Lets things happen from strip to strip, in their order.

    Args:
        pass_on: gets what `put` is given, in order.
        ahead: `put` waits with an item that is this far ahead of the first one missing.
    """

    def __init__(self, pass_on: Callable[[Item], object] | None = None, ahead: int = 1):
        self.pass_on, self.ahead = pass_on, ahead
        self.condition = threading.Condition()
        self.next, self.stopped = 0, False
        self.waiting: dict[int, Item] = {}

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Until it is; holding `condition`."""
        self.condition.wait_for(lambda: self.stopped or ready())
        if self.stopped:
            raise Stopped

    @contextmanager
    def turn(self, index: int) -> Iterator[None]:
        """Waits for all turns before; the next begins when the block is left."""
        with self.condition:
            self.wait_for(lambda: self.next == index)
            yield
            self.next += 1
            self.condition.notify_all()

    def put(self, index: int, item: Item) -> None:
        """Hands an item over; all that came before is passed on before it."""
        assert self.pass_on is not None
        with self.condition:
            self.waiting[index] = item
            while self.next in self.waiting:
                self.pass_on(self.waiting.pop(self.next))
                self.next += 1
            self.condition.notify_all()
            self.wait_for(lambda: index - self.next < self.ahead)

    def get(self, index: int) -> Item:
        """Waits until somebody has `left` that item, and takes it."""
        with self.condition:
            self.wait_for(lambda: index in self.waiting)
            return self.waiting.pop(index)

    def leave(self, index: int, item: Item) -> None:
        """For `get`."""
        with self.condition:
            self.waiting[index] = item
            self.condition.notify_all()

    def stop(self) -> None:
        """Whoever waits here gets `Stopped`."""
        with self.condition:
            self.stopped = True
            self.condition.notify_all()


class Workers:
    """The calling thread and others that help it, with one of PyTorch's threads each.

    Args:
        count: how many, with the calling one.
    """

    def __init__(self, count: int):
        self.count = count
        self.process = os.getpid()
        self.helpers = ThreadPoolExecutor(count - 1, thread_name_prefix="devudp")
        self.setter = ThreadPoolExecutor(1, thread_name_prefix="devudp-threads")
        started = threading.Barrier(count)

        def start() -> None:
            set_own_threads(1)
            started.wait()

        for _ in range(count - 1):
            self.helpers.submit(start)
        started.wait()
        self.set_others(count)

    def set_others(self, count: int) -> None:
        """The number for threads yet to come, which is the last one that any thread has set."""
        self.setter.submit(set_own_threads, count).result()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block the calling thread has one of PyTorch's threads."""
        set_own_threads(1)
        self.set_others(self.count)
        try:
            yield
        finally:
            set_own_threads(self.count)

    def run(
        self,
        work: Callable[[int], float],
        jobs: int,
        advance: Callable[[float], None] | None,
        stop: Callable[[], None],
    ) -> None:
        """`work(0)` to `work(jobs - 1)`, begun in this order."""
        numbers, lock = iter(range(jobs)), threading.Lock()
        done: SimpleQueue[float] = SimpleQueue()
        mode = torch.inference_mode if torch.is_inference_mode_enabled() else nullcontext
        halted = False

        def take() -> int | None:
            with lock:
                return None if halted else next(numbers, None)

        def halt() -> None:
            nonlocal halted
            halted = True
            stop()

        def loop(report: Callable[[], None] = nothing) -> None:
            try:
                with mode():
                    while (number := take()) is not None:
                        done.put(work(number))
                        report()
            except BaseException:
                halt()
                raise

        def report() -> None:
            if advance is not None:
                advance(sum(done.get() for _ in range(done.qsize())))

        helpers = [self.helpers.submit(loop) for _ in range(min(self.count, jobs) - 1)]
        try:
            loop(report)
        except Stopped:
            pass  # what a helper raised comes below
        finally:
            wait(helpers)
        raise_first(helpers)
        report()


def set_own_threads(count: int) -> None:
    """PyTorch's threads for operations of this thread (and for threads yet to come)."""
    torch.get_num_threads()  # else PyTorch sets the number later, at the first operation
    torch.set_num_threads(count)


def raise_first(futures: Sequence[Future[None]]) -> None:
    """Raises what went wrong, and not what only stopped because of it."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    errors.sort(key=lambda error: isinstance(error, Stopped))
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()  # its traceback holds this list, and so itself


_known: Workers | None = None
_lock = threading.Lock()
_active: ContextVar[Workers | None] = ContextVar("devudp_workers", default=None)


def workers(count: int) -> Workers:
    """This many; made once for a process."""
    global _known
    with _lock:
        if _known is None or _known.count != count or _known.process != os.getpid():
            _known = Workers(count)  # the old ones end when nobody uses them any more
        return _known


@contextmanager
def working(device: torch.device) -> Iterator[None]:
    """Within the block, `in_parallel` has as many workers as PyTorch has threads on the CPU.

    The calling thread is one of them, so within the block its own operations take one thread.
    """
    count = torch.get_num_threads()
    if device.type != "cpu" or count == 1 or _active.get() is not None:
        yield
        return
    found = workers(count)
    token = _active.set(found)
    try:
        with found.alone():
            yield
    finally:
        _active.reset(token)


def worker_count() -> int:
    """Counts those that work on strips now."""
    active = _active.get()
    return 1 if active is None else active.count


def in_parallel(
    work: Callable[[int], float],
    jobs: int,
    advance: Callable[[float], None] | None = None,
    stop: Callable[[], None] = nothing,
) -> None:
    """`work(0)` to `work(jobs - 1)`, by all workers there are (see `working`).

    Each runs on one of PyTorch's threads, so it must not depend on their number. `work` may wait
    for one that begins before it.

    Args:
        work: returns how much it did.
        advance: gets these amounts, in the calling thread. What it raises, for instance to
            interrupt, goes through as soon as the strips in work are done.
        stop: is called when something was raised, so that nobody waits for ever.
    """
    active = _active.get()
    if active is not None and jobs > 1:
        active.run(work, jobs, advance, stop)
        return
    for number in range(jobs):
        progress = work(number)
        if advance is not None:
            advance(progress)
