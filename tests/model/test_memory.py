"""Out of memory: again with less; and how the limit is divided up."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from devudp_model.bands.rows import FileImage, less_bytes, new_image
from devudp_model.engine.network import Network
from devudp_model.network.generator import Generator, Variant
from devudp_model.restoring import coarse_to_fine as coarse
from devudp_model.restoring.frozen import FrozenRestorer
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.system import memory
from devudp_model.system.memory import TORCH, MemoryApi, attempts, first_limit, is_out_of_memory

CPU = torch.device("cpu")


def api(free: int, emptied: list[int] | None = None) -> MemoryApi:
    calls = [] if emptied is None else emptied
    return MemoryApi(is_out_of_memory, lambda device: free, lambda: calls.append(1))


def with_less_memory(
    run: Callable[[int | None], Any],
    device: torch.device,
    limit: int | None,
    api: MemoryApi = TORCH,
) -> tuple[Any, int | None]:
    """What came of the attempts, and within which limit."""
    for attempt in attempts(device, limit, api):
        with attempt:
            return run(attempt.limit), attempt.limit
    raise AssertionError("the last attempt neither succeeded nor failed")


def test_a_fifth_of_the_free_memory_is_left_to_others() -> None:
    assert first_limit(10 * 2**30) == 8 * 2**30
    assert first_limit(0) == memory.MIN_BYTES


@pytest.mark.parametrize(
    ("start", "free", "expected"),
    [
        (3 * 2**30, 8 * 2**30, [3 * 2**30, 3 * 2**29, 3 * 2**28]),
        (None, 4 * 2**30, [None, 2 * 2**30, 2**30]),
        (3 * 2**30, 2**30, [3 * 2**30, 2**29, 2**28]),
    ],
)
def test_each_limit_is_half_of_the_last_one_or_of_what_is_free(
    start: int | None, free: int, expected: list[int | None]
) -> None:
    limits: list[int | None] = []
    held: list[weakref.ref[torch.Tensor]] = []
    emptied: list[int] = []

    def run(limit: int | None) -> str:
        assert all(reference() is None for reference in held), "the last attempt's tensors"
        limits.append(limit)
        if len(limits) < 3:
            work = torch.ones(10)
            held.append(weakref.ref(work))
            raise torch.OutOfMemoryError
        return "done"

    assert with_less_memory(run, CPU, start, api(free, emptied)) == ("done", expected[-1])
    assert limits == expected and len(emptied) == 2


def test_the_end_says_what_to_do() -> None:
    def run(limit: int | None) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(MemoryError, match=r"even with a limit of 256 MiB.*smaller"):
        with_less_memory(run, CPU, None, api(2**30))


def test_other_errors_pass_through() -> None:
    def run(limit: int | None) -> None:
        raise ValueError("the mask does not fit")

    with pytest.raises(ValueError, match="mask"):
        with_less_memory(run, CPU, None)


def test_what_this_machine_has() -> None:
    assert 2**20 < memory.free_bytes(CPU) < 2**50
    memory.empty_cache()


class Psutil:
    """In place of psutil, on a machine of 64 GB."""

    class virtual_memory:
        available = 48 * 10**9


class Broken:
    """One that does not know the system."""

    @staticmethod
    def virtual_memory() -> None:
        raise NotImplementedError


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system without /proc, as Windows; the folder is that of its control group."""
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    monkeypatch.setitem(sys.modules, "psutil", Psutil)
    monkeypatch.delattr(memory.os, "sysconf", raising=False)
    return tmp_path


def test_psutil_knows_where_there_is_no_proc(elsewhere: Path) -> None:
    assert memory.free_bytes(CPU) == 48 * 10**9


@pytest.mark.parametrize("psutil", [None, Broken])
def test_without_psutil_it_is_guessed(
    elsewhere: Path, psutil: type | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    assert memory.free_bytes(CPU) == memory.UNKNOWN_BYTES
    sizes = {"SC_PHYS_PAGES": 10**6, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(memory.os, "sysconf", sizes.get, raising=False)
    assert memory.free_bytes(CPU) == 2048 * 10**6


def test_linux_is_asked_itself(elsewhere: Path) -> None:
    (elsewhere / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:  700 kB\n")
    assert memory.free_bytes(CPU) == 700 * 1024


def test_a_container_has_less_than_the_machine(elsewhere: Path) -> None:
    files = {"memory.max": "5000", "memory.current": "3000", "memory.stat": "inactive_file 400\n"}
    for name, text in files.items():
        (elsewhere / name).write_text(text)
    assert memory.free_bytes(CPU) == 2400
    (elsewhere / "memory.max").write_text("max")
    assert memory.free_bytes(CPU) == 48 * 10**9


def test_an_image_that_takes_too_much_of_the_limit_lies_in_a_file() -> None:
    shape = torch.Size((2, 3, 10, 20))
    nbytes = 2 * 10 * 20 * 3 * 4
    image, left = new_image(shape, CPU, 4 * nbytes)
    assert isinstance(image, torch.Tensor) and left == 3 * nbytes
    image, left = new_image(shape, CPU, 4 * nbytes - 1)
    assert isinstance(image, FileImage) and image.shape == shape and left == 4 * nbytes - 1
    image, left = new_image(shape, CPU, None)
    assert isinstance(image, torch.Tensor) and left is None and less_bytes(1, image) == 1


def generator(variant: Variant) -> Generator:
    torch.manual_seed(0)
    return Generator(variant, width=4, depth=1).eval().requires_grad_(False)


COPY = 3 * 4 * 70 * 80
"""Bytes of an image of the next tests."""


@pytest.mark.parametrize(
    ("task", "dtype", "copies"),
    [
        ("joint", torch.float32, 0),  # the network writes straight into the result
        ("joint", torch.float16, 1),  # its output has memory of its own
        ("deblur", torch.float32, 1),  # so has the input that coarser scales make
        ("deblur", torch.float16, 2),
    ],
)
def test_the_network_gets_the_limit_less_the_copies(
    task: str, dtype: torch.dtype, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coarse, "MIN_SIDE", 32)
    seen: set[int | None] = set()
    true = Network.forward

    def forward(self: Network, image: torch.Tensor, **details: Any) -> torch.Tensor:
        seen.add(details["memory"])
        return true(self, image, **details)

    monkeypatch.setattr(Network, "forward", forward)
    net = generator("devudp-dt" if task == "deblur" else "devudp")
    image = torch.rand(1, 3, 70, 80).to(dtype)
    restore(image, net, Options(task, precision="fp32", memory=10**9))
    assert seen == limits(task, copies)


def limits(task: str, copies: int) -> set[int]:
    """Of the image; and of a smaller one, a quarter as large, beside it and what becomes of it."""
    left = 10**9 - copies * COPY
    return {left, left - 2 * COPY // 4} if task == "deblur" else {left}


@pytest.mark.parametrize(("task", "copies"), [("joint", 0), ("deblur", 1)])
def test_so_does_a_frozen_network(task: str, copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse, "MIN_SIDE", 32)
    net = generator("devudp-dt" if task == "deblur" else "devudp")
    image = torch.rand(1, 3, 70, 80)
    frozen = FrozenRestorer(net, image, Options(task, precision="fp32", memory=10**9))
    seen: set[int | None] = set()
    true = frozen.network.forward

    def forward(image: torch.Tensor, **details: Any) -> torch.Tensor:
        seen.add(details["memory"])
        return true(image, **details)

    monkeypatch.setattr(frozen.network, "forward", forward)
    frozen(image)
    assert seen == limits(task, copies)
