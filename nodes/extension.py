"""Gives the host the list of nodes."""

from __future__ import annotations

import logging
from pathlib import Path

from comfy_api.latest import ComfyExtension, io  # pyright: ignore[reportMissingImports]

from .checkpoints import register_folder
from .degrade import DEvUDPDegrade
from .measure import DEvUDPMeasure
from .restore import DEvUDPRestore
from .restore_video import DEvUDPRestoreVideo, is_possible
from .sample_images import copy_samples_once
from .upscale_model import DEvUDPLoadUpscaleModel, suggest_restore

log = logging.getLogger("devudp")


class DEvUDPExtension(ComfyExtension):
    """The nodes. Their ids, inputs and the inputs' order are frozen: workflows hold them."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_folder()  # here, not in on_load: the supported hosts never call that
        copy_samples_once()
        warn_of_spaces()
        await suggest_restore()
        nodes = [DEvUDPRestore, DEvUDPLoadUpscaleModel, DEvUDPDegrade, DEvUDPMeasure]
        return [*nodes, DEvUDPRestoreVideo] if is_possible() else nodes


def warn_of_spaces() -> None:
    """The host's web server does not find files of a pack whose folder has a space in its name."""
    folder = Path(__file__).resolve().parents[1]
    if any(char.isspace() for char in folder.name):
        log.warning(
            "=" * 78 + "\nDEvUDP: the folder %r has a space in its name. The nodes work, but "
            "ComfyUI cannot serve their help, templates and views (404). Stop ComfyUI, rename the "
            "folder to %r, and start it again.\n" + "=" * 78,
            str(folder),
            "-".join(folder.name.split()),
        )
