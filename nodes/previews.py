"""Small images for the view on the node: before and after, and, while it works, what is done."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ref

import folder_paths  # pyright: ignore[reportMissingImports]
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..devudp_model.engine.hooks import Finished, hooked
from ..devudp_model.network.generator import Generator
from ..devudp_model.ops.dtypes import from_unit
from ..devudp_model.restoring.options import Options
from ..devudp_model.restoring.progress import ImageProgress
from ..devudp_model.restoring.restoration import restore
from ..devudp_model.restoring.tasks import TASK_SPECS
from .host import PREVIEW_PIXELS, Report
from .images import channels_first

log = logging.getLogger("devudp")

MAX_PIXELS = 1024
"""Of the long side: the view is small, and large files would take longer than the restoring."""

QUICK = 4
"""A first look is restored at least so many times smaller: for a sixteenth of the time."""

QUICK_PIXELS = 384
"""Of its long side, at the most."""

MIN_SIDE = 64
"""Of its short side: smaller ones look like something else, and are done soon anyway."""


class VisibleProgress(ImageProgress):
    """Progress on the node, with a preview: what is finished of the image that is in work, in place
    of the same part of what was shown before.

    On a GPU it is done before anybody has looked, so there is no preview.

    Args:
        report: the node's progress bar.
        is_plain: whether to show the images as they are first, and not a quick look at how they are
            going to be.

    Attributes:
        canvas: what is shown, 1,C,h,w in [0, 1]; None for no preview.
    """

    def __init__(self, report: Report, is_plain: Callable[[], bool]):
        super().__init__(self.tell)
        self.bar, self.is_plain = report, is_plain
        self.canvas: Tensor | None = None
        self.shown: Tensor | None = None
        self.looked_at: tuple[ref[Generator], Options] | None = None

    def start(self, image: Tensor, generator: Generator, options: Options) -> None:
        """Shows something at once where another task begins."""
        super().start(image, generator, options)
        if next(generator.parameters()).device.type != "cpu":
            self.canvas = None
        elif self.looked_at != (ref(generator), options):
            self.looked_at = ref(generator), options
            plain, first = self.is_plain(), image[:1]
            self.canvas = (
                shrink(first, PREVIEW_PIXELS) if plain else first_look(first, generator, options)
            )
            self.tell(self.images)

    def tell(self, done: float) -> None:
        """Images done, and the preview if it is another one than the last."""
        new = None if self.canvas is self.shown else self.canvas
        self.shown = self.canvas
        self.bar(done, None if new is None else as_pil(new))

    @property
    def finished(self) -> Finished:
        """Shows rows of a result; for `hooked`."""
        return self.show

    def show(self, rows: Tensor, start: int, height: int) -> None:
        """Puts rows of a result in place of what was shown before."""
        if self.canvas is None:
            return
        size = self.canvas.shape[2:]
        top, bottom = (at * size[0] // height for at in (start, start + rows.shape[2]))
        if bottom > top:
            small = F.interpolate(rows[:, :3].float().cpu(), (bottom - top, size[1]), mode="area")
            self.canvas = self.canvas.clone()
            self.canvas[:, :, top:bottom] = small
        self.advance(0)


def first_look(image: Tensor, generator: Generator, options: Options) -> Tensor:
    """About how 1,C,H,W is going to look, as large as a preview.

    It is restored at a small size, which shows the new exposure; blur cannot be seen there. Where
    that would take too long, or shows nothing, it is the image as it is.
    """
    canvas = shrink(image, PREVIEW_PIXELS)
    scale = max(QUICK, -(-max(image.shape[2:]) // QUICK_PIXELS))
    if TASK_SPECS[options.task].exposure_is_fixed or min(image.shape[2:]) < scale * MIN_SIDE:
        return canvas
    small = F.avg_pool2d(image[:, :3].float(), scale)
    alone = replace(options, statistics="each image", memory=None)
    with hooked(), suppress(FloatingPointError):
        small = restore(small, generator, alone).cpu()
        canvas = F.interpolate(small, canvas.shape[2:], mode="bilinear")
    return canvas


def before_and_after(before: Tensor, after: Tensor) -> dict[str, Any]:
    """Gives the host's own compare node `a_images` and `b_images`: of a batch the first."""
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
    as_pil(shrink(channels_first(image[:1]), MAX_PIXELS)).save(folder / name, quality=90)
    return {"filename": name, "subfolder": "", "type": "temp"}


def shrink(image: Tensor, most: int) -> Tensor:
    """1,C,H,W without alpha, on the CPU, so that the long side has at most `most` pixels."""
    small = image[:, :3].float().cpu()
    scale = -(-max(small.shape[2:]) // most)
    return F.avg_pool2d(small, scale, ceil_mode=True, count_include_pad=False)


def as_pil(image: Tensor) -> Image.Image:
    """1,C,H,W in [0, 1] in 8 bits, grey in three channels."""
    pixels = from_unit(image[0].nan_to_num(), torch.uint8)
    return Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).numpy())
