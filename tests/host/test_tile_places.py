"""Finding a tile in an image (tiles.py), without a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from devudp_model.network.generator import STRIDE
from devudp_model.restoring.content import Region, within_frames
from devudp_model.restoring.frozen import FrozenRestorer
from devudp_model.restoring.restoration import restore
from tests.host.fakes import load_pack
from tests.model.restore_network import FP32, generator


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


def test_the_part_of_a_tile_within_a_frame(tiles: Any) -> None:
    region = Region(10, 40, 5, 60)
    tile = torch.zeros(1, 3, 20, 30)
    part = tiles.part_inside(tiles.Place(0, 0, 0), tile, region)
    assert part == (slice(0, 10), slice(0, 25), slice(10, 20), slice(5, 30))
    part = tiles.part_inside(tiles.Place(0, 30, 40), tile, region)
    assert part == (slice(20, 30), slice(35, 55), slice(0, 10), slice(0, 20))
    part = tiles.part_inside(tiles.Place(0, 15, 20), tile, region)
    assert part == (slice(5, 25), slice(15, 45), slice(0, 20), slice(0, 30))
    for outside in (tiles.Place(0, 45, 0), tiles.Place(0, 0, 61)):
        part = tiles.part_inside(outside, tile, region)
        assert not tile[..., part.inner_rows, part.inner_columns].numel()


@pytest.mark.parametrize("place", [(0, 0), (0, 60), (30, 30), (70, 90)])
def test_tiles_over_a_frame_are_pieces_of_the_whole(tiles: Any, place: tuple[int, int]) -> None:
    """As the node does it: statistics of what is within the frame, and tiles of that."""
    image = torch.zeros(1, 3, 120, 150)
    image[..., 12:108, 9:141] = torch.rand(1, 3, 96, 132) * 0.5 + 0.1
    whole = restore(image, generator(), FP32)
    region = within_frames(image)
    content = region.of(image)
    frozen = FrozenRestorer(generator(), content, FP32)
    tile = image[..., place[0] : place[0] + 50, place[1] : place[1] + 60]
    result, inside = tile.clone(), tiles.part_inside(tiles.Place(0, *place), tile, region)
    inner = result[..., inside.inner_rows, inside.inner_columns]
    at = tiles.Place(0, inside.rows.start, inside.columns.start)
    context = tiles.with_context(at, inner, content[0], frozen.overlap, STRIDE)
    wider = content[..., context.rows, context.columns]
    inner.copy_(frozen(wider, given=wider)[..., context.inner_rows, context.inner_columns])
    expected = whole[..., place[0] : place[0] + 50, place[1] : place[1] + 60]
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
