"""DEvUDP Restore: the node that most people need."""

from __future__ import annotations

from comfy_api.latest import io  # pyright: ignore[reportMissingImports]
from torch import Tensor

from ..devudp_model.engine.precision import Precision
from ..devudp_model.restoring.options import Statistics
from ..devudp_model.restoring.tasks import Task
from .host import intermediate_device, intermediate_dtype, make, show_text
from .images import check_image, clean_mask
from .inputs import (
    ALIASES,
    CATEGORY,
    SHOWS_WHAT_IT_DID,
    ChecksCheckpoint,
    checkpoint_input,
    denoise_input,
    exposure_input,
    make_options,
    precision_input,
    statistics_input,
    strength_input,
    task_input,
)
from .previews import before_and_after
from .restore_chosen import restore_chosen

EMPTY_MASK = (
    "The mask is black everywhere, so the image stays as it is. (Load Image gives such a mask for "
    "a file without transparent areas.) Paint a mask, or disconnect it to restore the whole image."
)


class DEvUDPRestore(ChecksCheckpoint, io.ComfyNode):
    """Deblurs photographs and corrects their exposure. Needs no loader."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make(
            io.Schema,
            node_id="DEvUDPRestore",
            display_name="DEvUDP Restore: deblur, dark, exposure",
            category=CATEGORY,
            description=(
                "Removes blur from photographs and corrects their exposure, in one go. The image "
                "keeps its size and transparency."
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
                denoise_input(),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The restored images.")],
            newer={
                "search_aliases": ALIASES,
                **SHOWS_WHAT_IT_DID,
            },
        )

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
        denoise: float = 1.0,
    ) -> io.NodeOutput:
        check_image(image)
        options = make_options(task, strength, exposure, precision, statistics, denoise)
        cleaned = clean_mask(mask, len(image))
        text = EMPTY_MASK if cleaned is not None and not cleaned.any() else ""
        if text:
            result = image.to(intermediate_device(), intermediate_dtype())
        else:
            result, text = restore_chosen(image, task, checkpoint, options, cleaned)
        if text:
            show_text(text)
        shown = before_and_after(image, result)
        return io.NodeOutput(result, ui={**shown, **({"text": (text,)} if text else {})})
