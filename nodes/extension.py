"""What the host gets: the list of nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io  # pyright: ignore[reportMissingImports]

from .checkpoints import register_folder
from .degrade import DEvUDPDegrade
from .measure import DEvUDPMeasure
from .restore import DEvUDPRestore
from .sample_images import copy_samples_once
from .upscale_model import DEvUDPLoadUpscaleModel


class DEvUDPExtension(ComfyExtension):
    """The four nodes. Their ids, inputs and the inputs' order are frozen: workflows hold them."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_folder()  # here, not in on_load: the supported hosts never call that
        copy_samples_once()
        return [DEvUDPRestore, DEvUDPLoadUpscaleModel, DEvUDPDegrade, DEvUDPMeasure]
