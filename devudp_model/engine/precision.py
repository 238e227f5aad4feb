"""The dtype that the network computes in, and the fp32 fallback of 16-bit types."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, TypeVar, get_args

import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Result = TypeVar("Result")

log = logging.getLogger("devudp")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of a precision on a device.

    `auto` is fp16 on CUDA and fp32 elsewhere. On the CPU bf16 is faster, but with the first weights
    single pixels came out up to 45 of 255 away from fp32 (0.4 on average): it has to be asked for.
    How far fp16 agrees on CUDA has not been measured.
    """
    if precision != "auto":
        return DTYPES[precision]
    if device.type == "cuda":
        return torch.float16
    return torch.float32


def retry_in_fp32(
    run: Callable[[], Result], dtype: torch.dtype, switch_to_fp32: Callable[[], None]
) -> Result:
    """`run()`; where 16 bits overflow, once more in fp32.

    Args:
        run: computes in `dtype`, in fp32 after `switch_to_fp32()`.
        switch_to_fp32: is called once, before the second attempt; what follows stays in fp32.

    Raises:
        FloatingPointError: the results are not finite in fp32 either.
    """
    try:
        return run()
    except FloatingPointError:
        if dtype == torch.float32:
            raise
    # Outside of the except block: inside, the error's traceback still holds the tensors.
    log.warning(
        "Numbers overflowed in %s: computing this again in fp32, and what follows too. To skip the "
        "first attempt, choose precision fp32.",
        str(dtype).removeprefix("torch."),
    )
    switch_to_fp32()
    return run()
