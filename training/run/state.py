"""States that a run resumes from: one file each, complete or absent, with a checksum.

A file is a line with a magic word and the SHA-256 of the rest, then what `torch.save` writes. The
last two of a run are kept, and the best one, if the run is validated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from devudp_model.system.atomic import replacing

from ..config import Config, ConfigError

KEEP = 2
MAGIC = b"DEvUDP-state-3"
MAX_BYTES = 64 * 2**30
"""No state is larger than this; a larger file is something else."""

BEST = "best.pt"

logger = logging.getLogger("devudp")


class StateError(OSError):
    """A state that cannot be written or read; the message says which one is good."""


def state_path(folder: Path, step: int) -> Path:
    """Returns the file of the state after `step` steps."""
    return folder / f"state-{step:08d}.pt"


def list_states(folder: Path) -> list[Path]:
    """Returns the states in a folder, oldest first; without the best one."""
    return sorted(folder.glob("state-*.pt"))


def resumable_states(run: Path) -> list[Path]:
    """Returns the states that a run can be resumed from; the last one is taken.

    The best one counts only where there is no other: a run may be killed before it has saved one.
    """
    best = run / "states" / BEST
    return list_states(run / "states") or [best] * best.is_file()


def write_checked(path: Path, content: dict[str, Any]) -> None:
    """Writes what `read_checked` reads; the file is complete or not there.

    Raises:
        OSError: it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getbuffer()
    digest = hashlib.sha256(data).hexdigest().encode()
    with replacing(path) as file:
        file.write(MAGIC + b" " + digest + b"\n")
        file.write(data)


def read_checked(path: Path) -> dict[str, Any]:
    """Reads a state; code in it is never run.

    Raises:
        StateError: it is missing, damaged, or no state.
    """
    try:
        if not path.is_file():
            raise ValueError("it is not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("it is larger than any state")
        with path.open("rb") as file:
            head = file.readline(len(MAGIC) + 66)
            data = file.read()
        magic, _, digest = head.strip().partition(b" ")
        if magic != MAGIC:
            raise ValueError("it is no training state of this version of DEvUDP")
        if hashlib.sha256(data).hexdigest().encode() != digest:
            raise ValueError("it is damaged: its checksum differs")
        content = load_tensors(data)
        if not isinstance(content, dict) or type(content.get("step")) is not int:
            raise ValueError("it is no training state")
        if content["step"] < 0:
            raise ValueError("its step is negative")
    except (OSError, ValueError, MemoryError) as error:
        raise StateError(f"{path} cannot be read: {error}") from error
    return content


def load_tensors(data: bytes) -> Any:
    """Reads what `torch.save` wrote; code in it is never run.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a crafted file can make it raise anything
        raise ValueError(
            f"it holds something else than tensors ({type(error).__name__})"
        ) from error


def save_state(path: Path, content: dict[str, Any]) -> None:
    """Writes a state, then removes all but the last two of its folder.

    Raises:
        StateError: it cannot be written (a full disk, say). The earlier ones are left alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(".devudp-*.tmp"):  # a killed run's
        left_over.unlink(missing_ok=True)
    try:
        write_checked(path, content)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        good = last_good(path.parent)
        kept = f"The last good state, {good}, is intact." if good else "There is none yet."
        raise StateError(
            f"The state could not be saved to {path}: {error}. {kept} Make room on the disk, then "
            "resume."
        ) from error
    if path.name.startswith("state-"):
        # There are later ones if the run was resumed from an earlier state: they are discarded.
        earlier = [state for state in list_states(path.parent) if state < path]
        for old in set(list_states(path.parent)) - {path, *earlier[1 - KEEP :]}:
            old.unlink()


def last_good(folder: Path) -> Path | None:
    """Returns the newest state of a folder that is not damaged."""
    for path in reversed(list_states(folder)):
        with contextlib.suppress(StateError):
            read_checked(path)
            return path
    return None


def load_state(run: Path, run_id: str | None = None) -> tuple[Path, dict[str, Any]]:
    """Returns the last good state of a run's folder, or the state in `run` if that is a file.

    Args:
        run_id: of the run that the state must belong to; None: any run.

    Raises:
        ConfigError: there is none.
        StateError: the named file, or every state of the folder, is damaged or of another run.
    """
    if run.is_file():
        return run, of_run(run, read_checked(run), run_id)
    states = resumable_states(run)
    if not states:
        raise ConfigError(
            f"no state in {run / 'states'}: name the folder of a run that has saved one"
        )
    for path in reversed(states):
        try:
            return path, of_run(path, read_checked(path), run_id)
        except StateError as error:
            earlier = path != states[0]
            logger.warning("%s%s", error, ". The one before it is taken." if earlier else "")
    raise StateError(f"every state in {run / 'states'} is damaged, or of another run (see above)")


def of_run(path: Path, content: dict[str, Any], run_id: str | None) -> dict[str, Any]:
    """Returns the state, if it belongs to a run.

    Raises:
        StateError: it does not.
    """
    if run_id is not None and content.get("run") != run_id:
        raise StateError(f"{path} belongs to another run")
    return content


def random_states() -> dict[str, Any]:
    """Returns the state of every random number generator of this process."""
    numbers: Any = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [numbers[0], numbers[1].tolist(), *numbers[2:]],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Puts back what `random_states` returned."""
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))


def check_architecture(path: Path, state: dict[str, Any], config: Config) -> None:
    """Checks that a state's networks and optimizers are those of a recipe.

    Raises:
        ConfigError: they are not.
    """
    mine, its = (
        {k: v for k, v in model.items() if k not in ("init", "zero_head")}
        for model in (dataclasses.asdict(config.model), state["model"])
    )
    if mine != its:
        wrong = [
            f"{k} {its.get(k)!r} there, {mine[k]!r} here" for k in mine if mine[k] != its.get(k)
        ]
        raise ConfigError(f"{path} is a state of another architecture: {'; '.join(wrong)}")
    if ("muon" in state["opt_G"]) != (config.schedule.muon > 0):
        raise ConfigError(
            f"{path} is a state of {'Muon' if 'muon' in state['opt_G'] else 'Adam'}, and "
            "schedule.muon asks for the other. Leave that as it was, or start a new run from the "
            "weights (--model.init)"
        )


def check_numbers(state: dict[str, Any], *optimizers: torch.optim.Optimizer) -> None:
    """Checks what loading a state does not: that all numbers are finite, which training cannot
    repair, and that the optimizers' averages are those of their weights.

    Args:
        state: that was loaded.
        optimizers: that it was loaded into.

    Raises:
        ValueError: they are not.
    """
    numbers = [v for name in ("G", "G_inv", "D", "ema") for v in (state[name] or {}).values()]
    for optimizer in optimizers:
        adam: torch.optim.Optimizer = getattr(optimizer, "adam", optimizer)
        for weight, averages in adam.state.items():
            fit = all(averages[name].shape == weight.shape for name in ("exp_avg", "exp_avg_sq"))
            if not fit or averages["step"].numel() != 1 or adam.param_groups[0]["amsgrad"]:
                raise ValueError("an optimizer's averages are not those of its weights")
            numbers += averages.values()
    if not all(value.isfinite().all() for value in numbers):
        raise ValueError("it has numbers that are not finite")
