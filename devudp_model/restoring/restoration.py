"""Restores images: a pure function from tensors to tensors.

In three lines:

    from devudp_model import Options, bundled, load_checkpoint, restore
    checkpoint = load_checkpoint(bundled("devudp"))
    sharp = restore(image, checkpoint, Options(strength=0.8))     # image: B,C,H,W in [0, 1]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..bands.rows import AnyImage, less_bytes, new_image
from ..bands.workers import working
from ..engine.hooks import current_hooks
from ..engine.network import Network
from ..engine.precision import Precision, choose_dtype
from ..engine.whole import fits_whole
from ..network.generator import Generator
from ..ops.dtypes import to_colour, without_alpha
from ..ops.filters import noise_variance
from .compose import compose_in_bands, is_bounded
from .content import Content, content_of, fill_in_place, keep_hidden, show_whole
from .exposure import scene_curve
from .facts import Model, facts_of, generator_of
from .image_stats import ImageStats, colour_moments, match
from .options import Options
from .run_network import run_network
from .tasks import TASK_SPECS
from .validate import check_image, fit_mask, is_flat


@torch.inference_mode()
def restore(
    image: Tensor,
    generator: Model,
    options: Options | None = None,
    *,
    mask: Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Restores every image of a batch.

    An image without any contrast (see `is_flat`), a black frame for instance, comes back as it is:
    there is nothing in it to restore or to take an exposure from. So does a uniform frame around an
    image. Pixels with an alpha of 0 change nothing of the others (see content.py).

    Args:
        image: B,C,H,W, C = 1 (grey), 3 (RGB) or 4 (RGB and alpha, which comes back untouched), any
            size from 1x1. Floating point in [0, 1]; or uint8 or uint16, whose 0 to 255 and 0 to
            65535 mean 0 to 1, which take less memory.
        generator: runs on the device it is on. Or the checkpoint that it belongs to; or a network
            of one, whose precision counts (but for a second network, see `TaskSpec.deblurred`).
        options: the defaults of `Options` if None.
        mask: H,W or B,H,W or B,1,H,W (B may be 1), in [0, 1], or uint8 or uint16 as `image`: where
            and how strongly to restore. Of another size than the image: it is resized.
        progress: called with (images done, images in all) after each image; what it raises, for
            instance to interrupt, goes through.

    Returns:
        Shape, type and device of `image`; integers are rounded.

    Raises:
        ValueError: `image` or `mask` have another shape or type, or `image` is not finite.
        FloatingPointError: the generator's output is not finite in float32 either.
    """
    options = options or Options()
    check_image(image)
    network = generator
    if not isinstance(network, Network):
        network = make_network(generator_of(network), options.precision)
    with working(network.device):
        result = image.clone()
        mask = None if mask is None else fit_mask(mask, image)
        total = len(image)
        parts = [slice(0, total)] if options.shared else [slice(i, i + 1) for i in range(total)]
        for part in parts if total else []:
            masks = None if mask is None else mask[part if len(mask) > 1 else slice(0, 1)]
            content = content_of(image[part])
            if content is not None and options.strength and not is_flat(content.image):
                if content.weights is not None:
                    fill_in_place(result[part][:, :3], image[part][:, 3:])
                for attempt in network.checked():
                    with attempt:
                        restore_content(network, content, masks, options, result[part])
                if content.weights is not None and masks is not None:
                    keep_hidden(image[part], masks, result[part])
            for index in range(part.start, part.stop):
                if progress is not None:
                    progress(index + 1, total)
    return result


def restore_content(
    network: Network[Generator],
    content: Content,
    mask: Tensor | None,
    options: Options,
    result: Tensor,
) -> None:
    """Restores what counts of images that share their statistics, into its part of `result`."""
    whole, (image, weights, region) = result, content
    result = region.of(result)
    mask = None if mask is None else region.of(mask)
    memory = options.memory
    if weights is not None:  # a copy, with hidden pixels filled
        memory = less_bytes(memory, image)
    output, memory = output_room(network, result, memory)
    taken = image
    if network.device.type != "cpu" and fits_whole(network, image, memory):
        image = to_colour(image, network.device)  # once, and not every band of it again and again
    run_network(network, image, options, memory, output, weights=weights, check=False)
    matched = match_images(image, output, options, network, weights, stored=taken)
    compose_in_bands(
        image,
        output,
        matched,
        options.task,
        options.strength,
        mask,
        result,
        show_whole(current_hooks().finished, whole, region),
        clipped=image is not taken,
    )


def output_room(
    network: Network[Generator], result: Tensor, memory: int | None
) -> tuple[AnyImage, int | None]:
    """Decides where the model's images go that become `result`; returns the memory left."""
    in_place = result.dtype == torch.float32 and result.device == network.device
    if in_place and result.shape[1] >= 3:  # to be replaced band by band
        return without_alpha(result), memory
    shape = torch.Size((len(result), 3, *result.shape[2:]))
    return new_image(shape, network.device, memory)


def make_network(generator: Generator, precision: Precision) -> Network[Generator]:
    """Returns the generator as a network, on its device."""
    device = next(generator.parameters()).device
    return Network(generator, choose_dtype(precision, device, facts_of(generator).measured))


def match_images(
    image: Tensor,
    output: AnyImage,
    options: Options,
    network: Network[Generator],
    weights: Tensor | None = None,
    stored: Tensor | None = None,
) -> ImageStats:
    """Measures what a task takes from whole images, B,C,H,W in [0, 1] and B,3,H,W.

    Args:
        network: the one that made `output`.
        weights: B,1,H,W, how much each pixel counts; None: all alike.
        stored: what `image` was made of, if that is another one: of this it is a copy in colour,
            on the device.
    """
    generator, spec = network.generator, TASK_SPECS[options.task]
    shortcut = generator.shortcut
    detail, bounded = spec.detail_at(options.denoise, shortcut), is_bounded(options.task, shortcut)
    exposure = spec.exposure_for(shortcut) if options.exposure is None else options.exposure
    curve, scene, seen = None, facts_of(generator).scene, image if stored is None else stored
    if scene is not None and not shortcut and exposure > 0:
        curve = scene_curve(scene, seen, output, weights, network.fetch)
    if exposure == 1 and not detail:  # nothing else is taken
        floor = torch.zeros(1, 3, 1, 1, device=output.device)
        return ImageStats(None, floor, bounded=bounded, curve=curve)
    device = output.device
    before = colour_moments(image, device, weights, clipped=seen is not image)
    after = None if exposure == 1 else colour_moments(output, device, weights, clipped=True)
    noise = noise_variance(without_alpha(seen), weights) if detail else 0.0
    matched = match(before, after, exposure, detail, noise=noise, curve=curve)
    return matched._replace(bounded=bounded)
