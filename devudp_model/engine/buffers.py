"""Feature maps: in the device's memory up to a limit, beyond it in a larger memory.

For a GPU that is the main memory, for the CPU a temporary file (in `tempfile.gettempdir()`, which
the environment variable TMPDIR, on Windows TEMP, sets).
"""

from __future__ import annotations

import math
import tempfile
from collections import deque
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..bands.spill_file import SpillFile

LARGE_SHARE = 32
"""On a CPU, a buffer that takes at least one part in so many of the limit is a `BlockBuffer`."""

LARGE_BYTES = 2**28
"""The same without a limit."""


class BufferShape(NamedTuple):
    """Shape of a buffer."""

    frames: int
    channels: int
    height: int
    width: int


class RowBuffer(Protocol):
    """Features of some frames: a queue of rows.

    Rows are read from top to bottom, frame after frame, once, and written where they were. What
    has been read may be followed by other rows at once, so a layer can read from a buffer and write
    to it.
    """

    shape: BufferShape

    def read(self, out: Tensor) -> list[Tensor]:
        """Reads the next rows of a frame, as many as `out` (1,C,h,W, channels_last) has.

        In pieces 1,C,h,W one below the other, which are not to be changed; or as one, `out`
        itself, where they are not in memory anyway.
        """
        ...

    def take(self, row: int, strip: Tensor, *, copy: bool = False) -> Tensor | None:
        """Takes a strip, 1,C,h,W. Strips may come in any order, from any thread.

        Args:
            row: its first one, counted through all frames.
            copy: the caller uses the strip's memory again.

        Returns:
            What `append` wants.
        """
        ...

    def append(self, taken: Tensor | None) -> None:
        """Appends what `take` has returned, in the order of the rows."""
        ...

    def close(self) -> None:
        """Gives the memory back."""
        ...


def empty_strip(shape: BufferShape, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """1,C,rows,W in channels_last order, to be filled."""
    strip = torch.empty((1, rows, shape.width, shape.channels), dtype=dtype, device=device)
    return strip.permute(0, 3, 1, 2)


class MemoryBuffer:
    """A buffer in memory: of the `device` that computes, or of another `storage_device`.

    It keeps the very strips that it is given, unless they have to be copied or moved.
    """

    def __init__(
        self, shape: BufferShape, device: torch.device, storage_device: torch.device
    ) -> None:
        self.shape, self.device, self.storage_device = shape, device, storage_device
        self.strips: deque[Tensor] = deque()

    def read(self, out: Tensor) -> list[Tensor]:
        pieces, rows = [], out.shape[2]
        while rows:
            strip = self.strips.popleft()
            if strip.shape[2] > rows:
                self.strips.appendleft(strip[:, :, rows:])
                strip = strip[:, :, :rows]
            rows -= strip.shape[2]
            pieces.append(strip.to(self.device))
        return pieces

    def take(self, row: int, strip: Tensor, *, copy: bool = False) -> Tensor | None:
        return strip.to(self.storage_device, copy=copy)

    def append(self, taken: Tensor | None) -> None:
        assert taken is not None
        self.strips.append(taken)

    def close(self) -> None:
        self.strips.clear()


class BlockBuffer:
    """A buffer in one block of memory, to which strips are copied.

    Strips that live for a while, between others that do not, would leave holes in the process's
    memory that nothing else can use: some half of it.
    """

    def __init__(self, shape: BufferShape, dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.storage_device = shape, device
        rows = shape.frames * shape.height
        self.block = torch.empty(rows, shape.width, shape.channels, dtype=dtype, device=device)
        self.rows_read = 0

    def rows(self, start: int, count: int) -> Tensor:
        """1,C,`count`,W, a view."""
        first = start % len(self.block)
        return self.block[first : first + count].permute(2, 0, 1)[None]

    def read(self, out: Tensor) -> list[Tensor]:
        count = out.shape[2]
        found = self.rows(self.rows_read, count)
        self.rows_read += count
        return [found] if count else []

    def take(self, row: int, strip: Tensor, *, copy: bool = False) -> Tensor | None:
        self.rows(row, strip.shape[2]).copy_(strip)

    def append(self, taken: Tensor | None) -> None:
        pass

    def close(self) -> None:
        self.block = torch.empty(0)


class FileBuffer:
    """A buffer in a temporary file, which is deleted when it is closed."""

    def __init__(self, shape: BufferShape, dtype: torch.dtype) -> None:
        self.shape = shape
        self.row_bytes = shape.width * shape.channels * dtype.itemsize
        self.rows = shape.frames * shape.height
        self.rows_read = 0
        self.file = SpillFile()

    def read(self, out: Tensor) -> list[Tensor]:
        if not out.shape[2]:
            return []
        self.file.read(self.rows_read % self.rows * self.row_bytes, out)
        self.rows_read += out.shape[2]
        return [out]

    def take(self, row: int, strip: Tensor, *, copy: bool = False) -> Tensor | None:
        self.file.write(row * self.row_bytes, strip)

    def append(self, taken: Tensor | None) -> None:
        pass

    def close(self) -> None:
        self.file.close()


class BufferPool:
    """Hands out buffers, in the device's memory up to a bound.

    Args:
        dtype, device: of the features.
        memory: bytes that the buffers may take together; None for no bound.

    Attributes:
        spilled: bytes of all buffers so far that did not fit into the memory limit.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, memory: int | None):
        self.dtype, self.device = dtype, device
        self.left: float = math.inf if memory is None else memory
        self.large: float = LARGE_BYTES if memory is None else memory / LARGE_SHARE
        self.spilled = 0

    @property
    def spill_location(self) -> str:
        """Returns the memory that buffers go to which do not fit."""
        return tempfile.gettempdir() if self.device.type == "cpu" else "the computer's memory"

    def allocate(self, shape: BufferShape) -> RowBuffer:
        """Returns a new buffer; give it back with `free`."""
        nbytes = math.prod(shape) * self.dtype.itemsize
        if nbytes <= self.left:
            self.left -= nbytes
            if nbytes >= self.large and self.device.type == "cpu":
                return BlockBuffer(shape, self.dtype, self.device)
            return MemoryBuffer(shape, self.device, storage_device=self.device)
        self.spilled += nbytes
        if self.device.type == "cpu":
            return FileBuffer(shape, self.dtype)
        return MemoryBuffer(shape, self.device, storage_device=torch.device("cpu"))

    def free(self, buffer: RowBuffer) -> None:
        """Takes a buffer back, which must not be used any more."""
        if isinstance(buffer, MemoryBuffer | BlockBuffer) and buffer.storage_device == self.device:
            self.left += math.prod(buffer.shape) * self.dtype.itemsize
        buffer.close()
