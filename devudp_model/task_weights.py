"""The weights that each task needs: read when they are first asked for, and once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from .checkpoint import Checkpoint, bundled, load_checkpoint
from .network.generator import Generator
from .restoring.facts import Model, facts_of, generator_of
from .restoring.tasks import TASK_SPECS, Task, bundled_variant

Weights = Callable[[Task], Model]
"""Gives what restores by a task, on the device that is to do the work."""


def weights_of(
    checkpoint: str | os.PathLike[str] | Model | Weights | None, device: torch.device | str | None
) -> Weights:
    """Returns what gives the weights for a task; arguments as of `Restorer`."""
    if isinstance(checkpoint, (Generator, Checkpoint)):
        model = checkpoint if device is None else moved(checkpoint, torch.device(device))
        return lambda task: model
    if callable(checkpoint):
        return checkpoint
    if checkpoint is not None and not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(
            f"checkpoint is {type(checkpoint).__name__}: give a file, what `load_checkpoint` "
            "returned, or a function of the task"
        )
    path = None if checkpoint is None else Path(checkpoint)
    return LoadedOnce(path, torch.device(fastest_device() if device is None else device))


class LoadedOnce:
    """Weights for tasks, read when they are first needed, and once.

    Args:
        path: for all tasks; None for the bundled ones.
        device: where they are to run.
    """

    def __init__(self, path: Path | None, device: torch.device):
        self.path, self.device = path, device
        self.loaded: dict[Path, Model] = {}
        self.lock = threading.Lock()

    def path_for(self, task: Task) -> Path:
        """Returns the file of a task's weights."""
        return self.path or bundled(bundled_variant(task))

    def __call__(self, task: Task) -> Model:
        """Reads the weights for a task; of the bundled ones, those of its second network, too.

        Raises:
            CheckpointError: they cannot be read.
        """
        with self.lock:
            model = self.load(task)
            if self.path is None:
                add_deblurrer(model, task, self.load)
            return model

    def load(self, task: Task) -> Model:
        """Reads the weights for a task, if that was not done before."""
        path = self.path_for(task)
        if path not in self.loaded:
            with torch.inference_mode(False):  # weights made in this mode could not be changed
                self.loaded[path] = moved(load_checkpoint(path), self.device)
        return self.loaded[path]


def add_deblurrer(model: Model, task: Task, load: Callable[[Task], Model]) -> None:
    """Attaches to a bundled network the other one that a task needs; see `TaskSpec.deblurred`.

    Who brings weights of their own gets what these do, and nothing else.
    """
    generator, spec = generator_of(model), TASK_SPECS[task]
    if spec.deblurred and facts_of(generator).deblurrer is None:
        generator.facts = replace(facts_of(generator), deblurrer=load("deblur"))


def moved(model: Model, device: torch.device) -> Model:
    """Moves a network to a device."""
    generator_of(model).to(device)
    return model


def fastest_device() -> torch.device:
    """Returns the fastest device of this machine: the first GPU, if there is one."""
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
