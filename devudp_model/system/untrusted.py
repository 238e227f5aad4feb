"""The one checked way of opening a file that somebody else may have made.

Before anything is allocated, the file is known to be a regular one, and the memory that its header
asks for is compared with a limit. Images and checkpoints both come in through here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

MEMORY_OPTION = "--file-memory"
MEMORY_VARIABLE = "DEVUDP_FILE_MEMORY"
"""Both raise (or lower) the limit, in bytes; the option of the command line sets the variable."""

SHARE = 0.5
"""One file may take this share of the memory that is free."""

SMALL_FILE_BYTES = 8 * 10**8
"""What a file may take that is much smaller than what it claims to hold."""

USUAL_GROWTH = 4096
"""No photograph or checkpoint takes this many times its size on disk."""


class UntrustedFileError(ValueError):
    """Why a file is not opened; the message goes on after the file's name."""


def check_regular(path: Path) -> int:
    """Returns the size in bytes of a regular file.

    Raises:
        UntrustedFileError: it is a pipe, a socket or a device, which could make a reader wait for
            ever.
        OSError: it cannot be looked at, or does not exist.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise UntrustedFileError(
            "is not a regular file (a pipe, a socket or a device). Copy its content into a file, "
            "and name that one."
        )
    return found.st_size


def memory_limit() -> int | None:
    """Returns the limit that the user has set, or None."""
    text = os.environ.get(MEMORY_VARIABLE, "")
    return int(text) if text.isdecimal() else None


def check_claim(
    needed: int,
    size: int,
    what: str,
    advice: str = "If you trust it,",
    growth: int = USUAL_GROWTH,
) -> None:
    """Checks that what a file claims to hold fits into memory, before it is read.

    Args:
        needed: bytes of memory for what it claims to hold.
        size: bytes of the file itself.
        what: what it claims, such as "claims to be 22000x22000 pixels".
        advice: what to do, up to "raise the limit".
        growth: what takes more than this many times its size on disk is not taken for usual.

    Raises:
        UntrustedFileError: more than the limit.
    """
    # Here, so that `devudp --help` need not import torch.
    import torch

    from .memory import free_bytes

    user_limit, why = memory_limit(), ""
    if user_limit is not None:
        limit = user_limit
    else:
        free = free_bytes(torch.device("cpu"))
        limit, why = int(SHARE * free), f", half of the {gigabytes(free)} that are free"
        if needed > growth * size and limit > SMALL_FILE_BYTES:
            limit = SMALL_FILE_BYTES
            why = f" for a file of {size:,} bytes"
    if needed > limit:
        raise UntrustedFileError(
            f"{what} and needs {gigabytes(needed)} of memory; the limit is "
            f"{gigabytes(limit)}{why}. {advice} raise the limit with {MEMORY_OPTION} "
            f"{gigabytes(needed, up=True)} (in ComfyUI and in training: the environment variable "
            f"{MEMORY_VARIABLE}, in bytes)."
        )


def gigabytes(count: int, *, up: bool = False) -> str:
    """As the option takes it."""
    return f"{-(-count // 10**9)}GB" if up else f"{count / 1e9:.3g}GB"


def printable(text: object) -> str:
    """Text for a terminal: what is not printable (escape sequences, line breaks) is written out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in str(text)
    )
