"""What several nodes share: the category, their inputs, and what becomes of these."""

from __future__ import annotations

from comfy_api.latest import io  # pyright: ignore[reportMissingImports]

from ..devudp_model.restoration import PRECISIONS, STATISTICS, Options, Precision, Statistics
from ..devudp_model.tasks import DEFAULT_TASK, ROWS, TASK_SPECS, TASKS, Task, describe_tasks
from . import checkpoints
from .host import make

CATEGORY = "image/restoration"

FIXED = " or ".join(spec.name for spec in ROWS if spec.exposure_is_fixed)
"""The tasks whose exposure cannot be chosen."""


def task_input() -> io.Combo.Input:
    return io.Combo.Input(
        "task",
        options=list(TASKS),
        default=DEFAULT_TASK,
        tooltip=f"{describe_tasks()}.",
    )


def checkpoint_input() -> io.Combo.Input:
    return io.Combo.Input(
        "checkpoint",
        options=checkpoints.choices(),
        default=checkpoints.BUNDLED,
        tooltip=(
            "The weights. bundled: those that come with the pack, chosen by the task. Put your own "
            ".safetensors files into models/devudp."
        ),
    )


def strength_input() -> io.Float.Input:
    return io.Float.Input(
        "strength",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.05,
        tooltip="How much of the restored image to take. 0: the image as it was.",
    )


def exposure_input() -> io.Float.Input:
    return io.Float.Input(
        "exposure",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.05,
        tooltip=(
            "How much of the new exposure to take. 0: the image's own brightness and contrast. "
            f"The task {FIXED} keeps the image's own in any case."
        ),
    )


def precision_input() -> io.Combo.Input:
    return make(
        io.Combo.Input,
        "precision",
        options=list(PRECISIONS),
        default="auto",
        tooltip=(
            "The numbers to compute with. auto: what suits the device. bf16 and fp16 are faster on "
            "a GPU; whatever fp16 cannot hold is computed again in fp32."
        ),
        newer={"advanced": True},
    )


def statistics_input() -> io.Combo.Input:
    return make(
        io.Combo.Input,
        "statistics",
        options=list(STATISTICS),
        default="each image",
        tooltip=(
            "each image: every image on its own. shared: one common measure for the whole batch, "
            "so that the frames of a video do not flicker."
        ),
        newer={"advanced": True},
    )


def make_options(
    task: Task,
    strength: float,
    exposure: float,
    precision: Precision,
    statistics: Statistics = "each image",
) -> Options:
    """The widgets' values as the library's options; a full exposure is the task's own."""
    own = TASK_SPECS[task].exposure_is_fixed or exposure >= 1
    return Options(
        task=task,
        strength=strength,
        exposure=None if own else exposure,
        precision=precision,
        statistics=statistics,
    )


def check_choices(
    checkpoint: str | None, **choices: tuple[str | None, tuple[str, ...]]
) -> bool | str:
    """What `validate_inputs` returns: True, or what is wrong (the host does not look itself).

    Args:
        checkpoint: as chosen.
        choices: a value and what it may be, by the widget's name; None comes from another node.
    """
    for name, (value, known) in choices.items():
        if value is not None and value not in known:
            return f"{name} is {value!r}: choose one of {', '.join(known)}"
    return checkpoints.problem(checkpoint) or True
