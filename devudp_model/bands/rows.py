"""Whole images, read and written in bands: in memory, or in a temporary file.

A band is some rows of an image over its full width: the unit in which images are worked on outside
of the network, so that no step needs a second whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .spill_file import SpillFile
from .workers import in_parallel

IMAGE_SHARE = 4
"""An image is kept in memory if it takes less than one part in so many of the memory limit."""

BAND_PIXELS, GPU_BAND_PIXELS = 2**18, 2**24
"""Approximate size of the bands in which images are worked through; on a GPU few and large ones."""


class FileImage:
    """B,C,H,W, float32, in a temporary file. Several threads may read and write it at once."""

    def __init__(self, shape: torch.Size) -> None:
        self.shape, self.dtype, self.device = shape, torch.float32, torch.device("cpu")
        self.file = SpillFile()

    def offset(self, frame: int, row: int) -> int:
        """Returns the byte at which a row begins: row after row, in each pixel after pixel."""
        _, channels, height, width = self.shape
        return (frame * height + row) * width * channels * self.dtype.itemsize

    def read(self, frame: int, start: int, stop: int) -> Tensor:
        """1,C,rows,W, a copy."""
        _, channels, _, width = self.shape
        rows = torch.empty(1, stop - start, width, channels).permute(0, 3, 1, 2)
        self.file.read(self.offset(frame, start), rows)
        return rows.contiguous()

    def write(self, frame: int, start: int, rows: Tensor) -> None:
        """1,C,rows,W from row `start` on."""
        self.file.write(self.offset(frame, start), rows)


AnyImage = Tensor | FileImage
"""B,C,H,W; integers (see dtypes.py) or floating point."""


def new_image(
    shape: torch.Size, device: torch.device, memory: int | None
) -> tuple[AnyImage, int | None]:
    """Allocates an image, float32; tells what is then left of the memory limit (at least 1 byte).

    On the CPU, it lies in a temporary file where it would take too much of that.
    """
    small = memory is None or shape.numel() * torch.float32.itemsize * IMAGE_SHARE <= memory
    if device.type == "cpu" and not small:
        return FileImage(shape), memory
    image = torch.empty(shape, dtype=torch.float32, device=device)
    return image, less_bytes(memory, image)


def less_bytes(memory: int | None, image: AnyImage) -> int | None:
    """Returns the memory limit less what an image takes of it; at least 1 byte."""
    in_memory = isinstance(image, Tensor)
    return max(memory - image.nbytes, 1) if memory is not None and in_memory else memory


def read_rows(image: AnyImage, frame: int, start: int, stop: int) -> Tensor:
    """1,C,rows,W; of a tensor, a view."""
    if isinstance(image, FileImage):
        return image.read(frame, start, stop)
    if len(image) == 1 and start == 0 and stop == image.shape[2]:
        return image  # one operation less
    return image[frame : frame + 1, :, start:stop]


def write_rows(image: AnyImage, frame: int, start: int, rows: Tensor) -> None:
    """Writes 1,C,rows,W from row `start` on."""
    if isinstance(image, FileImage):
        image.write(frame, start, rows)
    else:
        read_rows(image, frame, start, start + rows.shape[2]).copy_(rows)


def bands_of(
    image: AnyImage, multiple: int = 1, parts: int = 1, least: int = 1
) -> Iterator[tuple[int, int, int]]:
    """Frame, first and last row (exclusive) of bands that take little memory.

    All but a frame's last one have a multiple of `multiple` rows.

    Args:
        parts: for so many workers at once, the bands are that much smaller, ...
        least: ... but have at least so many rows.
    """
    height, width = image.shape[2:]
    pixels = BAND_PIXELS if image.device.type == "cpu" else GPU_BAND_PIXELS
    if parts > 1:
        pixels = min(pixels, image.shape[2] * width) // parts
        pixels = max(pixels, least * width)
    rows = max(1, pixels // (width * multiple)) * multiple
    for frame in range(image.shape[0]):
        for start in range(0, height, rows):
            yield frame, start, min(start + rows, height)


def extremes(image: AnyImage) -> Tensor:
    """Smallest and largest value; NaN if there is one."""
    if isinstance(image, Tensor):
        return torch.stack(torch.aminmax(image))
    # Where the bands come from, a small tensor kept of each would leave holes between them.
    low, high = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    for band in bands_of(image):
        found = torch.aminmax(image.read(*band))
        torch.minimum(low, found.min, out=low)
        torch.maximum(high, found.max, out=high)
    return torch.stack([low, high])


def in_bands(work: Callable[[int, int, int], object], image: AnyImage, multiple: int = 1) -> None:
    """`work(frame, start, stop)` for each of `bands_of`, by all workers there are."""
    bands = list(bands_of(image, multiple))

    def one(number: int) -> float:
        work(*bands[number])
        return 0.0

    in_parallel(one, len(bands))


def made_in_bands(
    make: Callable[[int, int, int], Tensor],
    image: AnyImage,
    allocate: Callable[[], AnyImage],
    scale: int,
) -> AnyImage:
    """Returns an image that `make(frame, start, stop)` gives the rows of, for each of `bands_of`
    one, smaller by a factor; of a GPU's only band they are the image."""
    bands = list(bands_of(image, scale))
    if len(bands) == 1 and image.device.type != "cpu":
        return make(*bands[0])
    made = allocate()

    def work(frame: int, start: int, stop: int) -> None:
        write_rows(made, frame, start // scale, make(frame, start, stop))

    in_bands(work, image, scale)
    return made


def sampled(image: AnyImage, step: int) -> Tensor:
    """Returns every `step`-th pixel of every `step`-th row."""
    if isinstance(image, Tensor):
        return image[..., ::step, ::step]
    frames, channels, height, width = image.shape
    found = torch.empty(frames, channels, -(-height // step), -(-width // step))
    for frame in range(frames):
        for row, y in enumerate(range(0, height, step)):
            found[frame, :, row] = image.read(frame, y, y + 1)[0, :, 0, ::step]
    return found
