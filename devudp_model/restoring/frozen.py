"""Statistics that are measured once and kept: pieces of an image, frames of a video.

The generator normalises over the whole image. With the statistics kept, the network is local: a
piece comes out as it does in the whole image, and all frames of a video get the same treatment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..bands.rows import (
    AnyImage,
    bands_of,
    in_bands,
    less_bytes,
    new_image,
    read_rows,
    write_rows,
)
from ..bands.workers import working
from ..engine.network import Network
from ..network.generator import STRIDE, Generator
from ..ops.dtypes import from_unit, to_colour, to_unit
from .compose import compose_in_bands, reach
from .content import Region, content_of, fill_in_place, is_opaque, whole
from .first_look import MIN_PIXELS, glance_at, telling_frames
from .image_stats import Affine, ImageStats
from .options import Options
from .restoration import make_network, match_images, output_room, restore
from .run_network import deblur, is_deblurred, network_input, run_network
from .validate import check_image, fit_mask, is_flat

SAMPLED_FRAMES, SAMPLED_PIXELS = 8, 4_000_000
"""Upper limits of the frames and pixels that a video's statistics are taken from (at least one
frame)."""


class FrozenRestorer(nn.Module):
    """Restores pieces of images with the statistics of `sample`.

    Pieces whose corners lie on multiples of `STRIDE` pixels, cut with `.overlap` pixels around
    them, come out as they do in `restore` of the whole image, if they are given their part of what
    is made of that beforehand and afterwards (`.given`).

    Args:
        generator: runs on the device it is on.
        sample: 1,C,H,W, any type of image (see dtypes.py), whose statistics are kept; of several,
            B,C,H,W, they are the common ones, as for `restore` with `shared` statistics.
        options: task, strength, exposure, precision and memory.
        pieces: whether pieces will be restored, for which `given` is wanted; it takes as much
            memory as the sample in float32, twice that where a second network has a part. Else a
            frame around the sample does not count, and comes back as it is; around pieces, the
            caller leaves it out.

    Attributes:
        overlap: pixels around a piece that its result depends on, a multiple of `STRIDE`.
        given: for `forward` of the sample's pieces, B,3,H,W: what coarser scales made of it; the
            sample itself where none is wanted. Where a second network deblurs the first one's
            image (`TaskSpec.deblurred`), B,6,H,W: the last three channels are what that changes.

    Raises:
        ValueError, FloatingPointError: as `restore`.
    """

    network: Network[Generator]
    matched: ImageStats
    given: Tensor
    region: Region

    def __init__(
        self,
        generator: Generator,
        sample: Tensor,
        options: Options | None = None,
        *,
        pieces: bool = True,
    ):
        super().__init__()
        self.options, self.pieces = options or Options(), pieces
        if pieces:  # they are cut from the image, not from a smaller copy
            self.options = replace(self.options, working_size=None)
        self.source = generator, sample  # not as a submodule: the host would count it twice
        check_image(sample)
        self.measure()
        radius = self.network.layers.radius + reach(self.options.task)
        self.overlap = -(-radius // STRIDE) * STRIDE

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenRestorer:
        """Moves what is no buffer, too: else it would stay on a device that is to be left."""
        super()._apply(fn, recurse)
        generator, sample = self.source
        given = self.given
        self.source = generator, fn(sample)
        self.given = self.source[1] if given is sample else fn(given)
        self.matched = moved(self.matched, fn)
        return self

    @torch.inference_mode()
    def measure(self) -> None:
        """Takes the statistics from the sample and keeps them."""
        generator, sample = self.source
        network, options = make_network(generator, self.options.precision), self.options
        content = whole(sample) if self.pieces else content_of(sample) or whole(sample)
        image, weights, self.region = content
        with working(network.device):
            shape = torch.Size((len(image), 3, *image.shape[2:]))
            if self.pieces:
                given, memory = network_input(
                    network, image, options, options.memory, in_file=False
                )
                output, memory = new_image(shape, network.device, memory)
                network(given, memory=memory, freeze=True, out=output, weights=weights)
                if is_deblurred(network.generator, shape[2], shape[3], options):
                    given = with_change_by_deblurring(network, image, output, options, memory)
            else:
                given = sample
                output, memory = new_image(shape, network.device, options.memory)
                run_network(network, image, options, memory, output, weights=weights, freeze=True)
            self.matched = match_images(image, output, options, network, weights)
        self.network, self.given = network, given if isinstance(given, Tensor) else sample

    def measure_in_fp32(self) -> None:
        """From now on in fp32, with statistics that were measured so."""
        self.options = replace(self.options, precision="fp32")
        self.measure()

    @torch.inference_mode()
    def forward(self, image: Tensor, given: Tensor | None = None) -> Tensor:
        """B,C,h,w in [0, 1], C = 1, 3 or 4, to the same.

        Where 16 bits overflow, the statistics are measured again in fp32, which is used from then
        on.

        Args:
            image: a piece, or a whole image.
            given: of a piece, that piece of `.given`, or the piece itself; None if `image` is a
                whole image.
        """
        restored = image
        with working(self.network.device):
            for attempt in self.network.checked(self.measure_in_fp32):
                with attempt:
                    restored = self.restore_piece(image, given)
        return restored

    def restore_piece(self, image: Tensor, given: Tensor | None) -> Tensor:
        """`forward` in the network's dtype."""
        device, options = self.network.device, self.options
        restored, memory = image.clone(), options.memory
        result = restored
        if image.shape[1] == 4 and not is_opaque(image[:, 3:]):
            fill_in_place(restored[:, :3], image[:, 3:])
            image = restored[:, :3].clone()
            memory = less_bytes(memory, image)
        if given is None and image.shape[2:] == self.source[1].shape[2:]:
            image, result = self.region.of(image), self.region.of(restored)
        if given is not None and given is not image:
            memory = less_bytes(memory, given)
        output, memory = output_room(self.network, result, memory)
        if given is None:
            run_network(self.network, image, options, memory, output)
        else:
            self.network(given[:, :3], memory=memory, out=output)
            add_change_of(given, output)
        matched = moved(self.matched, lambda x: x.to(device))
        compose_in_bands(image, output, matched, options.task, options.strength, None, result)
        return restored


def with_change_by_deblurring(
    network: Network[Generator],
    image: Tensor,
    output: AnyImage,
    options: Options,
    memory: int | None,
) -> Tensor:
    """Deblurs what a network made of whole images, in place.

    Returns:
        B,6,H,W: the images, B,C,H,W, and by what that changed the network's.
    """
    frames, _, height, width = image.shape
    given = torch.empty(frames, 6, height, width, device=network.device)

    def copy(frame: int, start: int, stop: int) -> None:
        rows = given[frame : frame + 1, :, start:stop]
        rows[:, :3] = to_colour(read_rows(image, frame, start, stop), given.device)
        rows[:, 3:] = read_rows(output, frame, start, stop)

    def subtract(frame: int, start: int, stop: int) -> None:
        rows = given[frame : frame + 1, 3:, start:stop]
        rows.sub_(read_rows(output, frame, start, stop)).neg_()

    in_bands(copy, given)
    deblur(network, output, options, less_bytes(memory, given))
    in_bands(subtract, given)
    return given


def add_change_of(given: Tensor, output: AnyImage) -> None:
    """Adds to images, B,3,H,W in [0, 1], in place, the change that B,6,H,W are given with."""

    def add(frame: int, start: int, stop: int) -> None:
        rows = read_rows(output, frame, start, stop) + given[frame : frame + 1, 3:, start:stop]
        write_rows(output, frame, start, rows.clamp_(0, 1))

    if given.shape[1] == 6:
        in_bands(add, given)


def moved(matched: ImageStats, fn: Callable[[Tensor], Tensor]) -> ImageStats:
    """`matched` with its tensors moved; those of the curve stay (see curve.py)."""
    exposure = matched.exposure
    return matched._replace(
        exposure=None if exposure is None else Affine(*map(fn, exposure)),
        floor=fn(matched.floor),
    )


def sampled(frames: int, pixels: int) -> list[int]:
    """Chooses which of `frames` frames with `pixels` pixels each to measure: evenly spaced."""
    count = max(1, min(SAMPLED_FRAMES, SAMPLED_PIXELS // pixels, frames))
    return [(2 * i + 1) * frames // (2 * count) for i in range(count)]


@torch.inference_mode()
def frames_to_measure(sample: Tensor) -> list[Tensor]:
    """Returns the frames of B,C,H,W, 1,C,H,W each, that tell how bright their scene is.

    Frames without any contrast do not, nor faded ones (see `telling_frames`): with their
    statistics, a scene that fades to black would come out too bright. Of small frames, that cannot
    be told.
    """
    frames = [frame for frame in sample.split(1) if not is_flat(frame)]
    if len(frames) < 2 or min(sample.shape[2:]) < MIN_PIXELS:
        return frames
    content = content_of(torch.cat(frames))
    if content is None:
        return frames
    count = len(frames)
    weights = [None] * count if content.weights is None else content.weights.split(1)
    looks = [glance_at(*each) for each in zip(content.image.split(1), weights, strict=True)]
    return [frames[i] for i in telling_frames(looks)] or frames


class VideoRestorer:
    """Restores a video frame by frame with the statistics of a sample of its frames.

    `restore` with shared statistics works on all frames at once; the features of hundreds of frames
    fit into no memory.

    Args:
        generator: runs on the device it is on.
        sample: B,C,H,W, as for `restore`; see `frames_to_measure`.
        options: as for `restore`; `statistics` is ignored, they are shared.
    """

    def __init__(self, generator: Generator, sample: Tensor, options: Options):
        self.generator, self.options = generator, options
        frames = frames_to_measure(sample)
        self.frozen = None
        if frames:
            sample = frames[0] if len(frames) == 1 else torch.cat(frames)
            self.frozen = FrozenRestorer(generator, sample, options, pieces=False)

    def set_memory(self, memory: int | None) -> None:
        """From now on, another memory limit: see `Options`."""
        self.options = replace(self.options, memory=memory)
        if self.frozen is not None:
            self.frozen.options = replace(self.frozen.options, memory=memory)

    @torch.inference_mode()
    def __call__(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """1,C,H,W, any type of image, to the same; `mask` as for `restore`.

        Raises:
            ValueError, FloatingPointError: as `restore`.
        """
        if self.frozen is None:
            alone = replace(self.options, statistics="each image")
            return restore(frame, self.generator, alone, mask=mask)
        restored = self.frozen(frame)
        if mask is None:
            return restored
        mask = fit_mask(mask, frame)
        for band in bands_of(frame):
            before, after = (to_unit(read_rows(each, *band)) for each in (frame, restored))
            share = to_unit(read_rows(mask, *band)).to(frame.device)
            mixed = from_unit(torch.lerp(before, after, share), frame.dtype)
            read_rows(restored, *band).copy_(mixed)
        return restored
