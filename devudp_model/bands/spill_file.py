"""A temporary file for what does not fit into the memory limit."""

from __future__ import annotations

import errno
import tempfile
import threading

import torch
from torch import Tensor


class SpillFile:
    """Deleted when it is closed, or when nobody needs it any more. Several threads may use it.

    Read and written, not mapped: mapped pages would count as the process's own memory.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.file = tempfile.TemporaryFile(prefix="devudp-", buffering=0)  # noqa: SIM115

    def read(self, start: int, rows: Tensor) -> None:
        """From byte `start` on into `rows`, 1,C,h,W, channels_last.

        Raises:
            EOFError: the file is shorter.
        """
        rest = bytes_of(rows)
        with self.lock:
            self.file.seek(start)
            while rest:
                got = self.file.readinto(rest)
                if not got:
                    raise EOFError("a temporary file of the restoring ends before its last row")
                rest = rest[got:]

    def write(self, start: int, rows: Tensor) -> None:
        """1,C,h,W, from byte `start` on.

        Raises:
            OSError: it cannot be written; of a full disk, with what to do.
        """
        rest = bytes_of(rows.contiguous(memory_format=torch.channels_last))
        try:
            with self.lock:
                self.file.seek(start)
                while rest:
                    rest = rest[self.file.write(rest) :]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OSError(
                error.errno,
                f"The disk is full: what exceeds the memory limit is stored in "
                f"{tempfile.gettempdir()}. Raise the limit, or set TMPDIR (TEMP on Windows) to a "
                "folder with more space",
            ) from error

    def close(self) -> None:
        self.file.close()


def bytes_of(strip: Tensor) -> memoryview:
    """Returns the bytes of a channels_last strip, not copied."""
    return memoryview(strip.permute(0, 2, 3, 1).reshape(-1).view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
