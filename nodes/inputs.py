"""Defines what several nodes share: the category, their inputs, what becomes of these."""

from __future__ import annotations

from comfy_api.latest import io  # pyright: ignore[reportMissingImports]

from ..devudp_model.engine.precision import PRECISIONS, Precision
from ..devudp_model.restoring.auto import AUTO
from ..devudp_model.restoring.options import STATISTICS, Options, Statistics
from ..devudp_model.restoring.tasks import (
    DEFAULT_TASK,
    MAX_DENOISE,
    ROWS,
    TASK_SPECS,
    TASKS,
    Task,
    describe_tasks,
)
from . import checkpoints
from .host import make

CATEGORY = "image/restoration"

SHOWS_WHAT_IT_DID = {"has_intermediate_output": True}
"""Newer hosts send the text and the comparison again to a page that was reloaded."""

ALIASES = [
    *("deblur", "unblur", "unblur photo", "motion blur", "camera shake", "shaky", "sharpen"),
    *("low light", "night", "dark", "underexposed", "brighten", "denoise", "noise"),
    *("restoration", "restore photo", "fix photo"),
]
"""Words that newer hosts find the nodes by: what is wrong with an image, and what helps."""

FIXED = " or ".join(spec.name for spec in ROWS if spec.exposure_is_fixed)
"""The tasks whose exposure cannot be chosen."""

SMOOTH = " or ".join(spec.name for spec in ROWS if not spec.detail)
"""The tasks that keep no detail of the image's own."""


def task_input() -> io.Combo.Input:
    return io.Combo.Input(
        "task",
        options=[AUTO, *TASKS],
        default=AUTO,
        tooltip=f"{AUTO}: pick the task for each image, or leave it alone. {describe_tasks()}.",
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


def slider(name: str, tooltip: str, most: float = 1.0, **others: bool) -> io.Float.Input:
    """Returns a number from 0 to `most`, usually 1."""
    display = getattr(getattr(io, "NumberDisplay", None), "slider", None)
    return make(
        io.Float.Input,
        name,
        default=1.0,
        min=0.0,
        max=most,
        step=0.05,
        tooltip=tooltip,
        **others,
        newer={"display_mode": display} if display is not None else {},
    )


def strength_input() -> io.Float.Input:
    return slider("strength", "How much of the restored image to mix in. 0: the original image.")


def exposure_input() -> io.Float.Input:
    return slider(
        "exposure",
        "How much of the new exposure to apply. 0: the image's own brightness and contrast. "
        f"No effect on the task {FIXED}, which keeps them.",
    )


def denoise_input() -> io.Float.Input:
    """Came after the first release: the last input, and optional, so that workflows without it run,
    those in the API's format too."""
    return slider(
        "denoise",
        "How much noise to remove, and with it fine detail. 1: as much as the task usually "
        f"removes. 0: none. 2: as smooth as the network makes it. No effect on the task {SMOOTH}.",
        most=MAX_DENOISE,
        optional=True,
    )


def precision_input() -> io.Combo.Input:
    return make(
        io.Combo.Input,
        "precision",
        options=[name for name in PRECISIONS if name != "int8"],
        default="auto",
        tooltip=(
            "The number format to compute in. auto: what suits the device. bf16 and fp16 are "
            "faster on a GPU; values too large for fp16 are computed again in fp32."
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
            "each image: measure every image on its own. shared: measure the whole batch together, "
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
    denoise: float = 1.0,
) -> Options:
    """Returns the widgets' values as the library's options; a full exposure is the task's own.

    The task auto becomes another one later, image by image.
    """
    task = DEFAULT_TASK if task == AUTO else task
    own = TASK_SPECS[task].exposure_is_fixed or exposure >= 1
    return Options(
        task=task,
        strength=strength,
        exposure=None if own else exposure,
        denoise=denoise,
        precision=precision,
        statistics=statistics,
    )


class ChecksCheckpoint:
    """Tells the host of nodes with `checkpoint_input`; before io.ComfyNode among the bases."""

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        """True, or what is wrong; for the checkpoint only: the host repeats the answer for every
        argument named here, and looks at the other choices itself."""
        return checkpoints.problem(checkpoint) or True

    @classmethod
    def fingerprint_inputs(
        cls, checkpoint: str | None = None, task: Task | None = None, **others: object
    ) -> str:
        """Another one once the file of the weights is another one."""
        return checkpoints.fingerprint(checkpoint, task)
