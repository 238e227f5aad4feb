"""DEvUDP as Upscale Model: for all nodes that take an UPSCALE_MODEL and cut pictures into tiles."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import torch
from comfy_api.latest import io  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn

from ..devudp_model.frozen import FrozenRestorer, freeze_with_given
from ..devudp_model.generator import STRIDE, Generator
from ..devudp_model.restore import PRECISIONS, Options, Precision
from ..devudp_model.tasks import TASKS, Task
from . import checkpoints, host
from .degrade import CATEGORY
from .host import make
from .images import channels_first
from .restore import (
    check_choices,
    checkpoint_input,
    exposure_input,
    make_options,
    precision_input,
    strength_input,
    task_input,
)
from .run_on_host import affordable, host_precision, with_less_memory
from .tiles import find_tile, with_context

logger = logging.getLogger("devudp")


class Networks(nn.Module):
    """The network as it was loaded, and frozen for one picture: what the host moves as a whole.

    Attributes:
        generator: our own copy, since the host marks what it moves.
        frozen: with the statistics of one picture.
        given: what coarser scales made of that picture: 1,C,H,W.
        taken_from: that picture's number, and the device that the statistics lie on.
    """

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = copy.deepcopy(generator)
        self.frozen: FrozenRestorer | None = None
        self.given: Tensor | None = None
        self.taken_from: tuple[int, torch.device] | None = None


class RestoringModel:
    """What the host's nodes call with one tile after the other, as if it enlarged pictures by 1.

    The network normalises over the whole picture, so a tile on its own would come out in another
    brightness. Therefore all statistics are taken from `pictures` beforehand. What is left looks
    `overlap` pixels far, and the host's tiles overlap by less: a tile that is found in `pictures`
    is restored with its surroundings and comes out exactly as in the whole picture. Other tiles (of
    a picture changed in between) are restored without, which can show at their borders.

    Attributes:
        scale: 1, the size stays.
        model: the networks, for the host to measure and to move.
        patcher: by which newer hosts load and move them.
    """

    scale = 1

    def __init__(self, generator: Generator, options: Options, pictures: Tensor | None):
        """pictures: B,3,H,W in [0, 1]; None only for a network without statistics (DEvUDP-DT)."""
        self.model = Networks(generator)
        self.patcher = host.patcher(self.model)
        self.options = options
        self.pictures = pictures
        self._warned = False

    def to(self, device: torch.device | str) -> RestoringModel:
        self.model.to(device)
        return self

    @torch.inference_mode()
    def __call__(self, tile: Tensor) -> Tensor:
        """1,C,h,w in [0, 1] to 1,3,h,w in [0, 1]."""
        tile = tile[:, :3]
        place = None if self.pictures is None else find_tile(tile, self.pictures)
        if self.pictures is None or place is None:
            self.warn()
            return self.frozen(0, tile)(tile, given=tile)
        network = self.frozen(place.picture, tile)
        picture = self.pictures[place.picture]
        context = with_context(place, tile, picture, network.overlap, STRIDE)
        wider = picture[None, :, context.rows, context.columns].to(tile.device, tile.dtype)
        given = self.model.given
        given = wider if given is None else given[..., context.rows, context.columns]
        return network(wider, given=given)[..., context.inner_rows, context.inner_columns]

    def frozen(self, number: int, tile: Tensor) -> FrozenRestorer:
        """The network with the statistics of picture `number`, on the tile's device."""
        networks = self.model.to(tile.device)
        if networks.frozen is None or networks.taken_from != (number, tile.device):
            networks.frozen = networks.given = None  # before the next ones are made
            if self.pictures is None:
                picture = torch.zeros_like(tile[:1])  # nothing is taken from it
            else:
                picture = self.pictures[number : number + 1].to(tile.device, tile.dtype)

            def run(memory: int) -> tuple[FrozenRestorer, Tensor]:
                bounded = replace(self.options, memory=memory)
                with host.cancellable():
                    return freeze_with_given(networks.generator, picture, bounded)

            made, _ = with_less_memory(run, tile.device, affordable(tile.device))
            networks.frozen, networks.given = made
            networks.taken_from = number, tile.device
        return networks.frozen

    def warn(self) -> None:
        if self.pictures is not None and not self._warned:
            self._warned = True
            logger.warning(
                "DEvUDP as Upscale Model: this picture is not the one connected to its input "
                "'image', so tiles are restored without their surroundings, and in that picture's "
                "exposure. Connect the very picture that is to be restored."
            )


class DEvUDPLoadUpscaleModel(io.ComfyNode):
    """Offers the restoration to every node that takes an UPSCALE_MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make(
            io.Schema,
            node_id="DEvUDPLoadUpscaleModel",
            display_name="DEvUDP as Upscale Model: unblur, sharpen",
            category=CATEGORY,
            description=(
                "Offers the restoration as an upscale model (of scale 1) to nodes that take one, "
                "like Upscale Image (using Model). Connect the same image here and there."
            ),
            inputs=[
                task_input(),
                checkpoint_input(),
                strength_input(),
                exposure_input(),
                precision_input(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip=(
                        "The pictures that are going to be restored. What the network has to know "
                        "of a whole picture is taken from here, so that tiles fit together. Only "
                        "the task deblur does without."
                    ),
                ),
            ],
            outputs=[
                io.UpscaleModel.Output(
                    display_name="upscale_model",
                    tooltip="For Upscale Image (using Model) and the like. The size stays.",
                )
            ],
            newer={"search_aliases": ["deblur", "restore", "upscale model"]},
        )

    @classmethod
    def validate_inputs(
        cls,
        checkpoint: str | None = None,
        task: str | None = None,
        precision: str | None = None,
    ) -> bool | str:
        return check_choices(checkpoint, task=(task, TASKS), precision=(precision, PRECISIONS))

    @classmethod
    def fingerprint_inputs(
        cls, checkpoint: str | None = None, task: Task | None = None, **others: object
    ) -> str:
        return checkpoints.fingerprint(checkpoint, task)

    @classmethod
    def execute(
        cls,
        task: Task,
        checkpoint: str,
        strength: float,
        exposure: float,
        precision: Precision,
        image: Tensor | None = None,
    ) -> io.NodeOutput:
        generator = checkpoints.load(checkpoint, task).generator
        options = make_options(task, strength, exposure, host_precision(precision))
        if image is None:
            options = without_picture(generator, options)
            return io.NodeOutput(RestoringModel(generator, options, None))
        return io.NodeOutput(RestoringModel(generator, options, channels_first(image[..., :3])))


def without_picture(generator: Generator, options: Options) -> Options:
    """The options for a network that needs no statistics.

    Raises:
        ValueError: this one, or this task, does.
    """
    if generator.variant == "devudp" or options.task == "low light":
        raise ValueError(
            "Connect the picture that is going to be restored to the input 'image' too: this "
            "checkpoint and task measure the whole picture, and tiles cannot show it. (The task "
            "deblur with the bundled checkpoint does without.)"
        )
    return replace(options, exposure=1.0)  # it keeps the exposure anyway; nothing to be matched
