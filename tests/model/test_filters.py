"""The local filters: of windows, detail, dots, white, colours; and how noise is measured."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from devudp_model.ops.detail import detail_transfer
from devudp_model.ops.filters import (
    CLIPPING,
    FILTERS,
    FilterName,
    fill_dots,
    noise_variance,
    own_colours,
    sharpen,
)
from devudp_model.ops.fringes import calm_colours
from devudp_model.ops.light import from_light, to_light
from devudp_model.ops.rims import FADE, LIFT, fill_rims
from devudp_model.ops.windows import wide_mean, window_max, window_mean


def random_image(*shape: int, seed: int = 0) -> Tensor:
    """In [0.2, 0.8]: an exposure match clips none of it."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 0.6 + 0.2


def test_low_light_recovers_an_affine_change_of_exposure() -> None:
    """Where the model only changes gain and offset, the result is the model's image."""
    image = random_image(1, 3, 60, 50) * 0.2
    output = 3 * image + 0.1
    result = detail_transfer(image, output, torch.full((1, 3, 1, 1), 1e-8))
    torch.testing.assert_close(result, output, atol=1e-3, rtol=0)


def test_deblur_makes_fewer_coloured_fringes() -> None:
    image, grey = random_image(1, 3, 9, 9), random_image(1, 1, 9, 9, seed=1) - 0.5
    torch.testing.assert_close(calm_colours(image, image + grey), image + grey)
    output = image + torch.tensor([0.3, 0.0, 0.0]).view(1, 3, 1, 1)
    added = torch.tensor([0.2, 0.05, 0.05]).view(1, 3, 1, 1)
    torch.testing.assert_close(calm_colours(image, output), image + added)


def test_a_dot_is_filled_as_far_as_its_surroundings_are_white_and_the_input_lacks_it() -> None:
    def filled(around: float, given: float, given_around: float) -> float:
        """What becomes of a dot of 0.2 in one colour."""
        image = torch.full((1, 3, 9, 9), given_around)
        output = torch.full((1, 3, 9, 9), around)
        image[..., 4, 4], output[0, 1, 4, 4] = given, 0.2
        result = fill_dots(image, output)
        assert torch.equal(result[:, ::2], output[:, ::2])
        return result[0, 1, 4, 4].item()

    assert filled(1.0, 0.6, 0.6) == pytest.approx(1.0)
    assert filled(0.9, 0.6, 0.6) == pytest.approx(0.2 + 0.5 * 0.7)  # half white
    assert filled(0.8, 0.6, 0.6) == pytest.approx(0.2)  # not white
    # The input's own dip, a quarter of its surroundings, may be twice as deep.
    assert filled(1.0, 0.6, 0.8) == pytest.approx(0.5)
    assert filled(1.0, 0.4, 0.8) == pytest.approx(0.2)
    # In black, what is less than a grey level is no dip.
    assert filled(1.0, 0.0, 0.25 / 255) == pytest.approx(0.5)


def test_dots_are_filled_in_each_image_of_a_batch() -> None:
    output = torch.cat([torch.full((1, 3, 9, 9), 0.1), torch.ones(1, 3, 9, 9)])
    output[1, 0, 4, 4] = 0.0
    result = fill_dots(torch.full_like(output, 0.5), output)
    torch.testing.assert_close(result, torch.stack([output[0], torch.ones(3, 9, 9)]))


def test_what_the_input_has_is_no_dot() -> None:
    """Letters on white paper, which the model makes sharper; and spots where it is not white."""
    image, output = torch.full((1, 3, 20, 20), 0.6), torch.ones(1, 3, 20, 20)
    image[..., 8:10, 3:17], output[..., 8:10, 3:17] = 0.36, 0.2
    torch.testing.assert_close(fill_dots(image, output), output)
    grey = torch.full((1, 3, 20, 20), 0.6)
    grey[0, 0, 10, 10] = 0.1
    torch.testing.assert_close(fill_dots(torch.full_like(grey, 0.5), grey), grey)


def test_window_mean_at_the_borders_is_over_what_there_is() -> None:
    x = torch.arange(12.0).view(1, 1, 3, 4)
    assert window_mean(x, 1)[0, 0, 0, 0] == x[0, 0, :2, :2].mean()
    assert window_mean(x, 50)[0, 0, 2, 3] == x.mean()  # a window larger than the image


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (30, 41)])
def test_window_max_is_over_what_there_is(size: tuple[int, int]) -> None:
    x = -random_image(2, 3, *size)
    assert torch.equal(window_max(x, 3), F.max_pool2d(x, 7, stride=1, padding=3))


def test_noise_is_measured_beside_edges() -> None:
    torch.manual_seed(0)
    image = torch.zeros(2, 3, 200, 300)
    image[..., 100:, 150:] = 0.7
    sigma = torch.tensor([0.01, 0.02, 0.04]).view(1, 3, 1, 1)
    noisy = image + sigma * torch.randn_like(image)
    torch.testing.assert_close(noise_variance(noisy).sqrt(), sigma, rtol=0.05, atol=0)
    assert noise_variance(torch.rand(1, 3, 1, 9)).tolist() == [[[[0.0]]] * 3]


def test_noise_is_measured_on_evenly_spaced_squares() -> None:
    """A large image costs no more than one of half a megapixel: every second square is taken."""
    noise = 0.1 * torch.randn(1, 1, 1024, 1030, generator=torch.Generator().manual_seed(0))
    taken = torch.zeros(1024, dtype=torch.bool)
    taken[0::4] = taken[1::4] = True
    assert noise_variance(noise * ~taken[:, None]).item() == 0
    assert noise_variance(noise * taken[:, None]).item() == pytest.approx(0.01, rel=0.05)


def lamp_with_rim() -> tuple[Tensor, Tensor]:
    """A lamp in the dark, as it is and as the network gives it: a dark ring round it, in fog."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    distance = ((y - 32) ** 2 + (x - 32) ** 2).sqrt()
    image = torch.where(distance < 6, 0.95, 0.03).expand(1, 3, 64, 64)
    output = torch.where(distance < 6, 1.0, torch.where(distance < 11, 0.02, 0.25))
    return image, output.expand(1, 3, 64, 64)


def test_rims_round_lamps_are_filled() -> None:
    image, output = lamp_with_rim()
    filled = fill_rims(image, output)
    assert filled[0, 0, 32, 20:45].min() > 0.2 and output.min() < 0.05
    assert torch.equal(filled[..., :12, :12], output[..., :12, :12])  # far away
    assert filled.max() == output.max()


def test_a_coloured_line_in_a_rim_does_not_colour_all_of_it() -> None:
    """A brown sky, a dark rim, and a blue line in it: what is filled is brown."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    distance = ((y - 32) ** 2 + (x - 32) ** 2).sqrt()
    brown, blue = torch.tensor([0.3, 0.2, 0.1]), torch.tensor([0.05, 0.05, 0.6])
    image = torch.where(distance[None] < 6, 0.95, brown[:, None, None] / 3)[None]
    output = torch.where(distance[None] < 11, 0.02, brown[:, None, None])
    output = torch.where((distance[None] - 10).abs() < 1, blue[:, None, None], output)
    output = torch.where(distance[None] < 6, 1.0, output)[None]
    red, green, blue = fill_rims(image, output)[0, :, 32, 39:41]  # seven and eight pixels away
    assert red.min() > 0.2 and green.min() > 0.12
    assert blue.max() < 0.75 * red.min()


def test_a_tint_that_only_the_result_has_goes_from_beside_a_lamp() -> None:
    """A blue glow beside a lamp before a brown sky: it goes, unless the input has it, too."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    distance = ((y - 32) ** 2 + (x - 32) ** 2).sqrt()[None]
    brown, blue = torch.tensor([0.3, 0.2, 0.1]), torch.tensor([0.18, 0.12, 0.4])
    lamp, beside = distance < 6, (distance >= 7) & (distance < 11)
    sky = torch.where(beside, blue[:, None, None], brown[:, None, None])
    output = torch.where(lamp, 1.0, sky)[None]
    plain = torch.where(lamp, 0.95, brown[:, None, None] / 3)[None]
    glowing = torch.where(lamp, 0.95, sky / 3)[None]
    there = beside.expand(3, -1, -1)
    calm = fill_rims(plain, output)[0][there].view(3, -1)
    assert calm[2].max() < 0.9 * calm[0].min()
    assert calm.mean() > 0.98 * output[0][there].mean(), "as bright as it was"
    kept = fill_rims(glowing, output)[0][there].view(3, -1)
    assert kept[2].min() > 0.8 * 0.4
    far = torch.maximum((y - 32).abs(), (x - 32).abs()).expand(3, -1, -1) > 24
    assert torch.equal(fill_rims(plain, output)[0][far], output[0][far])


@pytest.mark.parametrize("name", list(FILTERS))
def test_a_filter_looks_no_further_than_it_says(name: FilterName) -> None:
    """To the last bit: bands of rows are cut by it. Lamps and coloured noise on near-black."""
    function, reach, _ = FILTERS[name]
    rng, changed = torch.Generator().manual_seed(3), False
    for _ in range(6):
        image = 0.02 * torch.rand(1, 3, 130, 40, generator=rng)
        output = 0.1 * torch.rand(1, 3, 130, 40, generator=rng)
        for top in torch.randint(4, 120, (3,), generator=rng).tolist():
            image[..., top : top + 5, 9:16], output[..., top - 2 : top + 7, 12:22] = 0.9, 1.0
        whole = function(image, output)
        changed |= not torch.equal(whole, output)
        for start in range(0, 130, 13):
            top, stop = max(start - reach, 0), start + 5
            rows = slice(top, min(stop + reach, 130))
            part = function(image[:, :, rows], output[:, :, rows])[:, :, start - top :][:, :, :5]
            assert torch.equal(part, whole[:, :, start:stop]), start
    assert changed


def test_rims_of_the_input_stay_and_so_does_all_without_lamps_or_in_the_light() -> None:
    image, output = lamp_with_rim()
    own = torch.where(output < 0.1, 0.0, torch.where(output > 0.9, 0.95, 0.06))
    assert fill_rims(own, output)[0, 0, 32, 41] < 0.021 + LIFT, "much darker, as in the image"
    assert torch.equal(fill_rims(image * 0.35, output), output)
    assert torch.equal(fill_rims(image.clamp(min=0.5), output), output)


def lamp_beside(ring: float, sky: float, lamp: float = 0.95, size: float = 6) -> Tensor:
    """A lamp with a ring round it, up to 18 pixels away from its middle, before a sky."""
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    distance = ((y - 64) ** 2 + (x - 64) ** 2).sqrt()
    image = torch.where(distance < size, lamp, torch.where(distance < 18, ring, sky))
    return image.expand(1, 3, 128, 128)


@pytest.mark.parametrize("colour", [(1.0, 1.0, 1.0), (1.0, 0.8, 0.6)])
def test_a_rim_is_not_darker_by_a_larger_difference(colour: tuple[float, float, float]) -> None:
    """Beside the sky the ring has the ratio of the image, but brightening made its difference
    larger: most of what that is too much goes, and colours stay."""
    image, light = lamp_beside(0.06, 0.1), torch.tensor(colour).view(3, 1, 1)
    output = torch.where(image > 0.5, 1.0, light * lamp_beside(0.18, 0.26))
    filled = fill_rims(image, output)

    def dark(x: Tensor) -> float:
        return (x[0, :, 64, 73:77].mean() - x[0, :, 64, 100].mean()).item()

    assert dark(output) < dark(image) - 0.02
    assert dark(filled) > dark(image) - 0.01
    lifted = (filled - output)[0, :, 64, 73:77]
    assert lifted.min() > 0.01 and lifted.max() < LIFT + 1e-6
    torch.testing.assert_close(lifted, lifted[:1].expand(3, -1))


@pytest.mark.parametrize("sky", [0.0, 0.02])
def test_a_black_sky_round_a_lamp_has_no_glow(sky: float) -> None:
    """Though the result's lamp is larger, and so the mean of what is around it."""
    output = lamp_beside(sky, sky, 1.0, size=10)
    glow = (fill_rims(lamp_beside(0, 0), output) - output).abs().max()
    assert glow <= 0.4 * sky + 1e-6


def test_what_is_added_round_a_lamp_ends_without_an_edge() -> None:
    image, output = lamp_beside(0.06, 0.1, size=4), lamp_beside(0.2, 0.3, 1.0, size=4)
    added = (fill_rims(image, output) - output)[0, 0, 64, 69:81]
    assert added[0] > 0.9 * LIFT and added[-1] < LIFT / 2
    assert added.diff().abs().max() < 1.5 * LIFT / (2 * FADE + 1)


def test_wide_rims_are_filled_to_what_is_farther_away() -> None:
    """Exposure makes them wide; but what is darker in the image stays darker."""
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    distance = ((y - 64) ** 2 + (x - 64) ** 2).sqrt()
    image = torch.where(distance < 5, 0.95, 0.1).expand(1, 3, 128, 128).clone()
    output = torch.where(distance < 5, 1.0, torch.where(distance < 16, 0.05, 0.3))
    output = output.expand(1, 3, 128, 128)
    filled = fill_rims(image, output)
    assert filled[0, 0, 64, 70:75].min() > 0.25, "up to 12 pixels from a lamp"
    assert torch.equal(filled[..., 64, 96:], output[..., 64, 96:])
    image[..., 70:], dark_tree = 0.02, output.clone()
    dark_tree[..., 70:] = 0.05
    tree = fill_rims(image, dark_tree)[0, 0, 64, 72:76]
    assert tree.min() >= 0.05 and tree.max() < 0.15
    small = torch.where(distance < 2, 0.8, 0.1).expand(1, 3, 128, 128)
    assert fill_rims(small, output)[0, 0, 64, 68:72].min() > 0.25, "a small lamp, too"


def test_the_mean_of_the_surroundings_counts_what_there_is() -> None:
    ramp = torch.arange(90.0).view(1, 1, 1, 90).expand(1, 1, 80, 90)
    found = wide_mean(ramp)
    torch.testing.assert_close(found[0, 0, :, 45], torch.full((80,), 45.0))
    torch.testing.assert_close(wide_mean(torch.ones(1, 2, 50, 9)), torch.ones(1, 2, 50, 9))
    part = wide_mean(ramp[..., 5:])  # 36 pixels away, nothing more
    torch.testing.assert_close(found[..., 41:], part[..., 36:])


def test_noise_of_hidden_pixels_does_not_count() -> None:
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = torch.zeros(1, 1, 64, 64)
    seen[..., :20] = 1
    image = noise * torch.where(seen > 0, 0.02, 0.3)
    assert noise_variance(image, seen).sqrt().item() == pytest.approx(0.02, rel=0.1)
    assert noise_variance(image, seen * 0).item() == 0


def test_edges_become_steeper_and_noise_stays() -> None:
    edge = torch.full((1, 3, 40, 40), 0.3)
    edge[..., 20:] = 0.7
    soft = window_mean(edge, 2)
    result = sharpen(soft, soft)

    def steepest(x: Tensor) -> float:
        return x.diff(dim=-1).max().item()

    assert steepest(result) > 1.25 * steepest(soft)
    assert soft.min() <= result.min() and result.max() <= soft.max(), "no halos"
    assert torch.equal(result[..., :10], soft[..., :10])
    noise = 0.5 + 0.01 * torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    assert (sharpen(noise, noise) - noise).std() < 0.05 * (noise - 0.5).std()


def scene_in_colours() -> Tensor:
    """Light of 1,3,64,64: fields of many colours and brightnesses."""
    fields = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.05
    return fields.repeat_interleave(16, -2).repeat_interleave(16, -1)


def saturation(x: Tensor) -> float:
    light = to_light(x)
    return (light / light.mean(1, keepdim=True)).std().item()


def test_another_exposure_changes_no_colour() -> None:
    light = scene_in_colours()
    image, output = from_light(light * 0.1).clamp(min=0), from_light(light)
    torch.testing.assert_close(own_colours(image, output), output, atol=0.03, rtol=0)


def test_half_of_the_colours_that_a_network_took_come_back() -> None:
    light = scene_in_colours()
    image, scene = from_light(light * 0.1).clamp(min=0), from_light(light)
    grey = light.mean(1, keepdim=True)
    pale = from_light(grey + 0.3 * (light - grey))
    result = own_colours(image, pale)
    assert saturation(pale) + 0.25 * (saturation(scene) - saturation(pale)) < saturation(result)
    assert saturation(result) < saturation(scene)
    torch.testing.assert_close(to_light(result).mean(1), to_light(pale).mean(1))


def test_the_colours_of_nearly_nothing_are_not_taken() -> None:
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) / 255
    noise[:, 1] *= 2  # a sensor's green
    grey = torch.full((1, 3, 64, 64), 0.3)
    assert (own_colours(noise, grey) - grey).abs().max() < 0.02


@pytest.mark.parametrize("name", CLIPPING)
def test_what_is_not_clipped_again_is_clipped(name: FilterName) -> None:
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    image[:, 0, :20] = 0  # the input's colours would take the other channels beyond white
    found = FILTERS[name].function(image, image.clone().flip(3).mul_(8).clamp_(0, 1))
    assert found.min() >= 0 and found.max() == 1
