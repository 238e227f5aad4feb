"""Fixtures that several files share, of the evaluation's tests and of the data's."""

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageEnhance

from devudp_model.network.generator import Generator
from tests.training.training_run import make_both, make_images
from training.config import Config, DataConfig
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
            ImageEnhance.Brightness(image).enhance(0.25).save(tmp_path / "dark" / path.name)
    return ["--pairs", "mine", str(tmp_path / "dark"), str(tmp_path / "gt")]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    make_both(tmp_path)
    data = DataConfig(
        sharp=(str(tmp_path / "sharp"),),
        blurry=(str(tmp_path / "blurry"),),
        synthetic_blur_share=0.5,
        crop=32,
        short_side=(36, 48),
        blur_length=(2.0, 5.0),
        noise=0.2,
        tone=(0.7, 2.0),
        exposure="common",
        cache_gb=0.01,
    )
    return Config(data=data)
