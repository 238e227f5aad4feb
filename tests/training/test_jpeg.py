"""JPEG in torch against Pillow's."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.training.training_run import ROOT
from training.data.jpeg import jpeg


def photograph(width: int, height: int) -> Image.Image:
    path = next((ROOT / "samples").rglob("*.jpg"))
    with Image.open(path) as image:
        return image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


def by_pillow(image: Image.Image, quality: int) -> Tensor:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return to_tensor(Image.open(io.BytesIO(file.getvalue())))


@pytest.mark.parametrize("size", [(128, 96), (101, 67)])
@pytest.mark.parametrize("quality", [10, 30, 60, 90])
def test_near_pillow_s_codec(quality: int, size: tuple[int, int]):
    """Within 1.5 grey levels on average (chroma is enlarged otherwise), and much nearer than what
    coding changes."""
    image = photograph(*size)
    before, expected = to_tensor(image), by_pillow(image, quality)
    found = jpeg(before, torch.tensor([float(quality)]))
    difference = (found - expected).abs().mean() * 255
    change = (before - expected).abs().mean() * 255
    assert difference < 1.5 and difference < 0.45 * change, (difference, change)
    assert found.shape == before.shape and found.min() >= 0 and found.max() <= 1


def test_each_image_has_a_quality_of_its_own():
    image = to_tensor(photograph(64, 48)).expand(3, -1, -1, -1)
    coded = jpeg(image, torch.tensor([5.0, 50.0, 95.0]))
    errors = (coded - image).square().mean((1, 2, 3)).tolist()
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    for k, quality in enumerate((5.0, 50.0, 95.0)):
        alone = jpeg(image[k : k + 1], torch.tensor([quality]))
        torch.testing.assert_close(coded[k : k + 1], alone, atol=1 / 255, rtol=0)


def test_grey_stays_grey():
    grey = torch.full((1, 3, 24, 24), 128 / 255)
    torch.testing.assert_close(jpeg(grey, torch.tensor([30.0])), grey, atol=1e-6, rtol=0)
