"""Retries with a smaller budget where memory runs out. For the nodes and the command line.

`restore` takes a memory limit. Where memory runs out all the same, `attempts` gives smaller and
smaller limits. What differs between ComfyUI and a process of our own is in
`MemoryApi`.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

MIN_BYTES = 256 * 2**20
"""No smaller limit is tried when memory runs out."""

SHARE = 0.8
"""The first limit is this share of the free memory; other programs need some, too."""

UNKNOWN_BYTES = 2 * 2**30
"""Taken for the free memory where the system does not tell."""

PROGRAM_BYTES = 350 * 10**6
"""What Python, PyTorch and its kernels take by themselves in a process of their own, about."""

MEMINFO, CONTROL_GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
"""Where Linux tells of the memory of the system and of a container."""

MESSAGES = ("out of memory", "not enough memory", "can't allocate memory")
"""What the messages of torch's allocators (CUDA, MPS, XPU; CPU on Windows; other CPUs) share."""

log = logging.getLogger("devudp")


@dataclass(frozen=True)
class MemoryApi:
    """Asks for memory.

    Attributes:
        is_out_of_memory: whether an error means that memory ran out.
        free_bytes: memory that could be used on a device now.
        empty_cache: gives memory that torch only keeps in reserve back to the device.
    """

    is_out_of_memory: Callable[[BaseException], bool]
    free_bytes: Callable[[torch.device], int]
    empty_cache: Callable[[], None]


def is_out_of_memory(error: BaseException) -> bool:
    """True if memory ran out, so that trying again with less can help."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    message = str(error).lower()
    return isinstance(error, Exception) and any(words in message for words in MESSAGES)


def free_bytes(device: torch.device) -> int:
    """Memory that could be used on the device now, as far as the system tells."""
    if device.type == "cuda":
        # What torch only keeps in reserve can be used as well.
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    return min(free_of_system(), free_of_container())


def free_of_system() -> int:
    """Main memory that programs could have now, as far as the system tells."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        [line] = [line for line in lines if line.startswith("MemAvailable:")]
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:  # Windows, macOS; ComfyUI brings it along
        import psutil

        return psutil.virtual_memory().available
    except Exception:  # not installed, or not for this system
        pass
    try:  # macOS: half of all there is
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return UNKNOWN_BYTES


def free_of_container() -> int:
    """Returns what a container (a Linux control group) has left; very much without a limit."""
    try:
        limit, used, stat = (
            (CONTROL_GROUP / name).read_text(encoding="ascii")
            for name in ("memory.max", "memory.current", "memory.stat")
        )
        cached = dict(line.split() for line in stat.splitlines()).get("inactive_file", "0")
        return max(int(limit) - int(used) + int(cached), 0)
    except (OSError, ValueError):  # no control groups; "max"
        return sys.maxsize


def empty_cache() -> None:
    """Gives memory that torch only keeps in reserve back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


TORCH = MemoryApi(is_out_of_memory, free_bytes, empty_cache)
"""Without ComfyUI."""


def first_limit(free: int) -> int:
    """Returns the limit to begin with, for `free` bytes of free memory."""
    return max(int(SHARE * free), MIN_BYTES)


class Attempt(AbstractContextManager["Attempt"]):
    """One attempt within a memory limit, as a context: see `attempts`.

    Attributes:
        limit: bytes; None for no limit.
        failed: whether memory ran out in it.
    """

    def __init__(self, limit: int | None, api: MemoryApi):
        self.limit, self.api, self.failed = limit, api, False

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self.failed = isinstance(error, Exception) and self.api.is_out_of_memory(error)
        return self.failed


def attempts(device: torch.device, limit: int | None, api: MemoryApi = TORCH) -> Iterator[Attempt]:
    """Gives smaller and smaller limits (bytes) as long as memory runs out.

        for attempt in attempts(device, limit):
            with attempt:
                result = work(attempt.limit)

    A loop and no function that calls the work: what it leaves of a failed attempt is nothing, and
    the work stays at hand in a traceback.

    Args:
        device: whose memory it is.
        limit: the first one; None for no limit.
        api: of the host.

    Raises:
        MemoryError: memory ran out with the smallest limit, too.
    """
    while True:
        attempt = Attempt(limit, api)
        yield attempt
        if not attempt.failed:
            return
        # Outside of the attempt: inside, the error's traceback still holds the tensors.
        api.empty_cache()
        if limit is not None and limit <= MIN_BYTES:
            raise MemoryError(
                f"Out of memory on {device}, even with a limit of {limit >> 20} MiB. Close other "
                "programs, choose precision fp16, or make the image smaller first."
            )
        free = api.free_bytes(device)
        limit = max((free if limit is None else min(free, limit)) // 2, MIN_BYTES)
        log.warning(
            "Out of memory on %s: freed torch's cache, trying again within %d MiB.",
            device,
            limit >> 20,
        )
