"""Fixtures that several files of the evaluation's tests share."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from devudp_model.generator import Generator
from tests.training.training_run import make_images
from training.export import export_weights


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A checkpoint of a tiny random network."""
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    export_weights(Generator(width=4, depth=1).state_dict(), "devudp", {}, path)
    return str(path)


@pytest.fixture
def pairs(tmp_path: Path) -> list[str]:
    """Three dark images and their references as the set "mine", as command line arguments."""
    make_images(tmp_path / "gt", 3, seed=1)
    (tmp_path / "dark").mkdir()
    for path in (tmp_path / "gt").iterdir():
        with Image.open(path) as image:
            image.point(lambda value: value // 4).save(tmp_path / "dark" / path.name)
    return ["--pairs", "mine", str(tmp_path / "dark"), str(tmp_path / "gt")]
