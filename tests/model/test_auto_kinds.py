"""Task `auto` on what is no plain photograph: shake, nights, text, noise, fades, frames, alpha."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from devudp_model.images.reading import read_image
from devudp_model.ops.degrade import (
    Shake,
    apply_shake,
    darken,
    degrade,
    shake_path,
    to_linear,
    to_srgb,
)
from devudp_model.ops.dtypes import to_unit
from devudp_model.restoring.auto import choose
from devudp_model.restoring.blur import measure_blur
from devudp_model.restoring.first_look import telling_frames
from devudp_model.restoring.lamps import connected, lamps_of, paths_of, written

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def good() -> Tensor:
    image = to_unit(read_image(ROOT / "samples/good/flowers.jpg").pixels)
    return image[..., :384, 64:448]


def in_8_bits(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round() / 255


def noisy(image: Tensor, levels: float, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return in_8_bits(image + torch.randn(image.shape, generator=rng) * levels / 255)


def ghosted(image: Tensor, down: int, right: int) -> Tensor:
    """Two exposures in one, as of a hand that held still twice."""
    there = torch.tensor([[right, down, 0.0]]).expand(9, 3)
    path = torch.cat([torch.zeros(9, 3), there]) / max(down, right)
    return apply_shake(image, Shake(path - path.mean(0), (0.0, 0.0), max(down, right), 0.0, 0.0))


def paused(image: Tensor, extent: float, seed: int) -> Tensor:
    """A hand's path, which holds still for two fifths of the time."""
    rng = torch.Generator().manual_seed(seed)
    path = shake_path(rng, 24)
    path = torch.cat([path, path[12:13].expand(16, 3)])
    return apply_shake(image, Shake(path - path.mean(0), (0.1, 0.2), extent, extent / 4, 0.0))


@pytest.mark.parametrize("shift", [(0, 14), (14, 0), (8, 8)])
def test_ghosts_are_shake(good: Tensor, shift: tuple[int, int]) -> None:
    """Their edges are edges still, so neighbours differ as in a sharp image."""
    shaken = noisy(ghosted(good, *shift), 1)
    choice = choose(shaken)
    assert choice.task == "deblur" and "shaken" in choice.reason
    assert choice.echo > choose(good).echo + 0.1


@pytest.mark.parametrize(("extent", "seed"), [(14.0, 0), (20.0, 1), (30.0, 2), (38.0, 3)])
def test_a_hand_that_paused_is_found(good: Tensor, extent: float, seed: int) -> None:
    shaken = paused(good, extent, seed)
    assert choose(noisy(shaken, 1)).task == "deblur"
    dark = choose(noisy(darken(shaken, 0.06), 1))
    assert dark.task == "joint" and "dark" in dark.reason


@pytest.mark.parametrize("angle", [0.0, 0.5, 1.2, math.pi / 2])
def test_a_straight_movement_has_a_direction(good: Tensor, angle: float) -> None:
    time = torch.linspace(-0.5, 0.5, 17)
    path = torch.stack([time * math.cos(angle), time * math.sin(angle), 0 * time], 1)
    moved = apply_shake(good, Shake(path, (0.0, 0.0), 16.0, 0.0, 0.0))
    before, after = (measure_blur(x.mean(1, keepdim=True)) for x in (good, moved))
    assert after.direction > before.direction + 0.2
    assert "shaken" in choose(moved).reason


def test_what_repeats_is_no_ghost(good: Tensor) -> None:
    """Windows, bricks, fences: sharp, though everything is there many times."""
    y, x = torch.meshgrid(torch.arange(384), torch.arange(384), indexing="ij")
    for period in (8, 12, 20):
        windows = ((x % period < period // 2) & (y % period < 2 * period // 3)).float()
        wall = good * 0.6 + 0.3 * windows
        assert choose(noisy(wall, 1)).task is None, period


def page(ink: int, paper: int) -> Image.Image:
    image = Image.new("L", (400, 300), paper)
    draw = ImageDraw.Draw(image)
    for line in range(8, 290, 14):
        draw.text((10, line), "the quick brown fox jumps over the lazy dog " * 2, fill=ink)
    return image


def to_tensor(image: Image.Image) -> Tensor:
    pixels = torch.tensor(list(image.convert("L").tobytes()), dtype=torch.uint8)
    return pixels.view(1, 1, image.height, image.width).expand(-1, 3, -1, -1)


@pytest.mark.parametrize(("ink", "paper"), [(0, 255), (20, 240), (255, 0), (200, 25)])
def test_text_stays_as_it_is(ink: int, paper: int) -> None:
    choice = choose(to_tensor(page(ink, paper)))
    assert choice.task is None and choice.reason.startswith("a page of text")


def test_a_scanned_page_stays() -> None:
    choice = choose(noisy(to_unit(to_tensor(page(30, 240))), 3))
    assert choice.reason == "bright enough, sharp: left as it is"


@pytest.mark.parametrize("size", [(120, 160), (480, 640)])
@pytest.mark.parametrize("levels", [0.6, 1.5, 5.0])
def test_noise_alone_is_left_alone(size: tuple[int, int], levels: float) -> None:
    """A lens cap, with the light of a sensor's edge of one level."""
    glow = torch.linspace(0, 1, size[1]).expand(1, 3, *size) / 255
    for black in (torch.zeros(1, 3, *size), glow):
        choice = choose(noisy(black, levels))
        assert choice.task is None
        assert choice.reason == "very dark, hardly any information: left as it is"
    soft = F.avg_pool2d(torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1)), 5, 1)
    assert choose(in_8_bits((soft * levels * 3 + 4) / 255)).task is None
    assert choose(noisy(torch.full((1, 3, *size), 0.45), levels)).task is None


def test_what_is_left_of_a_very_dark_photograph_is_found(good: Tensor) -> None:
    choice = choose(noisy(darken(good, 0.01), 1.5))
    assert choice.task in ("low light", "joint") and choice.reason.startswith("very dark")


def test_stars_stay_on_black() -> None:
    rng = torch.Generator().manual_seed(0)
    sky = torch.zeros(1, 1, 300, 400)
    places = torch.randint(300 * 400, (120,), generator=rng)
    sky.view(-1)[places] = torch.rand(120, generator=rng) * 8
    sky = F.avg_pool2d(F.pad(sky, (1, 1, 1, 1)), 3, 1).expand(-1, 3, -1, -1)
    choice = choose(noisy(sky + 0.05, 1.5))
    assert choice.task is None and "left as it is" in choice.reason


def test_a_night_with_lights_stays_and_a_dark_photograph_does_not(good: Tensor) -> None:
    dark = noisy(darken(good, 0.04), 1)
    night = dark.clone()
    for k in range(6):
        night[..., 100 + 20 * k : 108 + 20 * k, 50 * k + 30 : 50 * k + 38] = 1.0
    assert choose(dark).task == "low light"
    choice = choose(night)
    assert choice.task is None and choice.reason.startswith("dark with bright lights, sharp")
    stamped = dark.clone()
    stamped[..., -14:-6, -120:-10:4] = 1.0
    assert choose(stamped).task == "low light", "a date is no light"


def test_a_fade_is_judged_by_its_bright_frames(good: Tensor) -> None:
    fade = torch.cat([in_8_bits(good * share) for share in (1, 1, 0.7, 0.4, 0.2, 0.1, 0.05, 0)])
    assert choose(fade).task is None
    assert choose(fade).light == choose(fade[:3]).light
    to_white = torch.cat([in_8_bits(1 - (1 - good) * share) for share in (1, 1, 0.6, 0.3, 0.1)])
    assert choose(to_white).light == choose(to_white[:3]).light
    shaken = ghosted(good, 0, 14)
    paused = torch.cat([shaken, shaken, *[noisy(shaken * 0, 1, seed) for seed in range(4)]])
    assert choose(paused) == choose(paused[:2])
    black = torch.cat([noisy(good * 0, 1, seed) for seed in range(3)])
    assert choose(black).task is None


def test_a_dark_scene_stays_dark_in_spite_of_a_flash(good: Tensor) -> None:
    dark = in_8_bits(darken(good, 0.04))
    assert choose(torch.cat([dark, dark, good, dark, dark])).task == "low light"


def test_no_frame_tells_anything() -> None:
    assert telling_frames([]) == []


def test_frames_of_one_colour_each_need_nothing() -> None:
    """A clip that only fades, from black to white."""
    frames = torch.stack([torch.full((3, 48, 64), level / 11) for level in range(12)])
    assert choose(frames).task is None


@pytest.mark.parametrize("colour", [0.0, 1.0, 0.5])
def test_hidden_pixels_and_margins_decide_nothing(good: Tensor, colour: float) -> None:
    dark = in_8_bits(darken(good, 0.04))
    margins = F.pad(dark, (8, 8, 8, 8), value=colour)
    assert choose(margins).task == "low light"
    assert choose(margins).light == pytest.approx(choose(dark).light, rel=0.05)
    y, x = torch.meshgrid(torch.arange(384), torch.arange(384), indexing="ij")
    seen = ((y - 192).square() + (x - 192).square() < 150**2).float()[None, None]
    cut_out = torch.cat([dark * seen + colour * (1 - seen), seen], 1)
    assert choose(cut_out).task == "low light"
    assert choose(cut_out) == choose(torch.cat([dark * seen + 0.3 * (1 - seen), seen], 1))
    shaken = ghosted(good, 0, 14)
    hidden = torch.cat([shaken * seen + colour * (1 - seen), seen], 1)
    assert choose(hidden).task == "deblur", "the edge of what is cut out is no edge"
    nothing = torch.cat([dark, torch.zeros_like(seen)], 1)
    assert choose(nothing).reason == "nothing is to be seen: left as it is"


def test_words_instead_of_numbers(good: Tensor) -> None:
    assert choose(good).reason == "bright enough, sharp: left as it is"
    rng = torch.Generator().manual_seed(0)
    assert choose(degrade(good, rng, blur=20.0)).reason == "bright enough, shaken: deblur"
    soft = F.interpolate(F.avg_pool2d(good, 6), size=(384, 384), mode="bicubic").clamp(0, 1)
    assert choose(soft).reason == "bright enough, blurred: deblur"
    half = choose(in_8_bits(darken(good, 0.17)))
    assert half.strength < 1
    assert half.reason == f"dark, sharp: low light, strength {half.strength:.2f}"


def test_numbers_of_threads_do_not_matter(good: Tensor) -> None:
    images = [noisy(darken(ghosted(good, 0, 14), 0.2), 1), noisy(good, 2)]
    images.append(hand_held(night_with_lamps(good, 20, 2), 20.0, 2))
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2, 4):
            torch.set_num_threads(number)
            found.append([choose(image) for image in images])
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]


def night_with_lamps(good: Tensor, lamps: int, seed: int, spread: float = 1.6) -> Tensor:
    """A dark photograph with lamps far brighter than white, in linear light."""
    rng = torch.Generator().manual_seed(seed)
    height, width = good.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    light = to_linear(good) * 0.03
    for _ in range(lamps):
        down, right, size, level = torch.rand(4, generator=rng).tolist()
        distance = ((y - down * height).square() + (x - right * width).square()).sqrt()
        lamp = (0.8 + spread * size - distance).clamp(0, 1) * (4 + 16 * level)
        light = light + lamp * torch.tensor([1.0, 0.8, 0.5]).view(1, 3, 1, 1)
    return light


def hand_held(light: Tensor, extent: float, seed: int) -> Tensor:
    """Linear light beyond white, on a hand's path; clipped by the sensor afterwards."""
    path = shake_path(torch.Generator().manual_seed(seed), 48)
    shake = Shake(path - path.mean(0), (0.0, 0.0), extent, extent / 4, 0.0)
    return noisy(apply_shake(to_srgb(light), shake).clamp(0, 1), 1)


@pytest.mark.parametrize(("extent", "seed"), [(20.0, 2), (26.0, 4), (34.0, 5)])
def test_lamps_that_are_drawn_as_paths_are_shake(good: Tensor, extent: float, seed: int) -> None:
    """Their sides are sharp, and there is hardly anything but lamps."""
    night = night_with_lamps(good, 30, seed)
    still = choose(noisy(to_srgb(night).clamp(0, 1), 1))
    assert still.task is None and still.paths < 0.03
    choice = choose(hand_held(night, extent, seed))
    assert choice.paths > 0.1
    assert choice.task == "joint" and choice.reason.startswith("dark, shaken")


def test_lamps_that_repeat_are_no_paths(good: Tensor) -> None:
    """A pattern, a collage: more alike than a hand draws."""
    night = hand_held(night_with_lamps(good, 5, 3), 24.0, 3)
    assert paths_of(to_linear(night.repeat(1, 1, 3, 3)).amax(1, keepdim=True)) < 0.04


@pytest.mark.parametrize("size", [24, 36])
def test_writing_of_light_is_no_path(size: int) -> None:
    """Titles of a film, a sign: letters recur, and are no ellipses."""
    image = Image.new("L", (800, 400), 8)
    draw = ImageDraw.Draw(image)
    words = "Directed by the quick brown fox who sees the evening lights of an eternal tree "
    for line in range(20, 360, 2 * size):
        draw.text((30, line), (words + words)[line % 9 :][: 1200 // size], fill=235, font_size=size)
    title = noisy(F.avg_pool2d(F.pad(to_unit(to_tensor(image)), [1] * 4), 3, 1), 3)
    light = to_linear(title[:, :1])
    lamps = lamps_of(light)
    assert len(lamps.first) >= 20 and written(lamps) > 0.6 and paths_of(light) == 0
    assert "sharp" in choose(title).reason


def test_without_lamps_there_are_no_paths() -> None:
    light = torch.zeros(1, 1, 90, 90)
    assert paths_of(light) == 0
    light[..., 40:60, 40:44] = 1.0
    assert len(lamps_of(light).shapes) == 1 and paths_of(light) == 0
    assert paths_of(torch.ones(1, 1, 5, 7)) == 0


def test_connected_parts_have_a_number_each() -> None:
    rows = ["##..#.", "..#.#.", "....#.", "#.###.", "......", "#....#"]
    found = torch.tensor([[c == "#" for c in row] for row in rows])
    parts = [[0, 0, 1], [0, 1], [1], [2, 1, 1, 1], [], [3, 4]]
    assert connected(found).tolist() == [number for row in parts for number in row]
    y, x = torch.meshgrid(torch.arange(60), torch.arange(60), indexing="ij")
    spiral = ((x + y) % 2 == 0) | (y == 30)  # diagonals connect
    assert connected(spiral).max() == 0
    assert len(connected(torch.zeros(5, 5, dtype=torch.bool))) == 0
