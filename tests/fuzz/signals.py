"""Signals at any moment of a folder's run: nothing half written, and the rest done afterwards."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from devudp_model.checkpoint import save_checkpoint
from devudp_model.cli import main as cli
from devudp_model.images.reading import read_image
from tests.fuzz.harness import Fault
from tests.fuzz.images import generator
from tests.fuzz.names import contents, leftover

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
LONGEST = 60


@functools.cache
def setting() -> tuple[Path, dict[str, bytes], float]:
    """A folder of inputs, the results of a run that nobody disturbs, and its seconds."""
    root = Path(tempfile.mkdtemp(prefix="fuzz-signals-"))
    rng = random.Random(0)
    (root / "in/deep").mkdir(parents=True)
    for number in range(8):
        size = rng.randint(20, 200), rng.randint(20, 200)
        image = Image.frombytes("RGB", size, rng.randbytes(size[0] * size[1] * 3))
        image.save(root / "in" / rng.choice((".", "deep")) / f"{number}.png")
    save_checkpoint(root / "w.safetensors", generator(), {}, dtype=torch.float32)
    start_of(root, root / "warm-up")  # in a child, as all: threads do not outlive a fork
    start = time.monotonic()
    if start_of(root, root / "whole")[0] != 0:
        raise Fault("the undisturbed run failed")
    return root, results(root / "whole"), time.monotonic() - start


def results(folder: Path) -> dict[str, bytes]:
    found = contents(folder) if folder.exists() else {}
    return {path.relative_to(folder).as_posix(): bytes(each) for path, each in found.items()
            if isinstance(each, bytes)}  # fmt: skip


def command(root: Path, out: Path, *more: str) -> list[str]:
    return ["restore", str(root / "in"), "--out", str(out), "--checkpoint",
            str(root / "w.safetensors"), "--device", "cpu", "--recursive", "--compare",
            *more]  # fmt: skip


def start_of(
    root: Path, out: Path, *more: str, number: int = 0, after: float = 0
) -> tuple[int, str]:
    """Runs the command in a child process, which gets a signal; its status and what it said."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            run_child(command(root, out, *more), said.fileno())
        if number:
            time.sleep(after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
        status = wait(child)
        said.seek(0)
        return status, said.read().decode(errors="replace")


def run_child(arguments: list[str], said: int) -> None:
    """The child: never returns."""
    status = 99
    try:
        for stream in (1, 2):
            os.dup2(said, stream)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        status = cli.main(arguments)
    except KeyboardInterrupt:  # before the command was even there
        status = 130
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(child: int) -> int:
    """The child's exit status, or less a signal's number."""
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise Fault("it does not end")


def attack(seed: int, folder: Path) -> str:
    """Disturbs a run one to three times, then lets it finish."""
    rng = random.Random(seed)
    root, expected, seconds = setting()
    out, last = folder / "out", 0
    inputs = contents(root / "in")
    for turn in range(rng.choice((1, 1, 2, 3))):
        last = rng.choice(SIGNALS)
        more = ["--skip-existing"] if turn else []
        after = rng.uniform(0, 1.1 * seconds)
        left = leftovers(out)  # which a run that ends at once has not removed yet
        status, said = start_of(root, out, *more, number=last, after=after)
        # SIGTERM before the command has begun ends the process as it ends any.
        if status not in (0, 130, -last) or "Traceback" in said:
            raise Fault(f"signal {last} after {after:.3f} s: status {status}\n{said[-1500:]}")
        if last != signal.SIGKILL and leftovers(out) - left:
            raise Fault(f"{sorted(leftovers(out) - left)} are left over")
        check_so_far(out, expected)
    status, said = start_of(root, out, "--skip-existing")
    if status != 0:
        raise Fault(f"--skip-existing afterwards: status {status}\n{said[-1500:]}")
    if results(out) != expected:
        raise Fault(f"other results afterwards: {sorted(results(out))}")
    if contents(root / "in") != inputs:
        raise Fault("inputs were changed")
    return signal.Signals(last).name


def leftovers(folder: Path) -> set[str]:
    """Temporary files."""
    return {name for name in results(folder) if leftover(Path(name))}


def check_so_far(out: Path, expected: dict[str, bytes]) -> None:
    """What has a final name is whole."""
    for name, content in results(out).items():
        if not leftover(Path(name)) and expected.get(name) != content:
            read_image(out / name)
            raise Fault(f"{name} is not what it has to be")
