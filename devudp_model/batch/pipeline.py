"""Files that do not wait: while one image is worked on, the next are read and the last are written.

Reading, work and writing of one file follow each other; those of different files overlap. The work
is done by the thread that calls, one file after the other, and whatever comes of a file comes in
the order of the files. What is on its way is bounded in number and in bytes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from logging import Logger, LogRecord
from typing import Any, Generic, TypeVar

import torch

from ..system import interrupts
from ..system.memory import free_bytes, is_out_of_memory
from ..system.thread_logging import HeldRecords
from .budget import Budget

Job = TypeVar("Job")

AHEAD = 2
"""Files that are read before their turn."""

MAX_WRITERS = 4

MAX_BYTES = 2**27
"""Of the decoded images on their way; a larger one is alone. Results take as much again."""

SHARE = 16
"""And no more than one part in so many of the free memory."""

TICK = 0.2
"""Seconds after which a thread that waits looks up: on Windows no signal would end its waiting."""


@dataclass
class InFlight(Generic[Job]):
    """A file on its way.

    Attributes:
        index, job: which one.
        read: what was read of it; None if there is nothing to do.
        result: what is to be written; the work puts it here.
        found: what else the work has to tell.
        image_was_there: there was nothing to do.
        error: why it failed.
    """

    index: int
    job: Job
    read: Any = None
    result: Any = None
    found: Any = None
    image_was_there: bool = False
    error: Exception | None = None
    reading: Future[Any] | None = None
    writing: Future[Any] | None = None
    nbytes: int = 0
    write_again: Callable[[], None] | None = None
    records: list[LogRecord] = field(default_factory=list)


class Pipeline(Generic[Job]):
    """Reads before the work, and writes after it.

        with Pipeline(jobs, read, write, log) as line:
            for item in line:
                with line.working(item):
                    item.result = item.read and work(item.read)
                print(*line.pass_on(item))
            print(*line.finish())

    Args:
        jobs: the files, in order.
        read: decodes a job's file; tells its second argument, before it allocates them, how many
            bytes it will take.
        write: writes a job's result.
        log: what the jobs log through it is emitted in their order.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        read: Callable[[Job, Callable[[int], None]], Any],
        write: Callable[[Job, Any], None],
        log: Logger,
    ):
        self.jobs = iter(enumerate(jobs))
        self.read, self.write = read, write
        free = free_bytes(torch.device("cpu"))
        self.budget = Budget(min(MAX_BYTES, free // SHARE))
        writers = max(1, min(os.cpu_count() or 1, MAX_WRITERS))
        self.reader = ThreadPoolExecutor(1, "devudp-read")
        self.writers = ThreadPoolExecutor(writers, "devudp-write")
        self.most_behind = writers + 1
        self.ahead: deque[InFlight[Job]] = deque()
        self.behind: deque[InFlight[Job]] = deque()
        self.held = HeldRecords(log)

    def __enter__(self) -> Pipeline[Job]:
        self.held.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the threads. What is not being written yet is not written any more."""
        self.stop_reading()
        for pool in (self.reader, self.writers):
            pool.shutdown(wait=True, cancel_futures=True)
        self.held.__exit__()

    def __iter__(self) -> Iterator[InFlight[Job]]:
        """Gives every job as soon as it is read, or cannot be."""
        while item := self.next_read():
            try:
                item.read = self.await_reading(item)
            except Exception as error:
                self.fail(item, error)
            yield item

    @contextmanager
    def working(self, item: InFlight[Job]) -> Iterator[None]:
        """For the block that does the work: what fails in it does so for this job alone."""
        try:
            with self.held.going_to(partial(self.on_record, item)), interrupts.held(False):
                yield
        except Exception as error:
            self.fail(item, error)

    def pass_on(self, item: InFlight[Job]) -> Iterator[InFlight[Job]]:
        """Starts writing a result; gives, in their order, the jobs that are done or have failed.

        Waits while too many are being written.
        """
        result, item.result, item.read = item.result, None, None
        item.image_was_there = result is None and item.error is None
        if result is None:
            self.give_back(item)
        else:
            item.write_again = partial(self.start_writing, item, result)
            item.write_again()
        self.behind.append(item)
        return self.done(self.most_behind)

    def finish(self) -> Iterator[InFlight[Job]]:
        """Reads no more, lets those be written that are ready, and gives them."""
        self.stop_reading()
        yield from self.done(0)

    def stop_reading(self) -> None:
        self.budget.close()
        for item in self.ahead:
            if item.reading is not None:
                item.reading.cancel()
        self.ahead.clear()

    def next_read(self) -> InFlight[Job] | None:
        """Starts reading ahead; returns the next job."""
        while len(self.ahead) <= AHEAD:
            following = next(self.jobs, None)
            if following is None:
                break
            self.start_reading(InFlight(*following))
        return self.ahead.popleft() if self.ahead else None

    def start_reading(self, item: InFlight[Job]) -> None:
        def on_size_known(nbytes: int) -> None:
            self.budget.take(nbytes)
            item.nbytes = nbytes

        def read() -> Any:
            with self.held.going_to(item.records.append):
                return self.read(item.job, on_size_known)

        item.reading = self.reader.submit(read)
        self.ahead.append(item)

    def await_reading(self, item: InFlight[Job]) -> Any:
        """Waits for what is read of a job's file; without memory for it, reads once more alone."""
        assert item.reading is not None
        try:
            return result_of(item.reading)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        finally:
            item.reading = None
        # Outside of the except block: inside, the error's traceback still holds memory.
        return self.read_again(item)

    def fail(self, item: InFlight[Job], error: Exception) -> None:
        """Notes why a job failed; not if the error is what a library made of an interruption."""
        if interrupts.seen():
            raise KeyboardInterrupt from error
        item.error, item.result = error, None
        self.release(item)

    def read_again(self, item: InFlight[Job]) -> Any:
        """Reads a file for which there was no memory, with nothing else in it."""
        self.make_room()
        waiting = [item, *self.ahead]
        self.ahead.clear()
        for each in waiting:
            self.release(each)
            each.records.clear()
        for each in waiting:
            self.start_reading(each)
            if each is item and each.reading is not None:
                with suppress(Exception):  # is raised below
                    result_of(each.reading)
        self.ahead.popleft()
        assert item.reading is not None
        reading, item.reading = item.reading, None
        return result_of(reading)

    def make_room(self) -> None:
        """Waits until all that is ready is written: its memory is needed."""
        for item in self.behind:
            self.settle(item)

    def start_writing(self, item: InFlight[Job], result: Any) -> None:
        def write() -> None:
            try:
                with self.held.going_to(item.records.append):
                    self.write(item.job, result)
                item.write_again = None  # which holds the result
            finally:
                self.give_back(item)  # at once: the reader may wait for it

        item.writing = self.writers.submit(write)

    def settle(self, item: InFlight[Job]) -> None:
        """Waits until a job is written, or has failed."""
        if item.writing is not None:
            item.error = error_of(item.writing)
            if item.error and is_out_of_memory(item.error) and item.write_again:
                again, item.write_again = item.write_again, None
                again()
                item.error = error_of(item.writing)
        item.writing = item.write_again = None

    def release(self, item: InFlight[Job]) -> None:
        """Forgets what was read."""
        reading, item.reading = item.reading, None
        if reading is not None:
            error_of(reading)
        self.give_back(item)

    def give_back(self, item: InFlight[Job]) -> None:
        """Lets others have what a job's image took."""
        nbytes, item.nbytes = item.nbytes, 0
        if nbytes:
            self.budget.give(nbytes)

    def done(self, most: int) -> Iterator[InFlight[Job]]:
        """The first jobs, as far as they are written; waits while more than `most` are not."""
        while self.behind:
            first = self.behind[0]
            ready = first.writing is None or first.writing.done()
            if not ready and len(self.behind) <= most:
                return
            self.settle(first)
            self.behind.popleft()
            self.emit(first)
            yield first

    def on_record(self, item: InFlight[Job], record: LogRecord) -> None:
        """Emits a record of the job at work: at once, unless one before it may still emit some."""
        item.records.append(record)
        if not self.behind:
            self.emit(item)

    def emit(self, item: InFlight[Job]) -> None:
        records, item.records = item.records, []
        for record in records:
            self.held.emit(record)


def result_of(future: Future[Any]) -> Any:
    """As soon as it is there, whatever signals come meanwhile."""
    while not future.done():
        interrupts.check()
        wait([future], TICK)
    return future.result()


def error_of(future: Future[Any]) -> Exception | None:
    """`result_of` for one that may have failed."""
    try:
        result_of(future)
    except Exception as error:
        return error
    return None
