"""Runs attacks in processes of their own, and watches their time, memory and end."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
import unittest.mock
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

MOST_SECONDS, MOST_BYTES = 30.0, 1_500_000_000
"""Of one case: of processor time, and at the peak."""

MOST_SILENCE = 240.0
"""A worker that says nothing for so many seconds hangs, however busy the machine is."""

Attack = Callable[[int, Path], str]
"""Gets a seed and an empty folder; says what became of it in a word; raises Fault."""


class Fault(AssertionError):
    """What must not happen."""


@dataclass
class Tally:
    """What became of the cases of one attack.

    Attributes:
        outcomes: how often each word was said.
        faults: seed and what happened.
    """

    attacked: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)

    def note(self, name: str, seed: int, fault: str) -> None:
        """Keeps a fault, and says at once how to see it again."""
        self.faults.append((seed, fault))
        text = fault.strip().replace("\n", "\n    ")
        print(f"  --attacks {name} --seed {seed} --count 1\n    {text}", flush=True)


def attacks() -> dict[str, Attack]:
    """All of them, by name."""
    from tests.fuzz import checkpoints, images, names, nodes, states

    found = {
        "images": images.attack,
        "names": names.attack,
        "checkpoints": checkpoints.attack,
        "states": states.attack,
        "nodes": nodes.attack,
    }
    if hasattr(os, "fork"):
        from tests.fuzz import signals

        found["signals"] = signals.attack
    return found


def call(command: Callable[[], int | None]) -> tuple[int, str]:
    """The status of a command of this process, and all that it says."""
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape")
    logging.getLogger().handlers.clear()  # each command begins as a process of its own would
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        unittest.mock.patch("signal.signal"),
    ):
        try:
            status = command() or 0
        except SystemExit as end:
            status = int(end.code or 0)
    said.flush()
    return status, said.buffer.getvalue().decode("utf-8", "surrogateescape")  # pyright: ignore


def forget_peak() -> None:
    """From now on, the peak of this process's memory is counted anew (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The peak of this process's memory; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def run_case(attack: Attack, seed: int) -> tuple[str, str]:
    """Outcome and fault ("" for none) of one case."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as folder:
        forget_peak()
        start = time.process_time()  # other work on the machine does not count
        try:
            outcome, fault = attack(seed, Path(folder)), ""
        except Fault as error:
            outcome, fault = "fault", str(error)
        except BaseException:
            outcome, fault = "fault", traceback.format_exc()
        seconds = time.process_time() - start
    if not fault and seconds > MOST_SECONDS:
        fault = f"{seconds:.0f} seconds"
    if not fault and peak_bytes() > MOST_BYTES:
        fault = f"{peak_bytes() / 1e9:.2f} GB"
    return outcome, fault


def work(name: str, first: int, count: int) -> None:
    """A worker: a line before and after each case, to standard output."""
    sys.stdout.flush()
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")  # whatever an attack prints goes elsewhere
    os.dup2(2, 1)
    attack = attacks()[name]
    for seed in range(first, first + count):
        print(json.dumps([seed]), file=pipe, flush=True)
        print(json.dumps([seed, *run_case(attack, seed)]), file=pipe, flush=True)


def watch(name: str, first: int, count: int, until: float, tally: Tally) -> int:
    """Runs cases in a worker until it is done, dies or hangs; returns the next seed."""
    command = [sys.executable, "-m", "tests.fuzz", "--work", name, "--seed", str(first)]
    with tempfile.TemporaryFile() as errors:
        worker = subprocess.Popen(
            [*command, "--count", str(count)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "OMP_WAIT_POLICY": "passive"},
        )
        running, following = None, first
        try:
            for line in lines_of(worker):
                if line is None:
                    break
                seed, *result = json.loads(line)
                running = None if result else seed
                if result:
                    following = seed + 1
                    tally.attacked += 1
                    tally.outcomes[result[0]] = tally.outcomes.get(result[0], 0) + 1
                    if result[1]:
                        tally.note(name, seed, result[1])
                if time.monotonic() > until and not running:
                    break
        finally:
            worker.kill()
            worker.communicate()
        if running is not None and time.monotonic() < until + 2 * MOST_SECONDS:
            errors.seek(max(errors.tell() - 2000, 0))
            last = errors.read().decode(errors="replace")[-1500:]
            tally.attacked += 1
            tally.note(name, running, f"hung or died ({worker.returncode}): {last}")
            following = running + 1
    return following


def lines_of(worker: subprocess.Popen[bytes]) -> Iterator[bytes | None]:
    """What the worker says; None once it has said nothing for far too long."""
    assert worker.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(MOST_SILENCE):
                yield None
            line = worker.stdout.readline()
            if not line:
                return
            yield line


def run(name: str, first: int, count: int, seconds: float) -> Tally:
    """Up to `count` cases in up to so many seconds."""
    tally, until, seed = Tally(), time.monotonic() + seconds, first
    while seed < first + count and time.monotonic() < until:
        following = watch(name, seed, first + count - seed, until, tally)
        if following == seed:
            tally.note(name, seed, "the worker does not start")
            break
        seed = following
    return tally


def main() -> int:
    """The command line; see the package."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--attacks", nargs="+", choices=list(attacks()), default=list(attacks()))
    parser.add_argument("--seed", type=int, default=None, help="default: another one every day")
    parser.add_argument("--count", type=int, default=10**9, help="of cases, at the most")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    first = int(time.time() // 86_400) * 10**6 if args.seed is None else args.seed
    if args.work:
        work(args.work, first, args.count)
        return 0
    faults = 0
    for name in args.attacks:
        tally = run(name, first, args.count, 60 * args.minutes / len(args.attacks))
        print(
            f"{name}: {tally.attacked} attacked, {len(tally.faults)} faults, {tally.outcomes}",
            flush=True,
        )
        faults += len(tally.faults)
    return 1 if faults else 0
