"""What other nodes may hand over: empty batches, no pixels, values that are not finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from devudp_model.checkpoint import save_checkpoint
from devudp_model.network.generator import Generator
from tests.host.fakes import Pack, load_pack


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pack:
    """With a network of width 1."""
    loaded = load_pack(monkeypatch, "new", str(tmp_path))
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, Generator("devudp", 1, 1), {})
    monkeypatch.setattr(loaded.module("nodes.checkpoints"), "find", lambda *_: path)
    return loaded


def call(pack: Pack, node: str, image: Tensor, **more: Any) -> tuple[Any, ...]:
    """The outputs of a node."""
    restoring = {"task": "joint", "checkpoint": "bundled", "strength": 1.0, "exposure": 1.0,
                 "precision": "fp32"}  # fmt: skip
    inputs = {
        "DEvUDPRestore": {**restoring, "statistics": "each image"},
        "DEvUDPLoadUpscaleModel": restoring,
        "DEvUDPMeasure": {"reference": image},
        "DEvUDPDegrade": {"blur": 5.0, "light": 0.5, "noise": 0.0, "seed": 1},
    }[node]
    return pack.nodes[node].execute(**{"image": image, **inputs, **more}).args


NODES = ("DEvUDPRestore", "DEvUDPLoadUpscaleModel", "DEvUDPMeasure", "DEvUDPDegrade")


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite(pack: Pack, node: str, value: float) -> None:
    image = torch.rand(2, 16, 16, 3)
    image[1, 3, 4, 0] = value
    with pytest.raises(ValueError, match=r"not numbers .*A node before this one made them"):
        call(pack, node, image)


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("shape", [(1, 0, 8, 3), (1, 8, 0, 3), (2, 8, 3), (1, 8, 8, 2), (0,)])
def test_what_is_no_image(pack: Pack, node: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"look at the node that made it|connect an output"):
        call(pack, node, torch.zeros(shape))


@pytest.mark.parametrize("statistics", ["each image", "shared"])
def test_a_batch_of_no_images(pack: Pack, statistics: str) -> None:
    empty = torch.zeros(0, 16, 16, 3)
    assert call(pack, "DEvUDPRestore", empty, statistics=statistics)[0].shape == empty.shape
    assert call(pack, "DEvUDPDegrade", empty)[0].shape == empty.shape
    for node in ("DEvUDPMeasure", "DEvUDPLoadUpscaleModel"):
        with pytest.raises(ValueError, match="no images in the batch"):
            call(pack, node, empty)


def test_a_mask_that_is_not_finite(pack: Pack) -> None:
    mask = torch.ones(1, 16, 16)
    mask[0, 2, 2] = torch.nan
    with pytest.raises(ValueError, match="mask has pixels that are not numbers"):
        call(pack, "DEvUDPRestore", torch.rand(1, 16, 16, 3), mask=mask)


def test_the_upscale_model_says_that_transparency_is_lost(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(pack.module("nodes.upscale_model"), "show_text", told.append)
    squares = torch.rand(1, 8, 8, 4).repeat_interleave(8, 1).repeat_interleave(8, 2)
    image = (squares + 0.1 * torch.rand(1, 64, 64, 4)) * 0.15  # mere noise would be left alone
    call(pack, "DEvUDPLoadUpscaleModel", image[..., :3])
    assert told == []
    call(pack, "DEvUDPLoadUpscaleModel", image)
    call(pack, "DEvUDPLoadUpscaleModel", image, task="auto")
    assert "Transparency is lost" in told[0]
    assert "dark" in told[1] and "Transparency is lost" in told[1]
