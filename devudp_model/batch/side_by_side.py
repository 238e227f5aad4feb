"""Small images side by side: each is worked on by one thread, from its first look to its result.

With all threads on one small image, each waits for the others after every layer, and much of what
is beside the network is one thread's work. The result does not depend on the number of threads, so
the files are the same to the byte.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

import torch

from ..bands.workers import set_own_threads
from ..restorer import Restorer
from ..system import interrupts
from ..system.memory import free_bytes
from .pipeline import InFlight, Pipeline, error_of

SMALL_PIXELS = 2**19
"""A larger image is worked on alone, by all threads."""

PIXEL_BYTES = 1200
"""What a pixel takes while it is worked on, in fp32, about."""

SHARE = 4
"""All of them together take at most one part in so many of the free memory."""

AHEAD = 2
"""Images for each thread that are begun, or wait for it."""

Work = Callable[[InFlight], None]
"""Does the work of an item, and leaves in it what comes of it."""


class SideBySide(AbstractContextManager["SideBySide"]):
    """Threads that do the work of items, which come back in their order.

    Args:
        restorer: what restores; see `threads_for`.
        line: where the items come from.
    """

    def __init__(self, restorer: Restorer, line: Pipeline):
        self.line, self.usual = line, torch.get_num_threads()
        self.count = threads_for(restorer, self.usual)
        self.pool: ThreadPoolExecutor | None = None
        self.begun: deque[tuple[InFlight, Future[None]]] = deque()

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def takes(self, pixels: int) -> bool:
        """True for an image of so many pixels that is better worked on beside others."""
        return self.count > 1 and 0 < pixels <= SMALL_PIXELS

    def begin(self, item: InFlight, work: Work) -> Iterator[InFlight]:
        """Has the work done; gives those that are done, and waits while too many are not."""
        interrupts.check()
        if self.pool is None:
            self.pool = ThreadPoolExecutor(self.count, "devudp-image", set_own_threads, (1,))
        # Few and small: whoever reads the next, which may be large, need not wait for them.
        self.line.give_back(item)
        self.begun.append((item, self.pool.submit(self.work, item, work)))
        set_own_threads(self.usual)  # the pool's threads changed it for those yet to come
        return self.done(AHEAD * self.count)

    def work(self, item: InFlight, work: Work) -> None:
        """Does the work; what it logs is emitted in the item's turn."""
        with self.line.held.going_to(item.records.append):
            work(item)

    def finish(self) -> Iterator[InFlight]:
        """Gives all others, once they are done."""
        return self.done(0)

    def stop(self) -> Iterator[InFlight]:
        """Gives those that are being worked on, once they are done; no other is begun."""
        for _, work in self.begun:
            work.cancel()
        self.begun = deque(each for each in self.begun if not each[1].cancelled())
        return self.done(0)

    def done(self, most: int) -> Iterator[InFlight]:
        """Yields the first ones, as far as they are done; waits while more than `most` are not."""
        while self.begun:
            item, work = self.begun[0]
            if not work.done() and len(self.begun) <= most:
                return
            error = error_of(work)
            self.begun.popleft()
            if error is not None:
                self.line.fail(item, error)
            yield item


def threads_for(restorer: Restorer, threads: int) -> int:
    """Counts the images that may be worked on at once by so many threads; 1: one by one.

    Where images share something (statistics, a memory limit, a GPU), they come one by one.
    """
    options, device = restorer.options, restorer.device
    if options.shared or options.memory is not None or device is None or device.type != "cpu":
        return 1
    room = free_bytes(device) // SHARE // (SMALL_PIXELS * PIXEL_BYTES)
    return max(min(threads, room), 1)
