"""Counts the CPU threads that a run takes: those that other programs leave free at its start.

PyTorch shares every operation of a step among its threads, and each waits for the slowest. Beside
other busy programs that is one which is not running, hundreds of times in a step: fewer threads are
faster there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from ..config import Config

logger = logging.getLogger("devudp")

SECONDS = 0.5
"""So long the threads are tried. Some systems count processor time in steps of 16 ms."""

TOLERATED = 0.1
"""So much of one processor may be missing in all: short work of others is always going on."""

BLOCK = bytes(2**20)
"""What is worked on; hashing it lets Python's other threads run."""


def free_share(threads: int, seconds: float = SECONDS) -> float:
    """Measures which share of their time so many threads really run: 1 where nothing else does."""

    def work(_: int) -> float:
        start, begun = time.perf_counter(), time.thread_time()
        while (passed := time.perf_counter() - start) < seconds:
            hashlib.sha256(BLOCK).digest()
        return (time.thread_time() - begun) / max(passed, 1e-9)

    with ThreadPoolExecutor(threads) as pool:
        return min(sum(pool.map(work, range(threads))) / threads, 1.0)


def free_threads(threads: int) -> int:
    """Returns how many of so many threads are worth having now; at least 1."""
    if threads == 1:
        return 1
    share = free_share(threads)
    chosen = max(int(threads * share + TOLERATED), 1)
    if chosen < threads:
        logger.info(
            "Other programs keep this machine busy (%d threads get %.0f %% of their time): "
            "training with speed.threads = %d of %d. A resumed run keeps it.",
            threads,
            100 * share,
            chosen,
            threads,
        )
    return chosen


def with_threads(config: Config) -> Config:
    """Returns the settings of a run that starts, with a number of threads if they name none.

    On a GPU and with several processes, PyTorch's own number stays.
    """
    speed, processes = config.speed, int(os.environ.get("WORLD_SIZE", "1"))
    on_gpu = speed.device != "cpu" and torch.cuda.is_available()
    if speed.threads or on_gpu or processes > 1:
        return config
    threads = free_threads(torch.get_num_threads())
    return dataclasses.replace(config, speed=dataclasses.replace(speed, threads=threads))
