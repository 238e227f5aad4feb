"""Feeds the loop: which samples each process gets at each step, loaded by worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Sampler

from .dataset import Key, Sample, UnpairedImages
from .synthesis import Crops, stack_plans


class Loaded(NamedTuple):
    """Holds what the loader hands over for one step of one process.

    Attributes:
        A, B: the crops of both domains.
        files, faults: where they come from, and what could not be read.
    """

    A: Crops
    B: Crops
    files: list[str]
    faults: list[str]


def collate(samples: list[Sample]) -> Loaded:
    """Stacks the samples of one step."""
    return Loaded(
        stack_plans([sample.A for sample in samples]),
        stack_plans([sample.B for sample in samples]),
        [file for sample in samples for file in sample.files],
        [fault for sample in samples for fault in sample.faults],
    )


def ignore_sigint(number: int) -> None:
    """Makes a loader's worker ignore Ctrl-C: the main process ends it in good time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)


class StepSampler(Sampler[list[Key]]):
    """The keys of one process's samples, a list for each step.

    The processes share out the samples of a step, so that together they see what one process alone
    would.

    Args:
        steps: stage, first sample and batch size of each remaining step.
        rank, processes: this process, and how many there are; all batches are divisible by that.
    """

    def __init__(self, steps: Iterable[tuple[int, int, int]], rank: int = 0, processes: int = 1):
        self.steps, self.rank, self.processes = steps, rank, processes

    def __iter__(self) -> Iterator[list[Key]]:
        for stage, first, batch in self.steps:
            share = batch // self.processes
            start = first + self.rank * share
            yield [Key(stage, number) for number in range(start, start + share)]


def make_loader(
    images: UnpairedImages,
    steps: Iterable[tuple[int, int, int]],
    *,
    workers: int,
    pin: bool,
    rank: int = 0,
    processes: int = 1,
) -> DataLoader[Loaded]:
    """Loads this process's share of the samples of each step; see `StepSampler`."""
    return DataLoader(  # pyright: ignore[reportReturnType]  # collate makes the type
        images,
        batch_sampler=StepSampler(steps, rank, processes),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        worker_init_fn=ignore_sigint,
        generator=torch.Generator(),  # else starting it would use up a number of the global one
    )
