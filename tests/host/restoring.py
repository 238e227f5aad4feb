"""Restores images with the pack in a stand-in for a host."""

from __future__ import annotations

from typing import Any

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
    generator = pack.module("devudp_model.network.generator").Generator("devudp", 8, 1).eval()
    generator.load_state_dict(small_generator(1).state_dict())
    run = pack.module("nodes.run_on_host").restore_images
    return run(image, generator, options(pack, **changes), masks)
