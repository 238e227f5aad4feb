"""Finding a tile in an image (tiles.py), without a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.host.fakes import load_pack


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return load_pack(monkeypatch, "old", str(tmp_path)).module("nodes.tiles")


def batch(*shape: int) -> torch.Tensor:
    """B,C,H,W as the host has them in memory: channels last."""
    return torch.rand(shape[0], shape[2], shape[3], shape[1]).movedim(-1, 1)


@pytest.mark.parametrize("copied", [False, True])
def test_tiles_are_found_by_memory_or_by_their_pixels(tiles: Any, copied: bool) -> None:
    images = batch(3, 3, 50, 70)
    for place in [(0, 0, 0), (1, 7, 30), (2, 30, 50)]:
        number, top, left = place
        tile = images[number : number + 1, :, top : top + 20, left : left + 20]
        assert tiles.find_tile(tile.clone() if copied else tile, images) == place


def test_a_tile_of_another_image_is_not_found(tiles: Any) -> None:
    images = batch(1, 3, 50, 70)
    assert tiles.find_tile(batch(1, 3, 20, 20), images) is None
    assert tiles.find_tile(batch(1, 3, 80, 20), images) is None
    changed = images[:, :, 5:25, 5:25].clone()
    changed[0, 1, 19, 19] += 1e-6
    assert tiles.find_tile(changed, images) is None


def test_memory_tells_flat_parts_apart_and_is_not_believed_blindly(tiles: Any) -> None:
    flat = torch.zeros(1, 40, 60, 3).movedim(-1, 1)
    assert tiles.find_tile(flat[..., 11:31, 23:43], flat) == (0, 11, 23)
    top, left = tiles.find_tile(flat[..., 11:31, 23:43].clone(), flat)[1:]
    assert 0 < top < 20 and 0 < left < 40  # somewhere inside, away from the borders
    other = batch(1, 3, 40, 60)
    assert tiles.find_tile(other[..., 11:31, 23:43], flat) is None


def test_half_precision_images_are_found(tiles: Any) -> None:
    """Newer hosts keep images in half precision and call models with float32 tiles."""
    images = batch(1, 3, 50, 70).half()
    tile = images[..., 9:29, 31:51].float()
    assert tiles.find_tile(tile, images) == (0, 9, 31)


def test_surroundings_end_at_the_image_and_keep_the_networks_rhythm(tiles: Any) -> None:
    image = torch.zeros(3, 300, 500)
    tile = torch.zeros(1, 3, 100, 100)
    context = tiles.with_context(tiles.Place(0, 130, 450), tile[..., :50], image, 72, 4)
    assert context.rows == slice(56, 300) and context.columns == slice(376, 500)
    assert context.inner_rows == slice(74, 174) and context.inner_columns == slice(74, 124)
    edge = tiles.with_context(tiles.Place(0, 0, 0), tile, image, 72, 4)
    assert edge.rows == slice(0, 172) and edge.inner_rows == slice(0, 100)
