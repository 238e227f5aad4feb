"""A worker: holds the weights, and restores by the same steps as `devudp restore`."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..batch.outcome import Outcome
from ..batch.plan import AnyJob, Job
from ..batch.restore_files import ImageFiles
from ..batch.restore_videos import VideoFiles, VideoJob
from ..batch.run import Kind, run
from ..images.mask import read_mask
from ..restorer import Restorer
from ..restoring.auto import Choice
from ..restoring.progress import ImageProgress
from ..system.untrusted import printable
from ..system.version import version
from .items import Item
from .stores import fetch, is_address, send

log = logging.getLogger("devudp")

RESTORED, UNCHANGED, SKIPPED, FAILED, LEFT = "restored", "unchanged", "skipped", "failed", "left"
"""Ends that a file can come to; left: not reached, since every other would fail, too."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: the end that a file came to.

    Attributes:
        input, output: absolute paths or addresses; no output where there is none.
        status: `RESTORED` and so on.
        auto: what the task `auto` found, see `Choice`; None without it.
        message: why it failed; else what was converted or left out.
        seconds: reading, restoring and writing.
        worker: which machine and process.
    """

    input: str
    output: str | None
    status: str
    auto: dict[str, Any] | None = None
    message: str = ""
    seconds: float = 0.0
    worker: str = ""


@dataclasses.dataclass(frozen=True)
class Orders:
    """The orders that every worker gets when it begins.

    Attributes:
        make_restorer: makes what restores, on the worker's machine.
        mask: a file that all machines have, or None.
        threads: of the processor, for each worker.
        version: of this package, which all machines must have.
        environment: variables to set.
    """

    make_restorer: Callable[[], Restorer]
    mask: Path | None
    threads: int
    version: str
    environment: Mapping[str, str]


class Worker:
    """Restores parts of a list of files.

    Args:
        orders: see there.

    Attributes:
        refusal: why this machine cannot begin; empty if it can. Every file is `LEFT` then.
    """

    def __init__(self, orders: Orders):
        self.name, self.refusal = f"{platform.node()}:{os.getpid()}", ""
        try:
            self.begin(orders)
        except (OSError, ValueError) as error:  # raised here, Ray would print it as a traceback
            self.refusal = f"{platform.node()} cannot begin: {error}"

    def begin(self, orders: Orders) -> None:
        """Loads the weights.

        Raises:
            ValueError, OSError: this machine has another version, or not the files of the orders.
        """
        if version() != orders.version:
            raise ValueError(
                f"it has devudp {version()}, the machine that started the work {orders.version}. "
                "Install the same version everywhere."
            )
        os.environ.update(orders.environment)
        torch.set_num_threads(orders.threads)
        self.restorer = orders.make_restorer()
        share_memory(self.restorer, orders.threads)
        mask = read_mask(orders.mask) if orders.mask else None
        # What is there was looked up before; what has come since is of a worker that died.
        images = ImageFiles(self.restorer, mask=mask, overwrite=True)
        videos = VideoFiles(self.restorer, mask, overwrite=True)
        self.kinds: dict[type, Kind] = {Job: images, VideoJob: videos}

    def __call__(self, part: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Restores some files.

        Args:
            part: `items` is a list of `Item` as JSON. (Ray's tables hold no text that is not
                Unicode, and names of files may not be.)

        Yields:
            For each file `row`, a `Row` as JSON.
        """
        items = [Item(**item) for item in json.loads(part["items"])]
        rows = [Row(item.source, None, LEFT, None, self.refusal) for item in items]
        for row in rows if self.refusal else self.restore(items):
            row = dataclasses.replace(row, worker=self.name)
            yield {"row": json.dumps(dataclasses.asdict(row))}

    def restore(self, items: list[Item]) -> list[Row]:
        """Restores files; returns what became of each."""
        with tempfile.TemporaryDirectory(prefix="devudp-") as folder:
            brought = [Brought(item, Path(folder) / str(i)) for i, item in enumerate(items)]
            by_source = {each.job.source: each for each in brought}
            kinds = {kind: Carrier(own, by_source) for kind, own in self.kinds.items()}
            with collected(log) as said:
                outcome = run([each.job for each in brought], kinds, self.restorer)
        return [each.row(outcome, said) for each in brought]


class Brought:
    """A file with the job for this machine; what lies in a store passes through a folder.

    Args:
        item: the file.
        folder: a temporary one of its own.
    """

    def __init__(self, item: Item, folder: Path):
        self.item, self.seconds, self.written = item, 0.0, False
        source = self.local_path(item.source, folder / "in")
        target = self.local_path(item.target, folder / "out")
        sheet = self.local_path(item.sheet, folder / "out") if item.sheet else None
        self.job: AnyJob = (
            Job(source, target, item.format, sheet) if item.format else VideoJob(source, target)
        )

    @staticmethod
    def local_path(text: str, folder: Path) -> Path:
        """Returns where a file lies on this machine."""
        return folder / text.rsplit("/", 1)[1] if is_address(text) else Path(text)

    def fetch(self) -> None:
        """Brings the file, if it lies in a store."""
        if is_address(self.item.source):
            self.job.source.parent.mkdir(parents=True, exist_ok=True)
            fetch(self.item.source, self.job.source)

    def send(self) -> None:
        """Takes the results to a store, if they go there; a result means that its sheet is there.

        Frees the disk of what only passed through.
        """
        sheet = self.job.sheet if isinstance(self.job, Job) else None
        for address, file in ((self.item.sheet, sheet), (self.item.target, self.job.target)):
            if file is not None and is_address(address):
                send(file, address)
                file.unlink()
        if is_address(self.item.source):
            self.job.source.unlink()

    def row(self, outcome: Outcome, said: list[str]) -> Row:
        """Returns what became of it."""
        source, item = self.job.source, self.item
        choice, failure = outcome.choices.get(source), outcome.failed.get(source)
        if failure is not None:
            message = failure.replace(str(source), item.source).replace(
                str(self.job.target), item.target
            )
            return Row(item.source, None, FAILED, None, message, round(self.seconds, 3))
        if not self.written:
            return Row(item.source, None, LEFT)
        unchanged = choice is not None and choice.task is None
        prefix = f"{printable(source)}: "
        notes = " ".join(line.removeprefix(prefix) for line in said if line.startswith(prefix))
        auto = None if choice is None else choice.as_dict()
        status = UNCHANGED if unchanged else RESTORED
        return Row(item.source, item.target, status, auto, notes, round(self.seconds, 3))


class Carrier:
    """A kind of job between stores and this machine, with a clock; see `run.Kind`.

    Args:
        kind: does the work.
        brought: the files by the path of their jobs.
    """

    def __init__(self, kind: Kind, brought: Mapping[Path, Brought]):
        self.kind, self.brought = kind, brought

    def read(self, job: Any, on_size_known: Callable[[int], None]) -> Any:
        """Reads a job's file once it is here."""
        each = self.brought[job.source]

        def wait(nbytes: int) -> None:
            with clock(each, -1):  # waiting for memory is not reading
                on_size_known(nbytes)

        with clock(each):
            each.fetch()
            return self.kind.read(job, wait)

    def work(self, job: Any, read: Any, progress: ImageProgress) -> tuple[Any, Choice | None]:
        """Restores."""
        with clock(self.brought[job.source]):
            return self.kind.work(job, read, progress)

    def write(self, job: Any, result: Any) -> None:
        """Writes a result, to the store if it goes there."""
        each = self.brought[job.source]
        with clock(each):
            self.kind.write(job, result)
            each.send()
        each.written = True


@contextmanager
def clock(each: Brought, sign: int = 1) -> Iterator[None]:
    """Adds the time that the block takes to a file's seconds."""
    begun = time.monotonic()
    try:
        yield
    finally:
        each.seconds += sign * (time.monotonic() - begun)


@contextmanager
def collected(log: logging.Logger) -> Iterator[list[str]]:
    """Gives a list that gets what is logged within the block."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)


def share_memory(restorer: Restorer, threads: int) -> None:
    """Makes a restorer on the CPU take its share of a machine's memory, as of its processors.

    Several workers of a machine begin at the same time, and each sees all that is free.
    """
    usual, share = restorer.memory, min(threads / (os.cpu_count() or 1), 1.0)

    def free_bytes(device: torch.device) -> int:
        free = usual.free_bytes(device)
        return int(free * share) if device.type == "cpu" else free

    restorer.memory = dataclasses.replace(usual, free_bytes=free_bytes)
