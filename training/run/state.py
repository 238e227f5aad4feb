"""States that a training resumes from: one file each, complete or not there, the last two kept."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from devudp_model.atomic import replacing

from ..config import ConfigError

KEEP = 2
FORMAT = 2


class StateError(OSError):
    """A state that cannot be written or read; the message says which one is good."""


def state_path(folder: Path, step: int) -> Path:
    """The file of the state after `step` steps."""
    return folder / f"state-{step:08d}.pt"


def list_states(folder: Path) -> list[Path]:
    """The states in a folder, oldest first."""
    return sorted(folder.glob("state-*.pt"))


def save_state(path: Path, content: dict[str, Any]) -> None:
    """Writes a state, then removes all but the last two of its folder.

    Raises:
        StateError: it cannot be written (a full disk, say). The earlier ones are left alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(".devudp-*.tmp"):  # of a run that was killed while saving
        left_over.unlink(missing_ok=True)
    try:
        with replacing(path) as file:
            torch.save({"format": FORMAT, **content}, file)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        states = list_states(path.parent)
        good = f"The last good state, {states[-1]}, is intact." if states else "There is none yet."
        raise StateError(
            f"The state could not be saved to {path}: {error}. {good} Make room on the disk, then "
            "resume."
        ) from error
    if path.name.startswith("state-"):
        for old in list_states(path.parent)[:-KEEP]:
            old.unlink()


def load_state(path: Path) -> dict[str, Any]:
    """Reads a state; code in it is never run.

    Raises:
        StateError: it cannot be read.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any way
        raise StateError(
            f"{path} cannot be read as a training state: {error}. Resume from another one in "
            f"{path.parent} by naming its file."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise StateError(f"{path} is no training state of this version of DEvUDP")
    return content


def find_state(run: Path) -> Path:
    """The latest state of a run's folder; or `run` itself if it is a state's file.

    Raises:
        ConfigError: there is none.
    """
    if run.is_file():
        return run
    states = list_states(run / "states")
    if not states:
        raise ConfigError(
            f"no state in {run / 'states'}: name the folder of a run that has saved one"
        )
    return states[-1]


def random_states() -> dict[str, Any]:
    """The state of every random number generator of this process."""
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
