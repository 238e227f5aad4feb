"""DEvUDP as Upscale Model: for all nodes that take an UPSCALE_MODEL and cut images into tiles."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from comfy_api.latest import io  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn

from ..devudp_model.engine.layers import forget_layers
from ..devudp_model.engine.precision import Precision
from ..devudp_model.network.generator import STRIDE, Generator
from ..devudp_model.restorer import Restorer
from ..devudp_model.restoring.content import Region, within_frames
from ..devudp_model.restoring.facts import facts_of, generator_of
from ..devudp_model.restoring.frozen import FrozenRestorer
from ..devudp_model.restoring.options import Options
from ..devudp_model.restoring.tasks import TASK_SPECS, Task
from ..devudp_model.system.memory import attempts, first_limit
from . import checkpoints, host
from .host import make, show_text
from .images import channels_first, check_image
from .inputs import (
    CATEGORY,
    SHOWS_WHAT_IT_DID,
    ChecksCheckpoint,
    checkpoint_input,
    denoise_input,
    exposure_input,
    make_options,
    precision_input,
    strength_input,
    task_input,
)
from .restore_chosen import in_two_lines
from .run_on_host import host_precision
from .tiles import Place, find_tile, part_inside, with_context

logger = logging.getLogger("devudp")


NO_ALPHA = (
    "Transparency is lost: the node that takes the model carries three colour channels only. Use "
    "DEvUDP Restore to keep it."
)


class MovableNetworks(nn.Module):
    """The generator as loaded, and frozen for one image: what the host moves as a whole.

    Attributes:
        generator: our own copy, since the host marks what it moves.
        deblurrer: the second network of its facts, if there is one.
        frozen: with the statistics of one image.
        taken_from: that image's number, and the device that the statistics lie on.
    """

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = copy.deepcopy(generator)
        second = facts_of(self.generator).deblurrer
        self.deblurrer = None if second is None else generator_of(second)
        self.frozen: FrozenRestorer | None = None
        self.taken_from: tuple[int, torch.device] | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MovableNetworks:
        """Forgets what was packed of the generator for the device that it leaves."""
        before = self.generator.head.weight.device
        super()._apply(fn, recurse)
        if self.generator.head.weight.device != before:
            forget_layers(self.generator)
            if self.deblurrer is not None:
                forget_layers(self.deblurrer)
        return self


class TiledRestorer:
    """Restores one tile after the other for the host's nodes, as if it enlarged images by 1.

    The network normalises over the whole image, so a tile on its own would come out in another
    brightness. Therefore all statistics are taken from `images` beforehand. What is left looks
    `overlap` pixels far, and the host's tiles overlap by less: a tile that is found in `images`
    is restored with its surroundings and comes out as in the whole image. Other tiles (of
    an image changed in between) are restored without, which can show at their borders.

    Attributes:
        scale: 1, the size stays.
        model: the networks, for the host to measure and to move.
        patcher: by which newer hosts load and move them.
    """

    scale = 1

    def __init__(self, generator: Generator, options: Options, images: Tensor | None):
        """images: B,3,H,W in [0, 1]; None only for a network without statistics (DEvUDP-DT)."""
        self.model = MovableNetworks(generator)
        self.patcher = host.patcher(self.model)
        self.options = options
        self.images = images
        self.region = Region(0, 0, 0, 0)  # of the image that the statistics are of
        self._warned = False

    def to(self, device: torch.device | str) -> TiledRestorer:
        self.model.to(device)
        return self

    @torch.inference_mode()
    def __call__(self, tile: Tensor) -> Tensor:
        """1,C,h,w in [0, 1] to 1,3,h,w in [0, 1].

        Transparency cannot be carried through: the host's node has room for three channels only.
        """
        tile = tile[:, :3]
        if self.options.strength == 0:
            return tile.clone()
        place = None if self.images is None else find_tile(tile, self.images)
        if self.images is None or place is None:
            self.warn()
            return self.frozen(0, tile)(tile, given=tile)
        network = self.frozen(place.image, tile)
        restored, region = tile.clone(), self.region
        inside = part_inside(place, tile, region)
        inner = restored[..., inside.inner_rows, inside.inner_columns]
        if not inner.numel():  # all of it is frame
            return restored
        image = region.of(self.images[place.image])
        place = Place(place.image, inside.rows.start, inside.columns.start)
        context = with_context(place, inner, image, network.overlap, STRIDE)
        wider = image[None, :, context.rows, context.columns].to(tile.device, tile.dtype)
        given = network.given[..., context.rows, context.columns]
        inner.copy_(network(wider, given=given)[..., context.inner_rows, context.inner_columns])
        return restored

    def frozen(self, number: int, tile: Tensor) -> FrozenRestorer:
        """Returns the network with the statistics of image `number`, on the tile's device."""
        networks = self.model.to(tile.device)
        if networks.frozen is None or networks.taken_from != (number, tile.device):
            networks.frozen = None  # before the next one is made
            if self.images is None:
                image = torch.zeros_like(tile[:1])  # nothing is taken from it
            else:
                image = self.images[number : number + 1]
                self.region = within_frames(image)
                image = self.region.of(image).to(tile.device, tile.dtype)

            limit = first_limit(host.free_bytes(tile.device))
            for attempt in attempts(tile.device, limit, host.MEMORY):
                with attempt, host.cancellable():
                    bounded = replace(self.options, memory=attempt.limit)
                    networks.frozen = FrozenRestorer(networks.generator, image, bounded)
            networks.taken_from = number, tile.device
        assert networks.frozen is not None
        return networks.frozen

    def warn(self) -> None:
        if self.images is not None and not self._warned:
            self._warned = True
            text = (
                "DEvUDP as Upscale Model: this image is not the one connected to its input "
                "'image', so tiles are restored without their surroundings and with that image's "
                "exposure: the result may be black. Connect the same image to both nodes."
            )
            logger.warning(text)
            show_text(text)


class DEvUDPLoadUpscaleModel(ChecksCheckpoint, io.ComfyNode):
    """Offers the restoration to every node that takes an UPSCALE_MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make(
            io.Schema,
            node_id="DEvUDPLoadUpscaleModel",
            display_name="DEvUDP as Upscale Model: unblur, sharpen",
            category=CATEGORY,
            description=(
                "Offers the restoration as an upscale model (scale 1) to nodes that take one, such "
                "as Upscale Image (using Model). Connect the same image to both nodes."
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
                        "The images to restore. The network measures the whole image here, so that "
                        "the tiles match. Only the task deblur works without it."
                    ),
                ),
                denoise_input(),
            ],
            outputs=[
                io.UpscaleModel.Output(
                    display_name="upscale_model",
                    tooltip="For Upscale Image (using Model) and the like. The size stays.",
                )
            ],
            newer={
                "search_aliases": ["upscale model"],
                "is_deprecated": True,
                **SHOWS_WHAT_IT_DID,
            },
        )

    @classmethod
    def execute(
        cls,
        task: Task,
        checkpoint: str,
        strength: float,
        exposure: float,
        precision: Precision,
        image: Tensor | None = None,
        denoise: float = 1.0,
    ) -> io.NodeOutput:
        precision = host_precision(precision)
        options = make_options(task, strength, exposure, precision, denoise=denoise)
        told = ""
        if image is not None:
            check_image(image, may_be_empty=False)
            told = NO_ALPHA if image.shape[3] == 4 else ""
            image = channels_first(image[..., :3])
        restorer = Restorer(partial(checkpoints.load, checkpoint), task, options)
        options = options_for_tiles(restorer, image)
        told = f"{in_two_lines(restorer.reason)}\n{told}".strip()
        if told:
            show_text(told)
        generator = generator_of(restorer.weights(options.task))
        if image is None:
            options = without_image(generator, options)
        model = TiledRestorer(generator, options, image)
        return io.NodeOutput(model, ui={"text": (told,)} if told else None)


async def suggest_restore() -> None:
    """Names DEvUDP Restore, before or after the upscaler, as what takes this node's place.

    The host uses that where this node is missing; as long as it is here, saved workflows run on.
    """
    widgets = ["task", "checkpoint", "strength", "exposure", "precision"]
    inputs = [*widgets, "image"]  # the host refuses a prompt without one of these: no "denoise"
    await host.suggest_instead(
        "DEvUDPLoadUpscaleModel", "DEvUDPRestore", [*widgets, "denoise"], inputs
    )


def options_for_tiles(restorer: Restorer, image: Tensor | None) -> Options:
    """Returns what B,C,H,W needs, strength 0 where it needs nothing.

    Raises:
        ValueError: that is to be found out, and there is no image.
    """
    if image is None and restorer.auto:
        raise ValueError(
            "The task auto measures the image: connect the image to restore to the input 'image' "
            "too, or choose the task deblur, which works without it."
        )
    found = restorer.options if image is None else restorer.decide(image)
    return found or replace(restorer.options, strength=0.0)


def without_image(generator: Generator, options: Options) -> Options:
    """Returns the options for a network that needs no statistics.

    Raises:
        ValueError: this one, or this task, does.
    """
    if generator.variant == "devudp" or TASK_SPECS[options.task].detail_with_shortcut:
        raise ValueError(
            "Connect the image to restore to the input 'image' too: this checkpoint and task "
            "measure the whole image, which tiles do not show. (The task deblur with the bundled "
            "checkpoint works without it.)"
        )
    return replace(options, exposure=1.0)  # it keeps the exposure anyway; nothing to be matched
