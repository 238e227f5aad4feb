"""DEvUDP Restore: the node that most people need."""

from __future__ import annotations

from comfy_api.latest import io  # pyright: ignore[reportMissingImports]
from torch import Tensor

from ..devudp_model.restoration import PRECISIONS, STATISTICS, Precision, Statistics
from ..devudp_model.tasks import TASKS, Task
from . import checkpoints
from .host import make
from .images import clean_mask
from .inputs import (
    CATEGORY,
    check_choices,
    checkpoint_input,
    exposure_input,
    make_options,
    precision_input,
    statistics_input,
    strength_input,
    task_input,
)
from .run_on_host import restore_images


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
                "has the size of the image; transparency is kept."
            ),
            inputs=[
                io.Image.Input("image", tooltip="Photographs, or the frames of a video."),
                task_input(),
                checkpoint_input(),
                strength_input(),
                exposure_input(),
                precision_input(),
                statistics_input(),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Restore only where the mask is white. Any size; one mask, or one for each "
                        "image."
                    ),
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The restored images.")],
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
            restore_images(image, generator, options, clean_mask(mask, len(image)))
        )
