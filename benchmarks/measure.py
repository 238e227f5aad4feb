"""Time, memory and the machine they were measured on."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter

import torch
from torch.utils.benchmark import Timer

ROOT = Path(__file__).resolve().parent.parent
"""The repository's root."""


LONG_ENOUGH = 3.0
"""Seconds for which something is timed repeatedly."""


def best_time(run: Callable[[], object], device: torch.device, *, share: float = 1.0) -> float:
    """Seconds of the fastest of several runs, for as long as this share of `LONG_ENOUGH` allows.

    A run that takes longer than that is repeated once.
    """

    def finished() -> None:
        run()
        if device.type != "cpu":
            torch.get_device_module(device).synchronize()

    threads = torch.get_num_threads()  # of its own accord, Timer takes one
    timer = Timer("run()", globals={"run": finished}, timer=perf_counter, num_threads=threads)
    return min(timer.blocked_autorange(min_run_time=share * LONG_ENOUGH).times)


ROUNDS = 2


def make_parser(module: str, about: str | None) -> argparse.ArgumentParser:
    """Returns the parser of a module's command line, whose help begins with its docstring."""
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(f"python -m {module}", None, about, formatter_class=raw)


def in_turns(*measures: Callable[[], float]) -> list[float]:
    """The least that each of them returns. They are called in turns, as a machine's speed may
    change within minutes."""
    found = [[measure() for measure in measures] for _ in range(ROUNDS)]
    return [min(each) for each in zip(*found, strict=True)]


def processor() -> str:
    """Returns the processor's name, from the operating system."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def machine(device: torch.device) -> str:
    """One line that says where numbers come from."""
    if device.type == "cpu":
        able, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
        name = f"{processor()} ({able}), {threads} threads"
    else:
        name = torch.get_device_module(device).get_device_name(device)
    return f"{name}; torch {torch.__version__}, {platform.system()}"


def forget_peak() -> None:
    """Lets `compare_one.peak_bytes` count from now on. Linux only."""
    Path("/proc/self/clear_refs").write_text("5")


def restoring(images: Path, out: Path, *options: object) -> list[str]:
    """Returns the command line that restores a folder by the task joint."""
    command = [sys.executable, "-m", "devudp_model.cli", "restore", str(images), "--out", str(out)]
    return [*command, "--task", "joint", *map(str, options)]


PEAK_OF_COMMAND = """
import sys
from benchmarks.compare_one import peak_bytes
from devudp_model.cli.main import main
sys.argv[0] = "devudp"
code = main(sys.argv[1:])
print(peak_bytes())
sys.exit(code)
"""


def time_and_peak(command: list[str]) -> tuple[float, int]:
    """Returns the seconds of a command line of `restoring`, and its process's peak bytes.

    Linux only.
    """
    words = [sys.executable, "-c", PEAK_OF_COMMAND, *command[3:]]
    start = perf_counter()
    done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return perf_counter() - start, int(done.stdout.split()[-1])


def in_new_process(
    module: str, *arguments: object, environment: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Runs `python -m ...`, which prints JSON: only a new process has no memory of earlier work.

    `environment`: variables beside those of this process."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    variables = {**os.environ, **(environment or {})}
    pipe = subprocess.PIPE
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=pipe, text=True, env=variables)
    return json.loads(done.stdout)
