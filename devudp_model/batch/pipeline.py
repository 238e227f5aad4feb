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

MOST_WRITERS = 4

MOST_BYTES = 2**27
"""Of the decoded images on their way; a larger one is alone. Results take as much again."""

SHARE = 16
"""And no more than one part in so many of the free memory."""

TICK = 0.2
"""Seconds after which a thread that waits looks up: on Windows no signal would end its waiting."""


@dataclass
class Passage(Generic[Job]):
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
    said: list[LogRecord] = field(default_factory=list)


class Pipeline(Generic[Job]):
    """Reads before the work, and writes after it.

        with Pipeline(jobs, read, write, log) as line:
            for passage in line:
                with line.working(passage):
                    passage.result = passage.read and work(passage.read)
                print(*line.pass_on(passage))
            print(*line.finish())

    Args:
        jobs: the files, in order.
        read: decodes a job's file; tells its second argument, before it allocates them, how many
            bytes it will take.
        write: writes a job's result.
        log: what the jobs log through it is told in their order.
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
        self.budget = Budget(min(MOST_BYTES, free // SHARE))
        writers = max(1, min(os.cpu_count() or 1, MOST_WRITERS))
        self.reader = ThreadPoolExecutor(1, "devudp-read")
        self.writers = ThreadPoolExecutor(writers, "devudp-write")
        self.most_behind = writers + 1
        self.ahead: deque[Passage[Job]] = deque()
        self.behind: deque[Passage[Job]] = deque()
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

    def __iter__(self) -> Iterator[Passage[Job]]:
        """Gives every job as soon as it is read, or cannot be."""
        while passage := self.next_read():
            try:
                passage.read = self.await_reading(passage)
            except Exception as error:
                self.fail(passage, error)
            yield passage

    @contextmanager
    def working(self, passage: Passage[Job]) -> Iterator[None]:
        """For the block that does the work: what fails in it does so for this job alone."""
        try:
            with self.held.going_to(partial(self.say, passage)), interrupts.held(False):
                yield
        except Exception as error:
            self.fail(passage, error)

    def pass_on(self, passage: Passage[Job]) -> Iterator[Passage[Job]]:
        """Starts writing a result; gives, in their order, the jobs that are done or have failed.

        Waits while too many are being written.
        """
        result, passage.result, passage.read = passage.result, None, None
        passage.image_was_there = result is None and passage.error is None
        if result is None:
            self.give_back(passage)
        else:
            passage.write_again = partial(self.start_writing, passage, result)
            passage.write_again()
        self.behind.append(passage)
        return self.done(self.most_behind)

    def finish(self) -> Iterator[Passage[Job]]:
        """Reads no more, lets those be written that are ready, and gives them."""
        self.stop_reading()
        yield from self.done(0)

    def stop_reading(self) -> None:
        self.budget.close()
        for passage in self.ahead:
            if passage.reading is not None:
                passage.reading.cancel()
        self.ahead.clear()

    def next_read(self) -> Passage[Job] | None:
        """Starts reading ahead; returns the next job."""
        while len(self.ahead) <= AHEAD:
            following = next(self.jobs, None)
            if following is None:
                break
            self.start_reading(Passage(*following))
        return self.ahead.popleft() if self.ahead else None

    def start_reading(self, passage: Passage[Job]) -> None:
        def reserve(nbytes: int) -> None:
            self.budget.take(nbytes)
            passage.nbytes = nbytes

        def read() -> Any:
            with self.held.going_to(passage.said.append):
                return self.read(passage.job, reserve)

        passage.reading = self.reader.submit(read)
        self.ahead.append(passage)

    def await_reading(self, passage: Passage[Job]) -> Any:
        """Waits for what is read of a job's file; without memory for it, reads once more alone."""
        assert passage.reading is not None
        try:
            return result_of(passage.reading)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        finally:
            passage.reading = None
        # Outside of the except block: inside, the error's traceback still holds memory.
        return self.read_again(passage)

    def fail(self, passage: Passage[Job], error: Exception) -> None:
        """Notes why a job failed; not if the error is what a library made of an interruption."""
        if interrupts.seen():
            raise KeyboardInterrupt from error
        passage.error, passage.result = error, None
        self.release(passage)

    def read_again(self, passage: Passage[Job]) -> Any:
        """Reads a file for which there was no memory, with nothing else in it."""
        self.make_room()
        waiting = [passage, *self.ahead]
        self.ahead.clear()
        for each in waiting:
            self.release(each)
            each.said.clear()
        for each in waiting:
            self.start_reading(each)
            if each is passage and each.reading is not None:
                with suppress(Exception):  # is raised below
                    result_of(each.reading)
        self.ahead.popleft()
        assert passage.reading is not None
        reading, passage.reading = passage.reading, None
        return result_of(reading)

    def make_room(self) -> None:
        """Waits until all that is ready is written: its memory is needed."""
        for passage in self.behind:
            self.settle(passage)

    def start_writing(self, passage: Passage[Job], result: Any) -> None:
        def write() -> None:
            try:
                with self.held.going_to(passage.said.append):
                    self.write(passage.job, result)
                passage.write_again = None  # which holds the result
            finally:
                self.give_back(passage)  # at once: the reader may wait for it

        passage.writing = self.writers.submit(write)

    def settle(self, passage: Passage[Job]) -> None:
        """Waits until a job is written, or has failed."""
        if passage.writing is not None:
            passage.error = error_of(passage.writing)
            if passage.error and is_out_of_memory(passage.error) and passage.write_again:
                again, passage.write_again = passage.write_again, None
                again()
                passage.error = error_of(passage.writing)
        passage.writing = passage.write_again = None

    def release(self, passage: Passage[Job]) -> None:
        """Forgets what was read."""
        reading, passage.reading = passage.reading, None
        if reading is not None:
            error_of(reading)
        self.give_back(passage)

    def give_back(self, passage: Passage[Job]) -> None:
        """Lets others have what a job's image took."""
        nbytes, passage.nbytes = passage.nbytes, 0
        if nbytes:
            self.budget.give(nbytes)

    def done(self, most: int) -> Iterator[Passage[Job]]:
        """The first jobs, as far as they are written; waits while more than `most` are not."""
        while self.behind:
            first = self.behind[0]
            ready = first.writing is None or first.writing.done()
            if not ready and len(self.behind) <= most:
                return
            self.settle(first)
            self.behind.popleft()
            self.tell(first)
            yield first

    def say(self, passage: Passage[Job], record: LogRecord) -> None:
        """Emits a record of the job at work: at once, unless one before it may still emit some."""
        passage.said.append(record)
        if not self.behind:
            self.tell(passage)

    def tell(self, passage: Passage[Job]) -> None:
        said, passage.said = passage.said, []
        for record in said:
            self.held.tell(record)


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
