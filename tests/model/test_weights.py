"""The shipped checkpoints: what they are, and what they make of two images.

After a change of weights, look at the new images in tests/model/golden, once they are made by

    DEVUDP_GOLDEN_AGAIN=1 python -m pytest tests/model/test_weights.py
"""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.network.generator import VARIANTS, Variant
from devudp_model.restoring.coarse_to_fine import scales_for
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.tasks import TASK_SPECS, TASKS, Task, bundled_variant

GOLDEN = Path(__file__).parent / "golden"
CARD = bundled("devudp").with_name("README.md")


def read(name: str) -> torch.Tensor:
    with Image.open(GOLDEN / name) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("size", ["small", pytest.param("large", marks=pytest.mark.slow)])
@pytest.mark.parametrize("task", TASKS)
def test_golden_image(task: Task, size: str):
    """In float32, to one step of 8 bits: processors round differently, and nothing else may.

    The large image, 512x384, is one that `deblur` restores from coarse to fine.
    """
    prefix = "" if size == "small" else "large-"
    generator = load_checkpoint(bundled(bundled_variant(task))).generator
    image = read(f"{prefix}input.png")
    assert bool(scales_for(*image.shape[2:])) == (size == "large")
    result = restore(image, generator, Options(task=task, precision="fp32"))
    pixels = (result[0] * 255).round().byte().permute(1, 2, 0).numpy()
    name = f"{prefix}{TASK_SPECS[task].word}.png"
    if os.environ.get("DEVUDP_GOLDEN_AGAIN"):
        Image.fromarray(pixels).save(GOLDEN / name, optimize=True)
    apart = (result - read(name)).abs().max().item() * 255
    assert apart <= 1.0, f"{apart:.2f} of 255"


@pytest.mark.parametrize("variant", VARIANTS)
def test_model_card_is_about_this_file(variant: Variant):
    digest = hashlib.sha256(bundled(variant).read_bytes()).hexdigest()
    assert digest in CARD.read_text(encoding="utf-8")


@pytest.mark.parametrize("variant", VARIANTS)
def test_metadata_tell_where_it_comes_from(variant: Variant):
    metadata = load_checkpoint(bundled(variant)).metadata
    wanted = {"format_version", "variant", "width", "depth", "recipe", "data", "step", "metrics",
              "licence", "seed", "trained_with", "hardware"}  # fmt: skip
    assert wanted <= metadata.keys() and all(metadata[key] for key in wanted)
    assert (metadata["variant"], metadata["width"], metadata["depth"]) == (variant, "64", "2")
