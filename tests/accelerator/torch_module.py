"""`torch.tensor`, `torch.Generator` and a module like `torch.cuda` for the make-believe device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils import backend_registration

from tests.accelerator.counts import NAME, STATE

setup: Callable[..., None] | None = getattr(
    backend_registration, "_setup_privateuseone_for_python_backend", None
)
AVAILABLE = setup is not None
"""Older versions of PyTorch let no device be written in Python."""


def on_device(device: torch.device | str) -> bool:
    return torch.device(device).type == NAME


class Generator(torch.Generator):
    """`torch.Generator`; the device's gives the processor's numbers."""

    known: ClassVar[set[int]] = set()
    """The device's, by their address."""

    def __new__(cls, device: torch.device | str = "cpu") -> Generator:
        made: Any = super().__new__(cls, "cpu" if on_device(device) else device)  # pyright: ignore
        if on_device(device):
            cls.known.add(made._cdata)
        return made

    def __init__(self, device: torch.device | str = "cpu") -> None: ...

    def __del__(self) -> None:
        self.known.discard(self._cdata)  # pyright: ignore[reportAttributeAccessIssue]


_tensor = torch.tensor


def tensor(data: Any, *, device: torch.device | str | None = None, **details: Any) -> Tensor:
    """`torch.tensor`, which makes its tensor where no other device has a say."""
    if device is not None and on_device(device):
        return _tensor(data, **details).to(device)
    return _tensor(data, device=device, **details)


class Module:
    """`torch.cuda`, for this device."""

    def __getattr__(self, name: str) -> Any:
        answers = {
            "is_available": True,
            "is_initialized": True,
            "device_count": 1,
            "current_device": 0,
            "_is_in_bad_fork": False,
            "manual_seed_all": None,
            "synchronize": None,
            "get_device_name": "make-believe accelerator",
            "get_amp_supported_dtype": [torch.bfloat16, torch.float16],
        }
        if name not in answers:
            raise AttributeError(name)
        return lambda *_, **__: answers[name]

    @staticmethod
    def memory_allocated() -> int:
        return STATE.in_use()

    @staticmethod
    def reset_peak_memory_stats() -> None:
        STATE.watched, STATE.peak = True, STATE.in_use()

    @staticmethod
    def max_memory_allocated() -> int:
        return STATE.peak


if setup is not None:
    setup(NAME, Module())
    DEVICE = torch.device(NAME, 0)
else:
    DEVICE = torch.device("meta")
