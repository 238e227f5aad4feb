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
