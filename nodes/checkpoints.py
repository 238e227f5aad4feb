"""Checkpoints that can be chosen, found through the host's folders, read once while in use."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import folder_paths  # pyright: ignore[reportMissingImports]
import torch

from ..devudp_model.checkpoint import Checkpoint, bundled, load_checkpoint
from ..devudp_model.restoring.auto import AUTO
from ..devudp_model.restoring.tasks import TASK_SPECS, TASKS, Task, bundled_variant
from ..devudp_model.task_weights import add_deblurrer

FOLDER = "devudp"
SUFFIXES = {".safetensors", ".pth"}
BUNDLED = "bundled"

log = logging.getLogger("devudp")

_read: WeakValueDictionary[tuple[str, int, int], Checkpoint] = WeakValueDictionary()
"""As long as something holds them: see output_cache.py. Reading 28 MB again takes some 50 ms."""


def register_folder() -> None:
    """Makes `models/devudp`, and `devudp:` in the user's extra_model_paths.yaml, known."""
    default = os.path.join(folder_paths.models_dir, FOLDER)  # noqa: PTH118 (the host wants str)
    try:
        Path(default).mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a read-only installation works without
        log.warning("DEvUDP could not make %s for checkpoints of your own: %s", default, error)
    folder_paths.add_model_folder_path(FOLDER, default)
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    # A folder new to the host starts with no suffixes, which would list every file.
    folder_paths.folder_names_and_paths[FOLDER] = (paths, SUFFIXES)


def choices() -> list[str]:
    """Returns what the checkpoint widget offers."""
    return [BUNDLED, *folder_paths.get_filename_list(FOLDER)]


def problem(checkpoint: str | None) -> str | None:
    """Why a choice cannot be used, if so. None stands for a widget fed by another node."""
    if checkpoint is None or checkpoint in choices():
        return None
    return (
        f"There is no checkpoint {checkpoint!r} in models/{FOLDER}. Put it there and press R to "
        f"refresh, or choose one of: {', '.join(choices())}."
    )


def find(checkpoint: str, task: Task) -> Path:
    """Returns the file of a choice; what is bundled depends on the task.

    Raises:
        FileNotFoundError: the host does not find the file in its folders (any more).
    """
    if checkpoint == BUNDLED:
        return bundled(bundled_variant(task))
    return Path(folder_paths.get_full_path_or_raise(FOLDER, checkpoint))


def load(checkpoint: str, task: Task) -> Checkpoint:
    """Reads a choice, or takes it from those in use; a changed file is read again.

    Raises:
        CheckpointError: the file is damaged or belongs to another network.
    """
    path = find(checkpoint, task)
    key = identity(path)
    known = _read.get(key)
    if known is None:
        with torch.inference_mode(False):  # weights made in this mode could never be changed
            known = _read[key] = load_checkpoint(path)
    if checkpoint == BUNDLED:
        add_deblurrer(known, task, partial(load, checkpoint))
    return known


def identity(path: Path) -> tuple[str, int, int]:
    """Changes whenever the file does; a missing file has one too."""
    try:
        stat = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), stat.st_mtime_ns, stat.st_size


def fingerprint(checkpoint: str | None, task: Task | None) -> str:
    """Tells the host when a node has to run again although its widgets are unchanged.

    A widget fed by another node's output is None here.
    """
    if checkpoint is None or task is None:
        return "linked"
    tasks = TASKS if task == AUTO else (task,)
    if any(TASK_SPECS[each].deblurred for each in tasks):
        tasks = (*tasks, "deblur")
    try:
        return str(sorted({identity(find(checkpoint, each)) for each in tasks}))
    except FileNotFoundError:
        return "missing"
