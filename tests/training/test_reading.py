"""Training and evaluation read images as restoring does: 16 bits, orientation, grey, CMYK."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.images.reading import read_image
from training.data.image_cache import ImageCache, decode, size_of
from training.data.layouts import Pair
from training.evaluation.testsets import TestSet
from training.export.scene_fit import small
from training.run.validation import read

GREY16 = "grey16.png"


def write_all(folder: Path) -> list[Path]:
    """Images of 40x24 pixels in all kinds that are decoded differently, most of them turned."""
    rng = np.random.default_rng(0)
    wide = np.linspace(0.1, 0.9, 40)[None, :].repeat(24, 0) + rng.normal(0, 0.02, (24, 40))
    grey, grey16 = (np.round(wide * top).astype(kind) for top, kind in
                    ((255, np.uint8), (65535, np.uint16)))  # fmt: skip
    colour = np.stack([grey, 255 - grey, grey // 2], 2)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey16).save(folder / GREY16)
    Image.fromarray(grey16).save(folder / "turned16.png", exif=exif)
    Image.fromarray(grey16).save(folder / "grey16.tif")
    Image.fromarray(grey).save(folder / "grey.png")
    for name in ("turned.jpg", "turned.png", "turned.webp", "turned.tif"):
        Image.fromarray(colour).save(folder / name, exif=exif)
    Image.fromarray(colour).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(colour).convert("P").save(folder / "palette.png")
    Image.fromarray(np.dstack([colour, grey])).save(folder / "alpha.png")
    return sorted(folder.iterdir())


def test_every_kind_is_read_as_restoring_reads_it(tmp_path: Path):
    for path in write_all(tmp_path):
        expected = read_image(path).pixels[0].expand(3, -1, -1).permute(1, 2, 0).numpy() * 255
        found = decode(path)
        assert found.dtype == np.uint8 and np.abs(found - expected).max() <= 0.5001, path.name
        assert size_of(path) == (found.shape[1], found.shape[0]), path.name
        assert ("turned" in path.name) == (found.shape == (40, 24, 3)), path.name


def test_16_bit_grey_is_not_white(tmp_path: Path):
    write_all(tmp_path)
    exact = np.asarray(Image.open(tmp_path / GREY16)) / 257
    for name in (GREY16, "grey16.tif"):
        assert np.abs(decode(tmp_path / name)[..., 1] - exact).max() <= 0.5001


def test_the_cache_holds_turned_images(tmp_path: Path):
    paths = write_all(tmp_path)
    cache = ImageCache(paths, 10**7)
    assert set(cache.places) == set(paths)
    assert all(np.array_equal(cache.read(path), decode(path)) for path in paths)


@pytest.mark.parametrize("name", [GREY16, "turned.png"])
def test_whoever_reads_images_reads_them_so(name: str, tmp_path: Path):
    write_all(tmp_path)
    path = tmp_path / name
    expected = torch.from_numpy(decode(path)).permute(2, 0, 1)
    assert torch.equal((read(path)[0] * 255).round().byte(), expected)
    assert torch.equal((small(path) * 255).round().byte(), expected)
    for side in TestSet("s", []).read_pair(Pair("p", path, path)):
        assert np.array_equal(side, decode(path))
