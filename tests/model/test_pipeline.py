"""Files that do not wait: the order is kept, memory is bounded, and nothing is lost."""

from __future__ import annotations

import logging
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from devudp_model.bands import rows as image_rows
from devudp_model.batch import pipeline
from devudp_model.batch.budget import Budget
from devudp_model.batch.pipeline import InFlight, Pipeline
from devudp_model.batch.plan import Job
from devudp_model.batch.restore_files import ImageFiles
from devudp_model.batch.run import run
from devudp_model.engine import statistics, strips
from devudp_model.network.generator import Generator, Variant
from devudp_model.ops import filters
from devudp_model.restorer import Restorer
from devudp_model.restoring import exposure as scene
from devudp_model.restoring import first_look
from devudp_model.restoring.options import Options
from devudp_model.restoring.tasks import TASKS, Task, bundled_variant
from devudp_model.system.interrupts import Cancelled
from devudp_model.system.thread_logging import warnings_of_this_thread

log = logging.getLogger("devudp")


def nothing(*_: object) -> None:
    pass


def line(
    count: int,
    *,
    read: Callable[[int, Callable[[int], None]], Any] = lambda job, on_size_known: job,
    write: Callable[[int, Any], None] = nothing,
) -> Pipeline[int]:
    return Pipeline(range(count), read, write, log)


def passed(line: Pipeline[int]) -> list[InFlight[int]]:
    done: list[InFlight[int]] = []
    with line:
        for each in line:
            with line.working(each):
                if each.read is not None:
                    each.result, each.found = each.read, -each.job
            done += line.pass_on(each)
        done += line.finish()
    return done


def test_reading_and_writing_overlap_and_the_order_is_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first file is written only once the third is: waiting for it would take for ever."""
    monkeypatch.setattr(pipeline.os, "cpu_count", lambda: 4)
    third, written = threading.Event(), []

    def read(job: int, on_size_known: Callable[[int], None]) -> int:
        log.warning("read %d", job)
        return job

    def write(job: int, image: int) -> None:
        assert job or third.wait(30)
        if job == 2:
            third.set()
        written.append(job)
        log.warning("written %d", job)

    with caplog.at_level(logging.WARNING):
        found = passed(line(6, read=read, write=write))
    assert [(each.job, each.found, each.error) for each in found] == [
        (job, -job, None) for job in range(6)
    ]
    assert written.index(0) > written.index(2)
    said = [text for job in range(6) for text in (f"read {job}", f"written {job}")]
    assert [record.message for record in caplog.records] == said


def test_one_that_fails_does_not_stop_the_others() -> None:
    def read(job: int, on_size_known: Callable[[int], None]) -> int:
        return 1 // (job - 1) if job == 1 else job

    def write(job: int, image: int) -> None:
        if job == 3:
            raise ValueError("cannot be written")

    errors = [type(each.error) for each in passed(line(5, read=read, write=write))]
    none = type(None)
    assert errors == [none, ZeroDivisionError, none, ValueError, none]


def test_few_images_are_on_their_way() -> None:
    """Neither more than the pipeline holds, nor more bytes than its budget."""
    alive, most = 0, 0
    lock = threading.Lock()

    def read(job: int, on_size_known: Callable[[int], None]) -> int:
        nonlocal alive, most
        on_size_known(10**9 if job == 4 else 1000)
        with lock:
            alive += 1
            most = max(most, alive)
            assert job != 4 or alive == 1, "a large image is alone"
        return job

    def write(job: int, image: int) -> None:
        nonlocal alive
        time.sleep(0.01)
        with lock:
            alive -= 1

    pipe = line(30, read=read, write=write)
    assert all(each.error is None for each in passed(pipe))
    assert 1 < most <= pipeline.AHEAD + 2 + pipe.most_behind
    assert pipe.budget.used == 0


def test_a_file_for_which_there_was_no_memory_is_read_again_alone() -> None:
    tries: list[int] = []

    def read(job: int, on_size_known: Callable[[int], None]) -> int:
        tries.append(job)
        if job == 2 and tries.count(2) == 1:
            raise MemoryError
        return job

    written: list[int] = []
    found = passed(line(5, read=read, write=lambda job, image: written.append(image)))
    assert [each.error for each in found] == [None] * 5
    assert sorted(written) == list(range(5)) and tries.count(2) == 2


def test_a_result_that_could_not_be_written_for_want_of_memory_is_written_again() -> None:
    tries: list[int] = []

    def write(job: int, image: int) -> None:
        tries.append(job)
        if job == 1 and (tries.count(1) == 1 or job == 3):
            raise MemoryError

    assert [each.error for each in passed(line(4, write=write))] == [None] * 4
    assert tries.count(1) == 2


def test_a_budget_that_is_closed_lets_nobody_wait() -> None:
    budget = Budget(10)
    budget.take(8)
    ended: list[type] = []

    def take() -> None:
        try:
            budget.take(8)
        except Exception as error:
            ended.append(type(error))

    thread = threading.Thread(target=take)
    thread.start()
    budget.close()
    thread.join(30)
    assert ended == [Cancelled]


def test_a_warning_belongs_to_the_thread_that_gave_it() -> None:
    begun, given = threading.Event(), threading.Event()
    heard: dict[str, list[str]] = {}

    def other() -> None:
        with warnings_of_this_thread() as said:
            begun.set()
            given.wait(30)
            warnings.warn("of the other", stacklevel=1)
        heard["other"] = [str(each) for each in said]

    thread = threading.Thread(target=other)
    with pytest.warns(UserWarning, match="of nobody") as outside:
        thread.start()
        begun.wait(30)
        with warnings_of_this_thread() as said:
            warnings.warn("of this one", stacklevel=1)
        warnings.warn("of nobody", stacklevel=1)
        given.set()
        thread.join(30)
    assert [str(each) for each in said] == ["of this one"]
    assert heard == {"other": ["of the other"]} and len(outside) == 1


def test_what_python_is_quiet_about_stays_unsaid() -> None:
    """While warnings are collected, nobody's forgotten file is shown to the user."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("ignore", ResourceWarning)  # as Python begins
        with warnings_of_this_thread() as said:
            thread = threading.Thread(target=warnings.warn, args=("unclosed", ResourceWarning))
            thread.start()
            thread.join(30)
            warnings.warn("the image is cut off", stacklevel=1)
    assert not shown and [str(each) for each in said] == ["the image is cut off"]


# --- memory ---------------------------------------------------------------------------------------


class LargestFloat(TorchDispatchMode):
    """The most numbers that a tensor of floating point has had; views do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, (list, tuple)) else (out,):
            if isinstance(each, torch.Tensor) and each.is_floating_point():
                nbytes = each.untyped_storage().nbytes()
                self.numbers = max(self.numbers, nbytes // each.itemsize)
        return out


def tiny(variant: Variant) -> Generator:
    torch.manual_seed(0)
    return Generator(variant, width=1, depth=1).eval().requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("task", [*TASKS, "auto"])
def test_no_copy_of_a_whole_image_in_float32(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a memory limit, a file's image is held twice in its own depth: as read, as restored."""
    width, height = 400, 1000  # a band and what filters see around it: 122 rows
    monkeypatch.setattr(image_rows, "BAND_PIXELS", 2**13)
    monkeypatch.setattr(strips, "CACHE_BYTES", 2**17)
    monkeypatch.setattr(statistics, "GROUP_NUMBERS", 2**13)
    monkeypatch.setattr(first_look, "MAX_PIXELS", 100)
    monkeypatch.setattr(filters, "NOISE_SQUARES", 2**12)
    monkeypatch.setattr(scene, "SAMPLED_PIXELS", 2**12)
    pixels = np.random.default_rng(0).integers(0, 20, (height, width, 3), np.uint8)
    pixels += np.linspace(0, 40, width, dtype=np.uint8)[:, None]  # no mere noise: `auto` restores
    Image.fromarray(pixels).save(tmp_path / "a.png")
    options = Options(precision="fp32", memory=10**5)
    source = tmp_path / "a.png"
    restorer = Restorer(lambda task: tiny(bundled_variant(task)), task, options)
    kinds = {Job: ImageFiles(restorer)}
    Image.fromarray(pixels[:40, :50]).save(tmp_path / "small.png")
    small = Job(tmp_path / "small.png", tmp_path / "small-out.png", "png")
    with LargestFloat():  # modules are imported
        assert run([small], kinds, restorer).done == 1
    tracemalloc.start()  # of numpy and Pillow; torch tells the other one
    try:
        with LargestFloat() as largest:
            outcome = run([Job(source, tmp_path / "out.png", "png")], kinds, restorer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert outcome.done == 1, outcome.failed
    # At an eighth of the image and less, all of it may be looked at at once.
    assert 0 < largest.numbers < width * height // 2
    assert peak < 3.5 * pixels.nbytes
