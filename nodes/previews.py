"""Before and after, small, in the host's temporary folder: for the view on the node."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path
from typing import Any

import folder_paths  # pyright: ignore[reportMissingImports]
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .images import channels_first

log = logging.getLogger("devudp")

MOST_PIXELS = 1024
"""Of the long side: the view is small, and large files would take longer than the restoring."""


def before_and_after(before: Tensor, after: Tensor) -> dict[str, Any]:
    """What the host's own compare node shows, `a_images` and `b_images`: of a batch the first."""
    if not len(after):
        return {}
    name = f"devudp_{secrets.token_hex(4)}"
    try:
        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        pairs = (("a_images", before), ("b_images", after))
        return {key: [save(image, folder, f"{name}_{key[0]}.jpg")] for key, image in pairs}
    except OSError as error:  # a view is not worth a failure
        log.warning("DEvUDP: no preview, %s", error)
        return {}


def save(image: Tensor, folder: Path, name: str) -> dict[str, str]:
    """IMAGE B,H,W,C as the host's page wants to be told of it."""
    small = channels_first(image[:1, ..., :3]).float().cpu()
    scale = -(-max(small.shape[2:]) // MOST_PIXELS)
    small = F.avg_pool2d(small, scale, ceil_mode=True, count_include_pad=False)
    pixels = (small[0].nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
    array = pixels.expand(3, -1, -1).permute(1, 2, 0).numpy()
    Image.fromarray(array).save(folder / name, quality=90)
    return {"filename": name, "subfolder": "", "type": "temp"}
