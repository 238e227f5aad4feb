"""The device for tests, and small networks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from devudp_model.engine import statistics
from tests.accelerator import device as pretended


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The make-believe accelerator, which takes the same ways through the code as CUDA."""
    if not pretended.AVAILABLE:
        pytest.skip(
            f"PyTorch {torch.__version__} lets no device be written in Python: NOTHING IS TESTED "
            "of accelerators here"
        )
    monkeypatch.setattr(torch, "tensor", pretended.tensor)
    monkeypatch.setattr(statistics, "BATCH_NORM_STATS", {pretended.NAME})
    yield pretended.DEVICE
