"""Droplets: white disks that the perceptual model makes of its own, and how they are healed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from devudp_model import read_image
from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.engine import droplets
from devudp_model.engine.droplets import CELL, Droplets, boxes, excess, heal, runs
from devudp_model.engine.network import Network
from devudp_model.network.generator import Generator, pad_to_stride, standardize

ROOT = Path(__file__).parents[2]


def scene(size: int = 120) -> tuple[Tensor, Tensor]:
    """An input, and the model's image as it should be: twice as bright, other colours."""
    across = torch.linspace(0.1, 0.3, size)
    image = (across[:, None] * across[None] * 5)[None, None].repeat(1, 3, 1, 1)
    scale = torch.tensor([2.0, 1.5, 1.2])[:, None, None]
    return image, image * scale + 0.05


def disk(size: int, y: int, x: int, radius: float) -> Tensor:
    rows, columns = torch.arange(size)[:, None] - y, torch.arange(size)[None] - x
    return (rows * rows + columns * columns <= radius * radius)[None, None]


@pytest.mark.parametrize("place", [(60, 60), (0, 70), (119, 119)])
def test_a_droplet_gets_what_the_input_has_there(place: tuple[int, int]):
    image, right = scene()
    spot, skirt = disk(120, *place, 5), disk(120, *place, 9)
    wrong = torch.where(skirt, torch.tensor([0.0, 1.0, 0.2])[:, None, None], right)
    wrong = torch.where(spot, torch.ones(1), wrong)
    healed = heal(wrong, image, spot.float())
    assert (healed - right).abs().max() < 0.02 < (wrong - right).abs().max()
    far = ~disk(120, *place, 20).expand_as(right)
    assert torch.equal(healed[far], right[far])


def test_rounding_decides_nothing():
    """Near the limit, a little more changes a little."""
    image, right = scene()
    wrong = torch.where(disk(120, 60, 60, 5), torch.ones(1), right)
    head = torch.zeros(1, 3, 120, 120)
    healed = []
    for value in (6.99, 7.0, 7.01, 8.5, 8.51, 10.0, 30.0):
        head[disk(120, 60, 60, 5).expand_as(head)] = value
        healed.append(heal(wrong, image, excess(head)))
    assert torch.equal(healed[0], wrong) and torch.equal(healed[0], healed[1])
    assert torch.equal(healed[5], healed[6])
    for one, other in ((1, 2), (3, 4)):
        assert 0 < (healed[one] - healed[other]).abs().max() < 0.01


def test_lines_and_lamps_stay():
    image, right = scene()
    line = torch.zeros(1, 1, 120, 120, dtype=torch.bool)
    line[..., 60:62, 20:90] = True
    assert torch.equal(heal(right, image, line.float()), right)
    lamp = disk(120, 60, 60, 6)
    image = torch.where(lamp, torch.ones(1), image)
    assert torch.equal(heal(right, image, lamp.float()), right)


def test_with_nothing_sound_around_it_stays():
    image, right = scene()
    everywhere = torch.ones(1, 1, 120, 120, dtype=torch.bool)
    assert torch.equal(heal(right, image, everywhere.float()), right)


def test_boxes_hold_every_place_and_do_not_touch():
    rng = torch.Generator().manual_seed(5)
    places = torch.stack([torch.randint(side, (6,), generator=rng) for side in (900, 1400)], 1)
    found = list(boxes(places, 900, 1400))
    claimed = torch.zeros(900, 1400, dtype=torch.int64)
    for top, bottom, left, right in found:
        claimed[top:bottom, left:right] += 1
    assert claimed.max() == 1 and len(found) > 1
    for y, x in places.tolist():
        window = claimed[max(y - CELL, 0) : y + CELL, max(x - CELL, 0) : x + CELL]
        assert window.min() == 1


@pytest.mark.parametrize("place", [(100, 130), (1, 3), (199, 150)])
def test_healing_looks_no_further_than_its_surroundings(place: tuple[int, int]):
    """To the last bit what healing the whole image gives."""
    torch.manual_seed(0)
    image, output = torch.rand(2, 1, 3, 200, 260)
    rows = torch.zeros(1, 3, 200, 260)
    top, left = (max(at - 3, 0) for at in place)
    rows[..., top : top + 7, left : left + 6] = 20
    right = heal(output, image, excess(rows))
    found = Droplets(200 * 260)
    found.look(0, 0, rows)
    found.heal(output, image)
    assert torch.equal(output, right)


def test_what_is_everywhere_is_no_droplet():
    places = torch.cartesian_prod(torch.arange(0, 2000, 50), torch.arange(0, 2000, 50))
    assert list(boxes(places, 2000, 2000)) == []


@pytest.mark.parametrize(("side", "healed"), [(60, True), (70, False)])
def test_more_than_a_share_is_no_droplet_and_takes_no_memory(side: int, healed: bool):
    """`CELL` squared is 64 x 64."""
    image, right = scene()
    output = torch.where(disk(120, 60, 60, 5), torch.ones(1), right)
    found, rows = Droplets(120 * 120), torch.zeros(1, 3, 120, 120)
    rows[..., :side, :side] = 20
    found.look(0, 0, rows)
    assert bool(found.found) == healed
    before = output.clone()
    found.heal(output, image)
    assert torch.equal(output, before) != healed


def test_what_strips_found_lies_in_one_block_a_frame():
    """Small tensors kept of each strip, between large ones, left 600 MB of holes in the memory."""
    found, rows = Droplets(2 * 300 * 40), torch.zeros(1, 3, 10, 40)
    rows[0, 1, 4, 7], rows[0, 2, 4, 9] = 8.5, -20
    for frame, start in ((1, 20), (0, 290), (1, 0)):
        found.look(frame, start, rows)
    assert {frame: type(block) for frame, block in found.found.items()} == dict.fromkeys(
        (0, 1), bytearray
    )
    places, values = found.points(1, torch.device("cpu"))
    assert places.tolist() == [[24, 7], [24, 9], [4, 7], [4, 9]]
    assert values.tolist() == [0.5, 1, 0.5, 1]


def test_runs():
    assert list(runs({1, 2, 4, 7, 11})) == [(1, 4), (7, 7), (11, 11)]
    assert list(runs({0, 3})) == [(0, 0), (3, 3)]


@pytest.mark.parametrize("memory", [None, 5 * 10**7])
def test_strips_are_healed_as_the_whole(memory: int | None, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(3)
    generator = Generator("devudp", width=4, depth=1).eval().requires_grad_(False)
    image = torch.rand(1, 3, 150, 203)
    before = head(generator, image)
    strongest = before.abs().amax(1, keepdim=True)
    limit = strongest.flatten().topk(12).values[-1].item()  # beyond it in eleven pixels
    for name, value in (("LIMIT", (limit, limit + 0.01)), ("CORE", 0), ("SKIRT", 1), ("AROUND", 8)):
        monkeypatch.setattr(droplets, name, value)
    output = Network(generator, torch.float32)(image, memory=memory)
    raw = (before.tanh() + 1) / 2
    right = heal(raw, image, excess(before))
    assert (output - right).abs().max() < 1e-4
    assert (right - raw).abs().max() > 0.05


def head(generator: Generator, image: Tensor) -> Tensor:
    """The output before its activation."""
    with torch.inference_mode():
        before = generator.body(standardize(pad_to_stride(image * 2 - 1)))
    return before[..., : image.shape[2], : image.shape[3]]


@pytest.mark.slow
def test_the_bundled_weights_leave_none():
    """They make some in nearly every image."""
    generator = load_checkpoint(bundled("devudp")).generator
    image = read_image(ROOT / "samples/dark_coffee.jpg").pixels[..., :200, :300]
    before = head(generator, image)
    assert excess(before).max() == 1
    output = Network(generator, torch.float32)(image)
    unhealed = (before.tanh() + 1) / 2
    changed = (output - unhealed).abs().amax(1) > 0.1
    assert 30 < changed.sum() < 3000
    assert torch.equal(output, Network(generator, torch.float32)(image, memory=7 * 10**7))
