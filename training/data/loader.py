"""Feeds the loop: which samples each process gets at each step, loaded by worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Sampler

from ..config import Config
from ..method.step import Batch
from .dataset import Sample, UnpairedPictures, develop
from .domains import DataConfig


class Loaded(NamedTuple):
    """What the loader hands over for one step of one process."""

    pictures: Batch | list[Sample]
    files: list[str]
    faults: list[str]


def collate(samples: list[Sample], config: DataConfig, here: bool) -> Loaded:
    """Samples of one step; developed at once (`here`), or left to the training's device."""
    return Loaded(
        develop(samples, config, torch.device("cpu")) if here else samples,
        [file for sample in samples for file in sample.files],
        [fault for sample in samples for fault in sample.faults],
    )


def calm_worker(number: int) -> None:
    """A loader's worker leaves Ctrl-C to the training, which ends it when the time has come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StepSampler(Sampler[list[int]]):
    """The numbers of one process's samples, a list for each step from `start` to `stop`.

    Step s takes the samples from batch * s on; the processes share them out, so that together they
    see what one process alone would.

    Args:
        batch: samples a step, of all processes together; divisible by `processes`.
    """

    def __init__(self, start: int, stop: int, batch: int, rank: int = 0, processes: int = 1):
        self.start, self.stop, self.batch = start, stop, batch
        self.rank, self.share = rank, batch // processes

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.stop):
            first = self.batch * step + self.rank * self.share
            yield list(range(first, first + self.share))

    def __len__(self) -> int:
        return self.stop - self.start


def make_loader(
    data: UnpairedPictures, config: Config, accelerator: Accelerator, start: int, stop: int
) -> DataLoader[Loaded]:
    """The samples of the steps from `start` to `stop`, this process's share of each."""
    sampler = StepSampler(
        start, stop, config.batch, accelerator.process_index, accelerator.num_processes
    )
    workers, kind = config.speed.workers, accelerator.device.type
    return DataLoader(  # pyright: ignore[reportReturnType]  # collate makes the type
        data,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=partial(collate, config=config.data, here=kind == "cpu"),
        pin_memory=kind == "cuda",
        prefetch_factor=4 if workers else None,
        worker_init_fn=calm_worker,
        generator=torch.Generator(),  # else starting it would use up a number of the global one
    )
