"""Keeps what is known of a generator beside its weights: from its checkpoint, for restoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..engine.precision import Difference, Precision
from ..network.generator import Generator
from .scene import SceneModel


class HasGenerator(Protocol):
    """A checkpoint, or a network in the engine."""

    @property
    def generator(self) -> Generator: ...


Model = Generator | HasGenerator
"""What can restore."""


def generator_of(model: Model) -> Generator:
    """Returns a checkpoint's generator, or the generator itself."""
    return model if isinstance(model, Generator) else model.generator


@dataclass(frozen=True)
class Facts:
    """Holds what was fitted to a generator and measured of it.

    Attributes:
        scene: how bright results should be; None where that was not fitted.
        measured: what 16 and 8 bits change, see engine/precision.py.
        deblurrer: what has a second generator, without whole-image statistics, that removes the
            blur which this one leaves; see `TaskSpec.deblurred`. `task_weights.py` attaches it.
    """

    scene: SceneModel | None = None
    measured: Mapping[Precision, Difference] = field(default_factory=dict)
    deblurrer: Model | None = None


def facts_of(generator: Generator) -> Facts:
    """Returns what `load_checkpoint` attached to a generator; nothing for one made otherwise."""
    return generator.facts or Facts()
