"""A network made local: pieces of an image, restored as they come out of the whole.

Every statistic is taken from the whole image (or from a video) first, and kept.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from .engine.network import Network
from .generator import STRIDE, Generator
from .restore import (
    Networks,
    Options,
    check_image,
    from_coarser_scales,
    from_colour,
    limit_less_a_copy,
    limit_less_coarse_input,
    match_images,
    to_colour,
)
from .tasks import Affine, Match, apply_task, reach


class FrozenRestorer(nn.Module):
    """Restores pieces of one image as they come out of the whole: see `freeze`.

    Attributes:
        overlap: pixels around a piece that its result depends on, a multiple of `STRIDE`.
    """

    def __init__(self, network: Network, options: Options, matched: Match):
        super().__init__()
        self.network, self.options, self.matched = network, options, matched
        radius = receptive_radius(self.network.depth) + reach(options.task)
        self.overlap = -(-radius // STRIDE) * STRIDE

    @torch.inference_mode()
    def coarser(self, image: Tensor) -> Tensor:
        """What coarser scales make of a whole image, 1,C,H,W, for `forward` of its pieces."""
        run = partial(self.network, memory=limit_less_a_copy(self.options.memory, image))
        return from_coarser_scales(run, self.network, image, self.options)

    @torch.inference_mode()
    def forward(self, image: Tensor, given: Tensor | None = None) -> Tensor:
        """B,C,h,w in [0, 1], C = 1, 3 or 4, to the same.

        `given`: of a piece, that piece of `coarser` of the whole; None if `image` is a whole
        image.
        """
        device = self.network.device
        given = self.coarser(image) if given is None else given
        memory = self.options.memory
        memory = memory if given is image else limit_less_a_copy(memory, image)
        output = self.network(given, memory=memory)
        exposure, floor = self.matched.exposure, self.matched.floor
        matched = self.matched._replace(
            exposure=None if exposure is None else Affine(*(x.to(device) for x in exposure)),
            floor=floor.to(device),
        )
        task, strength = self.options.task, self.options.strength
        restored = apply_task(to_colour(image, device), output, task, matched, strength=strength)
        result = image.clone()
        colours = result[:, :3]
        colours.copy_(from_colour(restored, colours.shape[1]))
        return result


def freeze(generator: Generator, image: Tensor, options: Options | None = None) -> FrozenRestorer:
    """A local network for pieces of `image`: every statistic is that of the whole image.

    Pieces whose corners lie on multiples of `STRIDE` pixels, cut with `.overlap` pixels around
    them, come out as they do in `restore` of the whole image, if they are given what coarser scales
    make of it (`FrozenRestorer.coarser`, or `freeze_with_given`).

    Args:
        generator: runs on the device it is on.
        image: 1,C,H,W in [0, 1], the image whose statistics are kept; of several, B,C,H,W, they
            are the common ones, as for `restore` with `shared` statistics.
        options: task, strength, exposure, precision and memory.

    Raises:
        ValueError, FloatingPointError: as `restore`.
    """
    return freeze_with_given(generator, image, options or Options())[0]


@torch.inference_mode()
def freeze_with_given(
    generator: Generator, image: Tensor, options: Options
) -> tuple[FrozenRestorer, Tensor]:
    """`freeze`, and what coarser scales made of the images, for `FrozenRestorer.forward`."""
    check_image(image)
    networks = Networks(generator, options.precision)
    memory = limit_less_coarse_input(options.memory, networks.network, image, options)
    run = partial(networks.run, memory=memory)
    given = from_coarser_scales(run, networks.network, image, options)
    output = run(given, keep=True)
    matched = match_images(image, output, options, generator.shortcut)
    return FrozenRestorer(networks.network, options, matched), given


def receptive_radius(depth: int) -> int:
    """How many pixels around a pixel the network looks at, its statistics apart.

    Each 3x3 convolution reaches one pixel of its scale further, stem and head three; and the pixel
    may lie anywhere in its cell of `STRIDE` pixels at the coarsest scale. 71 with depth 2.
    """
    fine = 3 + 2 * depth + 1 + 1 + 2 * depth + 3  # stem, blocks, down1, up1, blocks, head
    middle = 2 * depth + 1 + 1 + 2 * depth  # blocks, down2, up2, blocks
    coarse = 4 * depth
    return fine + 2 * middle + 4 * coarse + STRIDE - 1
