"""The dtype that the network computes in, and the fp32 fallback of 16-bit types."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, get_args

import torch

from .int8_product import has_int8_instructions

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

log = logging.getLogger("devudp")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}

HALF: tuple[Precision, ...] = ("bf16", "fp16")
"""The precisions of 16 bits."""

ROUNDED: tuple[Precision, ...] = (*HALF, "int8")
"""Those whose difference from fp32 is measured."""

MAX_COMMON, MAX_DIFFERENCE = 1.0, 2.0
"""Limits of `Difference.common` and `.largest`: beyond them `auto` does without a type."""


class Difference(NamedTuple):
    """Distance of restored images from those made in fp32, in units of 1/255.

    Attributes:
        mean: of all values of all images.
        common: 99.9 % of an image's values differ by less, in the image where they differ most.
        largest: of all values.
    """

    mean: float
    common: float
    largest: float

    @property
    def is_small(self) -> bool:
        """True if it cannot be seen: less than what rounding to 8 bits may change."""
        return self.common <= MAX_COMMON and self.largest <= MAX_DIFFERENCE


Measured = Mapping[Precision, Difference]
"""Differences of a checkpoint in 16 and 8 bits. One that is missing has not been measured."""


def to_json(measured: Measured) -> str:
    """Writes them as text for the metadata of a checkpoint."""
    return json.dumps({name: found._asdict() for name, found in measured.items()})


def from_json(text: str) -> Measured:
    """Reads what `to_json` wrote; precisions that this version does not know are left out.

    Raises:
        ValueError: it is damaged.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("not a table of differences")
    measured: dict[Precision, Difference] = {}
    for name in ROUNDED:
        if name not in content:
            continue
        try:
            measured[name] = found = Difference(*(float(content[name][k]) for k in FIELDS))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no difference of {name}: {error}") from error
        if not all(math.isfinite(value) and value >= 0 for value in found):
            raise ValueError(f"the difference of {name} is {found}")
    return measured


FIELDS = Difference._fields


def choose_dtype(
    precision: Precision, device: torch.device, measured: Measured | None = None
) -> torch.dtype:
    """Chooses the dtype of a precision on a device.

    `auto` is the fastest one of which it is known that it makes no visible difference for this
    checkpoint (`Difference.is_small`): on an accelerator fp16, then bf16; on a processor with
    instructions for it bf16, on one that has them for 8-bit integers only int8; else fp32. So a
    checkpoint that was never measured runs in fp32.

    Args:
        measured: of the checkpoint, see `checkpoint.Checkpoint`.
    """
    if precision != "auto":
        return DTYPES[precision]
    faster: tuple[Precision, ...] = ("fp16", "bf16")
    if device.type == "cpu":
        faster = ("bf16",) if has_bf16_instructions() else ()
        # Not asked of others: they need not make a convolution to find out.
        if not faster and measured and "int8" in measured and has_int8_instructions():
            faster = ("int8",)
    small = (name for name in faster if measured and name in measured and measured[name].is_small)
    return DTYPES[next(small, "fp32")]


def has_bf16_instructions() -> bool:
    """True if this processor multiplies bf16 numbers (AVX512-BF16 or AMX). Others emulate it."""
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in questions)


class Attempt(AbstractContextManager["Attempt"]):
    """A run whose numbers may overflow, as a context: see `attempts_in_fp32_too`.

    Attributes:
        failed: whether they did.
    """

    def __init__(self, check: Callable[[], None], is_last: bool):
        self.check, self.is_last, self.failed = check, is_last, False

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        try:
            if error is None:
                self.check()
        except FloatingPointError as found:
            if self.is_last:
                raise
            error = found
        self.failed = not self.is_last and isinstance(error, FloatingPointError)
        return self.failed


def attempts_in_fp32_too(
    check: Callable[[], None], dtype: torch.dtype, switch_to_fp32: Callable[[], None]
) -> Iterator[Attempt]:
    """Gives a second attempt, in fp32, where 16 bits overflow.

        for attempt in attempts_in_fp32_too(check, dtype, switch_to_fp32):
            with attempt:
                run()

    Args:
        check: is called after each attempt; raises FloatingPointError if numbers are not finite.
        dtype: that the first attempt computes in.
        switch_to_fp32: is called once, before the second attempt; what follows stays in fp32.

    Raises:
        FloatingPointError: the results are not finite in fp32 either.
    """
    first = Attempt(check, is_last=dtype == torch.float32)
    yield first
    if not first.failed:
        return
    # Outside of the attempt: inside, the error's traceback still holds the tensors.
    log.warning(
        "Numbers overflowed in %s: computing this again in fp32, and what follows too. To skip the "
        "first attempt, choose precision fp32.",
        str(dtype).removeprefix("torch."),
    )
    switch_to_fp32()
    yield Attempt(check, is_last=True)
