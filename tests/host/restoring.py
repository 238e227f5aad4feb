"""Restores images with the pack in a stand-in for a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.host.conftest import small_generator
from tests.host.fakes import Pack, Shape


def shape_of(pack: Pack) -> Shape:
    return "new" if hasattr(pack.management, "raise_non_oom") else "old"


def options(pack: Pack, **changes: Any) -> Any:
    return pack.module("devudp_model.restoring.restoration").Options(**changes)


def restore_images(
    pack: Pack, image: torch.Tensor, masks: torch.Tensor | None = None, **changes: Any
) -> torch.Tensor:
    """What the node does with a small network, for the task of the options."""
    generator = pack.module("devudp_model.network.generator").Generator("devudp", 8, 1).eval()
    generator.load_state_dict(small_generator(1).state_dict())
    checkpoint = pack.module("devudp_model.checkpoint").Checkpoint(generator, {}, Path())
    wanted = options(pack, **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack.module("nodes.checkpoints"), "load", lambda name, task: checkpoint)
        run = pack.module("nodes.restore_chosen").restore_chosen
        restored, _ = run(image, wanted.task, "own", wanted, masks)
    return restored
