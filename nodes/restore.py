"""DEvUDP Restore: the node that most people need."""

from __future__ import annotations

from comfy_api.latest import io  # pyright: ignore[reportMissingImports]
from torch import Tensor

from ..devudp_model.restore import (
    PRECISIONS,
    STATISTICS,
    Options,
    Precision,
    Statistics,
)
from ..devudp_model.tasks import TASKS, Task
from . import checkpoints
from .degrade import CATEGORY
from .host import make
from .images import clean_mask
from .run_on_host import restore_pictures


def task_input() -> io.Combo.Input:
    return io.Combo.Input(
        "task",
        options=list(TASKS),
        default="joint",
        tooltip=(
            "joint: remove blur and correct the exposure. deblur: remove blur, keep the exposure. "
            "low light: correct the exposure, keep the detail as it is."
        ),
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
        tooltip="How much of the restored picture to take. 0: the picture as it was.",
    )


def exposure_input() -> io.Float.Input:
    return io.Float.Input(
        "exposure",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.05,
        tooltip=(
            "How much of the new exposure to take. 0: the picture's own brightness and contrast. "
            "The task deblur keeps the picture's own in any case."
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


def make_options(
    task: Task,
    strength: float,
    exposure: float,
    precision: Precision,
    statistics: Statistics = "each image",
) -> Options:
    """The widgets' values as the library's options; a full exposure is the task's own."""
    own = task == "deblur" or exposure >= 1
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


class DEvUDPRestore(io.ComfyNode):
    """Deblurs photographs and corrects their exposure. Needs no loader."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make(
            io.Schema,
            node_id="DEvUDPRestore",
            display_name="DEvUDP Restore: deblur, dark, exposure",
            category=CATEGORY,
            description=(
                "Removes blur from photographs and corrects their exposure, in one go. The result "
                "has the size of the picture; transparency is kept."
            ),
            inputs=[
                io.Image.Input("image", tooltip="Photographs, or the frames of a video."),
                task_input(),
                checkpoint_input(),
                strength_input(),
                exposure_input(),
                precision_input(),
                make(
                    io.Combo.Input,
                    "statistics",
                    options=list(STATISTICS),
                    default="each image",
                    tooltip=(
                        "each image: every picture on its own. shared: one common measure for the "
                        "whole batch, so that the frames of a video do not flicker."
                    ),
                    newer={"advanced": True},
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Restore only where the mask is white. Any size; one mask, or one for each "
                        "picture."
                    ),
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The restored pictures.")],
            newer={
                "search_aliases": ["deblur", "sharpen", "low light", "unblur", "restore photo"],
            },
        )

    @classmethod
    def validate_inputs(
        cls,
        checkpoint: str | None = None,
        task: str | None = None,
        precision: str | None = None,
        statistics: str | None = None,
    ) -> bool | str:
        return check_choices(
            checkpoint,
            task=(task, TASKS),
            precision=(precision, PRECISIONS),
            statistics=(statistics, STATISTICS),
        )

    @classmethod
    def fingerprint_inputs(
        cls, checkpoint: str | None = None, task: Task | None = None, **others: object
    ) -> str:
        return checkpoints.fingerprint(checkpoint, task)

    @classmethod
    def execute(
        cls,
        image: Tensor,
        task: Task,
        checkpoint: str,
        strength: float,
        exposure: float,
        precision: Precision,
        statistics: Statistics,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        generator = checkpoints.load(checkpoint, task).generator
        options = make_options(task, strength, exposure, precision, statistics)
        return io.NodeOutput(
            restore_pictures(image, generator, options, clean_mask(mask, len(image)))
        )
