"""Which number type the network calculates in."""

from __future__ import annotations

from typing import Literal, get_args

import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type that a precision means on a device.

    `auto` is 16 bits where they are several times as fast as fp32: bf16 on the CPU with
    instructions for it, fp16 on CUDA. docs/performance.md shows how far they agree with fp32.
    """
    if precision != "auto":
        return DTYPES[precision]
    if device.type == "cuda":
        return torch.float16
    if device.type == "cpu" and cpu_has_bf16():
        return torch.bfloat16
    return torch.float32


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies matrices of bfloat16 (AMX, or AVX-512 BF16)."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)
