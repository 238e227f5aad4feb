"""Files that are complete or not there, whenever a signal comes."""

from __future__ import annotations

import errno
import itertools
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from devudp_model.system import atomic

EARLIER, LATER = b"earlier", b"later" * 1000


class InterruptAt:
    """Raises KeyboardInterrupt at the `number`-th place where Python looks for signals.

    Those are the beginning of a Python function and the return of one in C.
    """

    def __init__(self, number: int):
        self.number, self.seen = number, 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        self.seen += event in ("call", "c_return")
        if self.seen == self.number:
            sys.setprofile(None)
            raise KeyboardInterrupt


def write(path: Path, interrupt: InterruptAt, *, overwrite: bool) -> bool:
    """Writes LATER; True if it was interrupted."""
    try:
        sys.setprofile(interrupt)
        with atomic.replacing(path, overwrite=overwrite) as file:
            file.write(LATER)
        sys.setprofile(None)
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("overwrite", [True, False])
def test_an_interrupt_anywhere_leaves_nothing_behind(
    overwrite: bool, links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    if not links:
        monkeypatch.setattr(atomic.os, "link", no_links)
    path, ends, number, content = tmp_path / "a.bin", set(), 0, b""
    for number in itertools.count(1):
        path.unlink(missing_ok=True)
        if overwrite:
            path.write_bytes(EARLIER)
        interrupted = write(path, InterruptAt(number), overwrite=overwrite)
        content = path.read_bytes() if path.exists() else b""
        assert content in (LATER, EARLIER if overwrite else b""), number
        assert [found.name for found in tmp_path.iterdir()] in ([], ["a.bin"]), number
        ends.add(content)
        if not interrupted:
            break
    assert content == LATER and number > 20 and len(ends) == 2
