"""The device for tests, and what is put on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from devudp_model.engine import statistics
from devudp_model.network.generator import Generator, Variant
from devudp_model.restoring import coarse_to_fine
from devudp_model.restoring.facts import Facts
from devudp_model.restoring.scene import GRID, QUANTILES, SceneModel
from tests.accelerator import torch_module
from tests.accelerator.counts import NAME
from tests.accelerator.device import DEVICE


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The make-believe accelerator, which takes the same ways through the code as CUDA."""
    if not torch_module.AVAILABLE:
        pytest.skip(
            f"PyTorch {torch.__version__} lets no device be written in Python: NOTHING IS TESTED "
            "of accelerators here"
        )
    monkeypatch.setattr(torch, "tensor", torch_module.tensor)
    monkeypatch.setattr(torch, "Generator", torch_module.Generator)
    monkeypatch.setattr(statistics, "BATCH_NORM_STATS", {NAME})
    yield DEVICE


@pytest.fixture
def coarser(monkeypatch: pytest.MonkeyPatch) -> None:
    """`deblur` starts with smaller versions also of the small images here."""
    monkeypatch.setattr(coarse_to_fine, "MIN_SIDE", 20)


SCENE = SceneModel(
    center=(0.0,) * (len(QUANTILES) + 5 + GRID**2),
    scale=(1.0,) * (len(QUANTILES) + 5 + GRID**2),
    weights=(0.001,) * (len(QUANTILES) + 5 + GRID**2),
    bias=0.2,
)


def small_generator(variant: Variant) -> Generator:
    """A quick one whose images have contrast, with a model of scenes where the bundled has one."""
    torch.manual_seed(4)
    net = Generator(variant, width=4, depth=1).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.running_var, 0.8, 1.2)  # pyright: ignore[reportArgumentType]
    if variant == "devudp":
        net.facts = Facts(scene=SCENE)
    return net


def photos(*shape: int) -> Tensor:
    """B,C,H,W in [0, 1] with coarse and fine structure, dark in parts, with a white lamp."""
    rng = torch.Generator().manual_seed(0)
    coarse = F.interpolate(torch.rand(*shape[:2], 3, 4, generator=rng), shape[2:], mode="bilinear")
    images = (0.8 * coarse + 0.2 * torch.rand(shape, generator=rng)) * 0.7
    images[..., 3:9, 4:11] = 1.0
    return images
