"""Writes what a run leaves behind: settings, versions, data list, log, curve, samples.

RUN/
  config.toml     the resolved settings; `devudp-train resume RUN` reads them
  run.json        the run's id, seed, data hash; and for each leg (the start, every resume) its
                  command line, versions, hardware, first step and settings that changed
  data.txt        every image with its role and size
  log.jsonl       losses and validations, one line each
  curve.png       the same, drawn
  samples/        what the networks do, each record.sample_every steps
  tensorboard/    losses, validations and samples
  states/         the last two states to resume from, and the best one
  weights/        G's weights, each record.weights_every steps
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import platform
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from devudp_model.system.atomic import replacing
from devudp_model.system.untrusted import check_regular

from ..config import Config, ConfigError
from ..config.check import settings_of
from ..config.recipes import load_recipe, to_toml
from ..data.domains import listing_hash
from .state import list_states, resumable_states

logger = logging.getLogger("devudp")

RECORDS = ("config.toml", "run.json", "data.txt", "log.jsonl")
"""Written at the start of each leg."""

PACKAGES = ("devudp", "torch", "accelerate", "numpy", "pillow", "safetensors")


def write_text(path: Path, text: str) -> None:
    """Writes a text file completely, or leaves it as it was."""
    with replacing(path) as file:
        file.write(text.encode())


def read_text(path: Path) -> str:
    """Returns a text file's content; bytes that are not UTF-8 become question marks.

    Raises:
        UntrustedFileError: it is not a regular file.
        OSError: it cannot be read.
    """
    check_regular(path)
    return path.read_text(encoding="utf-8", errors="replace")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # a clone that was not installed
            found[package] = "not installed"
    # The package's metadata leave out which build it is (+cpu, +cu130) where it comes from PyPI.
    return found | {"torch": str(torch.__version__)}


def hardware(processes: int = 1) -> str:
    """Returns the hardware in a few words."""
    if torch.cuda.is_available():
        return f"{processes} x {torch.cuda.get_device_name()}"
    name = platform.processor() or platform.machine()
    return f"CPU ({name}), {processes} process(es) of {torch.get_num_threads()} thread(s)"


def lock(out: Path) -> FileLock:
    """Keeps other processes from writing into the run's folder.

    Raises:
        ConfigError: another one is doing so.
    """
    out.mkdir(parents=True, exist_ok=True)
    held = FileLock(out / ".lock")
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"another process is training in {out}: wait for it, or stop it"
        ) from None
    return held


def claim_folder(out: Path) -> None:
    """Checks that no run is in the folder yet.

    Raises:
        ConfigError: another run is in it already.
    """
    if resumable_states(out):
        raise ConfigError(
            f"{out} already holds a run. Continue it by 'devudp-train resume {out}', or choose "
            "another folder with --out."
        )


def check_places(out: Path) -> None:
    """Checks that all files of a run can be written, before any of them is.

    Raises:
        ConfigError: a folder, a pipe or the like is where a file belongs.
    """
    records = [out / name for name in RECORDS]
    odd = [path for path in records if path.exists() and not path.is_file()]
    # A new state replaces whatever else is in its place, except a folder.
    odd += [path for path in list_states(out / "states") if path.is_dir() and not path.is_symlink()]
    if odd:
        raise ConfigError(
            f"{odd[0]} is not a file: move it out of the run's folder, then try again"
        )


def describe_run(
    out: Path,
    config: Config,
    listing: Sequence[str],
    processes: int,
    step: int,
    resumed: bool,
) -> dict[str, Any]:
    """Writes config.toml, run.json and data.txt; returns what is in run.json.

    A resumed run keeps its id and its earlier legs.
    """
    about = read_run(out) if resumed else {}
    leg = {
        "command": sys.argv,
        "from_step": step,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware(processes),
        "processes": processes,
        "changed": changed_settings(out, config) if resumed else {},
    }
    about = {
        "id": about.get("id") or secrets.token_hex(8),
        "seed": config.seed,
        "data": {"images": len(listing), "sha256": listing_hash(listing)},
        "legs": [*about.get("legs", []), leg],
    }
    write_text(out / "data.txt", "\n".join(listing) + "\n")
    write_text(out / "run.json", json.dumps(about, indent=2) + "\n")
    write_text(out / "config.toml", to_toml(config))
    return about


def read_run(out: Path) -> dict[str, Any]:
    """Reads run.json.

    Raises:
        ConfigError: it is missing or damaged.
    """
    try:
        about = json.loads(read_text(out / "run.json"))
        if not isinstance(about, dict) or not isinstance(about.get("id"), str):
            raise ValueError("it has no id")
        if not isinstance(about.get("legs"), list) or not isinstance(about.get("data"), dict):
            raise ValueError("it has no legs or data")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{out / 'run.json'} cannot be read: {error}") from error
    return about


def changed_settings(out: Path, config: Config) -> dict[str, str]:
    """Compares the settings with those in config.toml: "old -> new" by their names."""
    before = dict(settings_of(load_recipe(out / "config.toml")))
    found = {
        name: f"{before.get(name)} -> {value}"
        for name, value in settings_of(config)
        if before.get(name) != value
    }
    old_stages = load_recipe(out / "config.toml").stages
    if old_stages != config.stages:
        old, new = (
            [dataclasses.asdict(s) for s in stages] for stages in (old_stages, config.stages)
        )
        found["stages"] = f"{old} -> {new}"
    return found


def check_same_data(out: Path, listing: Sequence[str]) -> None:
    """Warns if a run is resumed with other images than it began with."""
    if read_run(out)["data"]["sha256"] != listing_hash(listing):
        logger.warning(
            "The images differ from those that %s began with (see its data.txt): it goes on with "
            "the new ones, and is not exactly what an uninterrupted run would have been.",
            out,
        )


class MeanLosses:
    """The losses since the last log entry, summed on the device, so that no step waits for them."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}  # of the steps that had them

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Adds the losses of one step, scalars by name."""
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(loss)) + loss
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self, mean_of_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Their means, over all processes too; starts again from zero."""
        if not self.sums:
            return {}
        names = sorted(self.sums)
        total = torch.stack([self.sums[name].float() / self.counts[name] for name in names])
        self.sums, self.counts = {}, {}
        return dict(zip(names, mean_of_processes(total).tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """For a state of the run."""
        return {"sums": {k: v.cpu() for k, v in self.sums.items()}, "counts": self.counts}

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Puts back what `state` returned."""
        self.counts = {name: int(count) for name, count in state["counts"].items()}
        self.sums = {name: state["sums"][name].reshape(()).to(device) for name in self.counts}


class Log:
    """log.jsonl and TensorBoard.

    Args:
        out: the run's folder.
        step: lines beyond this step are dropped: a killed run may have logged more than it saved.
        tensorboard: whether to write TensorBoard's files too.
    """

    def __init__(self, out: Path, step: int, tensorboard: bool):
        self.path = out / "log.jsonl"
        kept = [line for line in read_log(out) if line["step"] <= step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.board = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """One line; numbers go to TensorBoard too."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items() if self.board else ():
            if isinstance(value, (int, float)) and self.board:
                self.board.add_scalar(name, value, step)

    def image(self, step: int, sheet: torch.Tensor) -> None:
        """A sample sheet (H,W,3 uint8) to TensorBoard."""
        if self.board:
            self.board.add_image("samples", sheet, step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is still buffered."""
        if self.board:
            self.board.close()


def read_log(out: Path) -> list[dict[str, Any]]:
    """Returns the lines of log.jsonl; one that was cut off when the run was killed is left out."""
    path, lines = out / "log.jsonl", []
    for line in read_text(path).splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and type(values.get("step")) is int:
            lines.append(values)
    return lines
