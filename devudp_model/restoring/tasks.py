"""The tasks: one row of `TASKS` each. To add a task, add a row (and a test in tests/model).

The command line's choices and help and the nodes' widgets are made from this table. `compose.py`
runs a task. Nothing of torch is imported here, so that `devudp --help` is quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ..network.generator import Variant
    from ..ops.filters import FilterName

Task = str
"""The name of a task: a key of `TASK_SPECS`."""

Degradation = Literal["blur", "darkness"]
"""Of photos; noise comes with each."""

MAX_DENOISE = 2.0
"""The largest `Options.denoise`: all detail is the model's."""


@dataclass(frozen=True)
class TaskSpec:
    """Says what a task takes from the input and what from the model.

    Attributes:
        name: as in `Options.task` and in saved workflows.
        variant: the bundled weights that serve it best.
        exposure: the default, 0 for the input's exposure, 1 for the model's.
        exposure_is_fixed: the nodes ignore their exposure input.
        detail: the share of the detail that is the input's own (0..1).
        detail_with_shortcut: the same for a generator with the global shortcut, which keeps the
            input's detail by itself.
        before: filters of the model's image, before detail and exposure are matched.
        bounds: the same, only for a generator that keeps the input's exposure (shortcut).
        exposed: filters of the result with the scene's exposure.
        after: filters of the result.
        coarse_to_fine: restore smaller versions of the image first (see coarse_to_fine.py), where
            the generator allows it.
        deblurred: remove the blur that the generator leaves: by a second one, the bundled one of
            `deblur`, in a copy of the model's image at half the size.
        help: what it does, a few words for the command line's help and the nodes' tooltips.
        removes: what it takes away besides noise: validation degrades images by it.
    """

    name: Task
    variant: Variant
    exposure: float
    detail: float
    help: str
    detail_with_shortcut: float = 0.0
    exposure_is_fixed: bool = False
    before: tuple[FilterName, ...] = ()
    bounds: tuple[FilterName, ...] = ()
    exposed: tuple[FilterName, ...] = ()
    after: tuple[FilterName, ...] = ()
    coarse_to_fine: bool = False
    deblurred: bool = False
    removes: tuple[Degradation, ...] = ()

    @property
    def word(self) -> str:
        """Returns the name without spaces, for the command line and file names."""
        return self.name.replace(" ", "-")

    def exposure_for(self, shortcut: bool) -> float:
        """Returns the exposure where the user asks for none.

        A generator with the global shortcut keeps the input's exposure by itself. Matching it again
        would undo part of the restoration, since sharper images have a larger standard deviation.
        """
        return 1.0 if shortcut else self.exposure

    def detail_for(self, shortcut: bool) -> float:
        """Returns the share of the input's own detail."""
        return self.detail_with_shortcut if shortcut else self.detail

    def detail_at(self, denoise: float, shortcut: bool) -> float:
        """Returns the same for an `Options.denoise`: all at 0, this task's own at 1, none at 2.

        A task that takes all detail from the model has nothing to choose.
        """
        own = self.detail_for(shortcut)
        if not own:
            return 0.0
        return 1 - denoise * (1 - own) if denoise <= 1 else (2 - denoise) * own


ROWS = (
    TaskSpec(
        name="joint",
        variant="devudp",
        exposure=1.0,
        detail=0.58,
        before=("calm_fringes", "fill_dots", "sharpen"),
        exposed=("fill_rims", "own_colours"),
        after=("keep_white",),
        deblurred=True,
        help="remove blur and correct the exposure",
        removes=("blur", "darkness"),
    ),
    TaskSpec(
        name="deblur",
        variant="devudp-dt",
        exposure=0.0,
        exposure_is_fixed=True,
        detail=0.0,
        bounds=("calm_colours",),
        coarse_to_fine=True,
        help="remove blur, keep the exposure",
        removes=("blur",),
    ),
    TaskSpec(
        name="low light",
        variant="devudp",
        exposure=1.0,
        detail=0.7,
        detail_with_shortcut=1.0,
        before=("calm_fringes", "fill_dots"),
        exposed=("fill_rims", "own_colours"),
        after=("keep_white",),
        help="correct the exposure, keep most of the image's own detail",
        removes=("darkness",),
    ),
)

TASK_SPECS: dict[Task, TaskSpec] = {spec.name: spec for spec in ROWS}
TASKS: tuple[Task, ...] = tuple(TASK_SPECS)
DEFAULT_TASK: Task = TASKS[0]


def describe_tasks(separator: str = ". ", words: bool = False) -> str:
    """One line of help: every task's name and what it does."""
    return separator.join(f"{s.word if words else s.name}: {s.help}" for s in ROWS)


def task_of_word(word: str) -> Task:
    """Returns the task of a `TaskSpec.word` (or of its name).

    Raises:
        ValueError: there is none.
    """
    for spec in ROWS:
        if word in (spec.word, spec.name):
            return spec.name
    raise ValueError(f"unknown task {word!r}: choose one of {', '.join(TASKS)}")


def bundled_variant(task: Task) -> Variant:
    """Returns the variant whose bundled weights serve a task best."""
    return TASK_SPECS[task].variant
