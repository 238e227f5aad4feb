"""Small images are worked on side by side: the same files, in the same order, and no fewer."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.batch import side_by_side
from devudp_model.batch.outcome import Outcome
from devudp_model.batch.plan import Job
from devudp_model.batch.restore_files import ImageFiles
from devudp_model.batch.run import run
from devudp_model.batch.side_by_side import threads_for
from devudp_model.checkpoint import save_checkpoint
from devudp_model.network.generator import Generator
from devudp_model.restorer import Restorer
from devudp_model.restoring.options import Options
from devudp_model.restoring.tasks import Task
from devudp_model.system import interrupts

SIZES = [(64, 48), (96, 40), (64, 48), (33, 57), (64, 48), (80, 80)]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    generator = Generator("devudp", width=4, depth=1)
    save_checkpoint(tmp_path / "tiny.safetensors", generator, {}, dtype=torch.float32)
    return tmp_path / "tiny.safetensors"


def jobs_in(folder: Path, out: str) -> list[Job]:
    """A dark image of each size."""
    rng, jobs = np.random.default_rng(0), []
    for number, (width, height) in enumerate(SIZES):
        coarse = Image.fromarray(rng.integers(0, 90, (6, 8, 3), np.uint8))
        source = folder / f"{number}.png"
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(source)
        jobs.append(Job(source, folder / out / f"{number}.png", "png"))
    return jobs


def restored(
    jobs: list[Job], weights: Path, kind: type[ImageFiles] = ImageFiles, task: Task = "joint"
) -> Outcome:
    restorer = Restorer(weights, task, Options(precision="fp32"), device="cpu")
    return run(jobs, {Job: kind(restorer)}, restorer)


def bytes_of(jobs: list[Job]) -> list[bytes]:
    return [job.target.read_bytes() for job in jobs]


@pytest.mark.parametrize("task", ["joint", "auto"])
def test_the_same_files_as_one_by_one(
    task: Task,
    weights: Path,
    two_threads: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together, alone = jobs_in(tmp_path, "together"), jobs_in(tmp_path, "alone")
    found = restored(together, weights, task=task)
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(side_by_side, "threads_for", lambda restorer, threads: 1)
    expected = restored(alone, weights, task=task)
    assert found.settled == expected.settled == len(SIZES)
    assert not found.failed
    assert found.choices == expected.choices
    assert bytes_of(together) == bytes_of(alone)


class Meeting(ImageFiles):
    """Its first two images wait for each other."""

    met = threading.Barrier(2, timeout=30)

    def work(self, job: Job, read: Any, progress: Any) -> Any:
        if job.source.stem in "01":
            self.met.wait()
        assert job.source.stem != "3", "this one fails"
        return super().work(job, read, progress)


def test_two_at_a_time_and_one_that_fails_alone(
    weights: Path, two_threads: None, tmp_path: Path
) -> None:
    jobs = jobs_in(tmp_path, "out")
    outcome = restored(jobs, weights, Meeting)
    assert [path.stem for path in outcome.failed] == ["3"]
    assert [job.target.exists() for job in jobs] == [stem != "3" for stem in "012345"]


class Interrupted(ImageFiles):
    """Somebody presses Ctrl-C while its second image is worked on."""

    def work(self, job: Job, read: Any, progress: Any) -> Any:
        if job.source.stem == "1":
            interrupts._interrupt(signal.SIGINT, None)
        return super().work(job, read, progress)


def test_after_an_interruption_no_other_is_begun(
    weights: Path, two_threads: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "AHEAD", 1)
    monkeypatch.setattr(interrupts, "_seen", False)  # and so again after the test
    jobs = jobs_in(tmp_path, "out")
    with interrupts.noted():
        outcome = restored(jobs, weights, Interrupted)
    assert outcome.interrupted
    assert not outcome.failed
    assert outcome.done >= 1
    assert outcome.left >= 1
    assert outcome.done + outcome.left == len(SIZES)
    assert sum(job.target.exists() for job in jobs) == outcome.done


def test_not_where_images_share_something(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(options: Options) -> int:
        return threads_for(Restorer(weights, "joint", options, device="cpu"), 8)

    monkeypatch.setattr(side_by_side, "free_bytes", lambda device: 10**12)
    assert count(Options()) == 8
    assert count(Options(statistics="shared")) == 1
    assert count(Options(memory=10**9)) == 1
    assert threads_for(Restorer(lambda task: Generator("devudp", 1, 1)), 8) == 1
    monkeypatch.setattr(side_by_side, "free_bytes", lambda device: 6 * 10**9)
    assert count(Options()) == 2
    monkeypatch.setattr(side_by_side, "free_bytes", lambda device: 10**9)
    assert count(Options()) == 1
