"""Runs the network on whole images as the options say: coarser scales first, a second network
after it, or a working size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bands.rows import AnyImage, in_bands, less_bytes, new_image, read_rows, write_rows
from ..engine.network import Network
from ..engine.precision import choose_dtype
from ..network.generator import Generator
from ..ops.dtypes import to_colour, to_unit
from .coarse_to_fine import add_change, coarse_to_fine, scales_for, smaller, where_blurred
from .facts import facts_of, generator_of
from .tasks import TASK_SPECS
from .working_size import run_smaller, working_shape

if TYPE_CHECKING:
    from .options import Options

HALF = 2
"""The image that a second network deblurs is smaller by this factor: there, long blur is short,
what is left of the noise is less, and it takes a quarter of the time."""


def run_network(
    network: Network[Generator],
    image: Tensor,
    options: Options,
    memory: int | None,
    out: AnyImage,
    *,
    weights: Tensor | None = None,
    check: bool = True,
    freeze: bool = False,
) -> None:
    """Writes the model's images of B,C,H,W to `out`, B,3,H,W.

    Args:
        memory: limit in bytes; None for none.
        weights, check, freeze: as of `Network`.
    """

    def run(small: AnyImage, memory: int | None, out: AnyImage) -> None:
        given, memory = network_input(network, small, options, memory)
        network(given, memory=memory, out=out, check=check, freeze=freeze, weights=counted)
        if is_deblurred(network.generator, out.shape[2], out.shape[3], options):
            deblur(network, out, options, memory)

    height, width = image.shape[2:]
    size = working_shape(height, width, options.working_size)
    counted = weights
    if size is None:
        run(image, memory, out)
    else:
        if weights is not None:
            counted = F.interpolate(to_unit(weights), size, mode="bilinear", antialias=True)
        shortcut = network.generator.shortcut
        run_smaller(run, image, size, out, memory, keeps_exposure=shortcut, weights=weights)


def pixels_to_do(height: int, width: int, generator: Generator, options: Options) -> float:
    """Returns the pixels that the network works through for an image, smaller versions included."""
    height, width = working_shape(height, width, options.working_size) or (height, width)
    scales = all_scales(height, width, generator, options)
    return height * width * sum(1 / scale**2 for scale in scales)


def all_scales(height: int, width: int, generator: Generator, options: Options) -> tuple[int, ...]:
    """Returns by which factors the images are smaller that a network works through, one after the
    other: 1 for the image itself."""
    before = coarse_scales(generator.norm == "instance", height, width, options)
    after = (HALF,) if is_deblurred(generator, height, width, options) else ()
    return (*before, 1, *after)


def is_deblurred(generator: Generator, height: int, width: int, options: Options) -> bool:
    """True if a second network deblurs what this one makes of an image of this size."""
    wanted = TASK_SPECS[options.task].deblurred and options.coarse
    large_enough = HALF in scales_for(height, width)
    return wanted and large_enough and facts_of(generator).deblurrer is not None


def deblur(
    network: Network[Generator], image: AnyImage, options: Options, memory: int | None
) -> None:
    """Removes blur from what a network has made of images, B,3,H,W, in place.

    Blur and darkness at once are more than one network of this size removes: what is left of the
    blur is seen in a bright image with little noise, on which the network of `deblur` was trained.
    """
    second = facts_of(network.generator).deblurrer
    assert second is not None
    generator = generator_of(second)
    if next(generator.parameters()).device != network.device:
        with torch.inference_mode(False):  # else changes of its weights would not be counted
            generator.to(network.device)
    measured = facts_of(generator).measured
    dtype = choose_dtype(options.precision, network.device, measured)
    own = network.beside(generator, dtype).for_smaller_images(HALF)
    if memory is not None:  # the first network's weights stay
        memory = max(memory - network.nbytes, 1)

    def allocate(shape: torch.Size) -> AnyImage:
        return new_image(shape, network.device, memory)[0]

    def run(small: AnyImage) -> AnyImage:
        output, rest = new_image(small.shape, network.device, less_bytes(memory, small))
        return own(small, memory=rest, out=output)

    small = smaller(image, HALF, allocate)
    add_change(image, small, where_blurred(run)(small), HALF, balance=True)


def coarse_scales(standardized: bool, height: int, width: int, options: Options) -> tuple[int, ...]:
    """The factors of the smaller versions of an image that are restored first; none for networks
    with statistics of the whole image (`standardized`)."""
    wanted = TASK_SPECS[options.task].coarse_to_fine and options.coarse and not standardized
    return scales_for(height, width) if wanted else ()


def network_input(
    network: Network[Generator],
    image: AnyImage,
    options: Options,
    memory: int | None,
    *,
    in_file: bool = True,
) -> tuple[AnyImage, int | None]:
    """Returns the network's input for whole images, B,C,H,W: these, or what coarser scales make.

    Args:
        memory: limit in bytes.
        in_file: whether it may lie in a temporary file, where the limit is low.

    Returns:
        The images, and what they leave of the limit.
    """
    height, width = image.shape[2:]
    scales = coarse_scales(network.standardized, height, width, options)
    if not scales:
        return image, memory
    shape = torch.Size((image.shape[0], 3, height, width))
    if in_file:
        given, left = new_image(shape, network.device, memory)
    else:
        given = torch.empty(shape, device=network.device)
        left = less_bytes(memory, given)

    def copy(frame: int, start: int, stop: int) -> None:
        rows = to_colour(read_rows(image, frame, start, stop), given.device)
        write_rows(given, frame, start, rows)

    in_bands(copy, image)

    def allocate(shape: torch.Size) -> AnyImage:
        return new_image(shape, network.device, left)[0]

    for scale in scales:
        own = network.for_smaller_images(scale)

        def run(small: AnyImage, own: Network[Generator] = own) -> AnyImage:
            output, rest = new_image(small.shape, network.device, less_bytes(left, small))
            return own(small, memory=rest, out=output, check=own is not network)

        coarse_to_fine(where_blurred(run), given, (scale,), allocate)
    return given, left
