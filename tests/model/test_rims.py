"""Dark and coloured rims round lamps are filled, and nothing else is."""

import pytest
import torch
from torch import Tensor

from devudp_model.ops.rims import FADE, LIFT, fill_rims, liftable


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


def test_nothing_is_lifted_in_daylight_and_what_is_black_stays_black() -> None:
    """Without more light, what became darker became sharper. A post before the sky is no rim."""
    own, own_far, far = torch.tensor([[0.2, 0.2, 0.002, 0.0], [0.2] * 4, [0.2, 0.4, 0.4, 0.0]])
    share = liftable(own, own_far, far)
    assert share[0] == 0 and share[1] == 1 and 0 < share[2] < 0.11 and share[3] == 0
    assert liftable(own, 0 * own_far, 0 * far).isfinite().all()
    image, output = lamp_beside(0.1, 0.1).clone(), lamp_beside(0.3, 0.3, 1.0).clone()
    image[..., 72:84], output[..., 72:84] = 0.001, 0.004
    assert fill_rims(image, output)[..., 75:81].max() < 0.02


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
