"""Feature maps, in memory as long as there is some, else in the next larger place.

On the CPU that place is a temporary file (in `tempfile.gettempdir()`; the environment variable
TMPDIR, on Windows TEMP, puts it elsewhere), for a GPU it is the CPU's memory.
"""

from __future__ import annotations

import errno
import math
import tempfile
from collections import deque
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Shape(NamedTuple):
    """Of a plane."""

    frames: int
    channels: int
    height: int
    width: int


class Plane(Protocol):
    """Features of some frames: a queue of rows.

    Rows are written from top to bottom, frame after frame, and read in the same order, once. What
    has been read may be followed by other rows at once, so a layer can read from a plane and write
    to it.
    """

    shape: Shape

    def read(self, rows: int) -> list[Tensor]:
        """The next rows of a frame, in pieces 1,C,h,W one below the other.

        Not to be changed, and valid until the next call only.
        """
        ...

    def write(self, strip: Tensor, *, lent: bool = False) -> None:
        """Appends a strip, 1,C,h,W; if `lent`, its memory goes on being used by the caller."""
        ...

    def close(self) -> None:
        """Gives the memory back."""
        ...


def empty_strip(shape: Shape, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """1,C,rows,W in channels_last order, to be filled."""
    strip = torch.empty((1, rows, shape.width, shape.channels), dtype=dtype, device=device)
    return strip.permute(0, 3, 1, 2)


class MemoryPlane:
    """A plane in the memory of the `device` that works with it, or of another one, its `home`.

    It keeps the very strips that it is given, unless they are lent or have to move.
    """

    def __init__(self, shape: Shape, device: torch.device, home: torch.device) -> None:
        self.shape, self.device, self.home = shape, device, home
        self.strips: deque[Tensor] = deque()

    def read(self, rows: int) -> list[Tensor]:
        pieces = []
        while rows:
            strip = self.strips.popleft()
            if strip.shape[2] > rows:
                self.strips.appendleft(strip[:, :, rows:])
                strip = strip[:, :, :rows]
            rows -= strip.shape[2]
            pieces.append(strip.to(self.device))
        return pieces

    def write(self, strip: Tensor, *, lent: bool = False) -> None:
        self.strips.append(strip.to(self.home, copy=lent))

    def close(self) -> None:
        self.strips.clear()


class FilePlane:
    """A plane of the CPU's in a temporary file, which vanishes when it is closed.

    Read and written, not mapped: mapped pages would count as the process's own memory.
    """

    def __init__(self, shape: Shape, dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self.row_bytes = shape.width * shape.channels * dtype.itemsize
        self.rows = shape.frames * shape.height
        self.rows_read = self.rows_written = 0
        self.buffer: Tensor | None = None
        self.file = tempfile.TemporaryFile(prefix="devudp-", buffering=0)  # noqa: SIM115

    def read(self, rows: int) -> list[Tensor]:
        if self.buffer is None or self.buffer.shape[2] < rows:
            self.buffer = empty_strip(self.shape, rows, self.dtype, torch.device("cpu"))
        strip = self.buffer[:, :, :rows]
        self.file.seek(self.rows_read % self.rows * self.row_bytes)
        self.rows_read += rows
        rest = memory_of(strip)
        while rest:
            got = self.file.readinto(rest)
            if not got:
                raise EOFError("a temporary file of the restoring ends before its last row")
            rest = rest[got:]
        return [strip]

    def write(self, strip: Tensor, *, lent: bool = False) -> None:
        self.file.seek(self.rows_written % self.rows * self.row_bytes)
        self.rows_written += strip.shape[2]
        rest = memory_of(strip.contiguous(memory_format=torch.channels_last))
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OSError(
                error.errno,
                f"The disk is full: features beyond the memory bound go to {tempfile.gettempdir()}."
                " Raise the bound, or set TMPDIR (on Windows TEMP) to a folder with more room",
            ) from error

    def close(self) -> None:
        self.file.close()


def memory_of(strip: Tensor) -> memoryview:
    """The bytes of a channels_last strip, not copied."""
    return memoryview(strip.permute(0, 2, 3, 1).reshape(-1).view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]


class Workspace:
    """Hands out planes, in the device's memory up to a bound.

    Args:
        dtype, device: of the features.
        memory: bytes that the planes may take together; None for no bound.

    Attributes:
        spilled: bytes of all planes so far that had to go elsewhere.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, memory: int | None):
        self.dtype, self.device = dtype, device
        self.left: float = math.inf if memory is None else memory
        self.spilled = 0

    @property
    def elsewhere(self) -> str:
        """Where planes go that do not fit."""
        return tempfile.gettempdir() if self.device.type == "cpu" else "the computer's memory"

    def plane(self, shape: Shape) -> Plane:
        """A new plane; give it back with `free`."""
        nbytes = math.prod(shape) * self.dtype.itemsize
        if nbytes <= self.left:
            self.left -= nbytes
            return MemoryPlane(shape, self.device, home=self.device)
        self.spilled += nbytes
        if self.device.type == "cpu":
            return FilePlane(shape, self.dtype)
        return MemoryPlane(shape, self.device, home=torch.device("cpu"))

    def free(self, plane: Plane) -> None:
        """Takes a plane back, which must not be used any more."""
        if isinstance(plane, MemoryPlane) and plane.home == self.device:
            self.left += math.prod(plane.shape) * self.dtype.itemsize
        plane.close()
