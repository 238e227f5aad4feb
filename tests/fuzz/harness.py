"""Runs attacks in processes of their own, and watches their time, memory and end."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import math
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unittest.mock
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import IO

import psutil

ROOT = Path(__file__).parents[2]

MAX_SECONDS, MAX_BYTES = 30.0, 1_500_000_000
"""Of one case: of processor time, and at the peak."""

MAX_SILENCE = 600.0
"""A worker that says nothing for so many seconds hangs, however busy the machine is."""

FULL = {
    "images": 3000, "names": 300, "checkpoints": 600, "states": 500, "settings": 300,
    "nodes": 1000, "signals": 200,
}  # fmt: skip
"""Cases of each attack in a full run."""

FOLDER = "devudp-fuzz-"
"""Begins the name of a run's one folder, which its process's number follows."""

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
    from tests.fuzz import checkpoints, images, names, nodes, settings, states

    found = {
        "images": images.attack,
        "names": names.attack,
        "checkpoints": checkpoints.attack,
        "states": states.attack,
        "settings": settings.attack,
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
    if not fault and seconds > MAX_SECONDS:
        fault = f"{seconds:.0f} seconds"
    if not fault and peak_bytes() > MAX_BYTES:
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


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for all that a run and its workers leave, removed at its end, also by Ctrl-C.

    Those of earlier runs that were killed are removed as well.
    """
    place = Path(tempfile.gettempdir())
    for left in place.glob(f"{FOLDER}[0-9]*"):
        if not psutil.pid_exists(int(left.name.removeprefix(FOLDER).partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{FOLDER}{os.getpid()}-", ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


@contextlib.contextmanager
def worker(command: Sequence[str], folder: Path, errors: IO[bytes]) -> Iterator[Popen[bytes]]:
    """A process in a group of its own, which ends with the block, and its children with it."""
    process = Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "TMPDIR": str(folder)},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def watch(name: str, first: int, count: int, until: float, folder: Path, tally: Tally) -> int:
    """Runs cases in a worker until it is done, dies or hangs; returns the next seed."""
    command = [sys.executable, "-m", "tests.fuzz", "--work", name, "--seed", str(first)]
    running, following = None, first
    with tempfile.TemporaryFile() as errors:
        with worker([*command, "--count", str(count)], folder, errors) as process:
            for line in lines_of(process):
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
        if running is not None and time.monotonic() < until + 2 * MAX_SECONDS:
            errors.seek(max(errors.tell() - 2000, 0))
            last = errors.read().decode(errors="replace")[-1500:]
            tally.attacked += 1
            tally.note(name, running, f"hung or died ({process.returncode}): {last}")
            following = running + 1
    return following


def lines_of(worker: Popen[bytes]) -> Iterator[bytes | None]:
    """What the worker says; None once it has said nothing for far too long."""
    assert worker.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(MAX_SILENCE):
                yield None
            line = worker.stdout.readline()
            if not line:
                return
            yield line


def run(name: str, first: int, count: int, seconds: float) -> Tally:
    """Up to `count` cases in up to so many seconds."""
    tally, until, seed = Tally(), time.monotonic() + seconds, first
    with scratch() as folder:
        while seed < first + count and time.monotonic() < until:
            following = watch(name, seed, first + count - seed, until, folder, tally)
            if following == seed:
                tally.note(name, seed, "the worker does not start")
                break
            seed = following
    return tally


def table(tallies: dict[str, Tally]) -> str:
    """Attacked and faults of each class, as Markdown."""
    lines = ["| class | attacked | faults | outcomes |", "|---|---|---|---|"]
    for name, tally in tallies.items():
        counted = sorted(tally.outcomes.items(), key=lambda each: -each[1])
        outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in counted)
        lines.append(f"| {name} | {tally.attacked:,} | {len(tally.faults)} | {outcomes} |")
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Attacks the code with damaged files, odd names and signals: see "
        "tests/fuzz/README.md.",
        epilog="example: python -m tests.fuzz --minutes 10 --attacks images names",
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long; default: 1")
    parser.add_argument(
        "--attacks",
        nargs="+",
        choices=list(attacks()),
        default=list(attacks()),
        metavar="NAME",
        help=f"of {', '.join(attacks())}; default: all",
    )
    parser.add_argument("--seed", type=int, default=None, help="default: another one every day")
    parser.add_argument("--count", type=int, default=10**9, help="of cases, at the most")
    parser.add_argument("--full", action="store_true", help="a fixed number of each, however long")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    return parser


def main() -> int:
    """The command line; see the package."""
    args = make_parser().parse_args()
    first = int(time.time() // 86_400) * 10**6 if args.seed is None else args.seed
    if args.work:
        work(args.work, first, args.count)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what it left is removed then, too
    tallies = {}
    for name in args.attacks:
        seconds = math.inf if args.full else 60 * args.minutes / len(args.attacks)
        tallies[name] = run(name, first, FULL[name] if args.full else args.count, seconds)
        print(table({name: tallies[name]}).splitlines()[-1], flush=True)
    print(f"\nSeeds from {first} on:\n\n{table(tallies)}", flush=True)
    return 1 if any(tally.faults for tally in tallies.values()) else 0
