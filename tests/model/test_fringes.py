"""Coloured rims round blown-out places go; colours that the input has stay."""

import torch
from torch import Tensor

from devudp_model.ops.fringes import REACH, WHITE, calm_fringes

MIDDLE, SIDE, RADIUS = 30, 60, 8


def distance() -> Tensor:
    y, x = torch.meshgrid(torch.arange(float(SIDE)), torch.arange(float(SIDE)), indexing="ij")
    return ((y - MIDDLE) ** 2 + (x - MIDDLE) ** 2).sqrt()


def window() -> tuple[Tensor, Tensor]:
    """A grey window in a brown wall, dark and with some noise; and white in a light wall, with the
    dotted rim that the network makes."""
    inside = distance() < RADIUS
    wall = torch.tensor([0.3, 0.2, 0.12]).view(1, 3, 1, 1)
    noise = 0.01 * torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    image = torch.where(inside, 0.5, wall) + noise
    output = torch.where(inside, 1.0, 2 * wall + noise)
    for number, (y, x) in enumerate(rim().nonzero().tolist()):
        output[0, :, y, x] = 0.5
        output[0, number % 3, y, x] = 1.0
    return image, output


def rim() -> Tensor:
    return (distance() >= RADIUS) & (distance() < RADIUS + 1.5)


def saturation(x: Tensor, where: Tensor) -> Tensor:
    return (x.amax(1) - x.amin(1))[0][where]


def cold(x: Tensor) -> Tensor:
    """Green and blue: neither the wall nor the window has more of them than of grey."""
    return (x[0] - x[0].mean(0))[1:].amax(0)


def test_a_rim_that_the_input_lacks_loses_its_colours_and_nothing_else_does() -> None:
    image, output = window()
    calm = calm_fringes(image, output)
    before, after = saturation(output, rim()), saturation(calm, rim())
    assert before.min() > 0.49 and after.mean() < 0.25
    assert cold(output)[rim()].max() > 0.3 and cold(calm)[rim()].max() < 0.12
    torch.testing.assert_close(calm.mean(1), output.mean(1))
    inside, far = distance() < RADIUS - 3, distance() > RADIUS + 2 + REACH
    assert saturation(calm, inside).max() < 1e-3
    assert torch.equal(calm[..., far], output[..., far])


def test_colours_of_the_input_stay() -> None:
    """A white tube in its own red light."""
    glow = torch.exp(-((distance() - RADIUS).clamp(min=0) ** 2) / 8)
    tube = 0.6 * (distance() < RADIUS)
    image = torch.stack([0.6 * glow, tube, tube])[None]
    output = (1.6 * image).clamp(0, 1)
    output[:, :, distance() < RADIUS] = 1.0
    red = saturation(output, rim())
    assert red.min() > 0.7
    assert (saturation(calm_fringes(image, output), rim()) > 0.9 * red).all()


def test_a_bright_letter_in_colours_of_its_own_stays() -> None:
    """Thin strokes of one colour on white, as thin as a rim."""
    image = torch.full((1, 3, 40, 40), 0.5)
    image[..., 18:20, 8:32] = torch.tensor([0.45, 0.1, 0.1]).view(1, 3, 1, 1)
    output = (2 * image).clamp(0, 1)
    torch.testing.assert_close(calm_fringes(image, output), output, rtol=0, atol=0.03)


def test_without_white_nothing_changes_to_the_last_bit() -> None:
    image, output = window()
    dim = WHITE[0] * output
    assert torch.equal(calm_fringes(image, dim), dim)


def test_what_is_beyond_its_reach_changes_nothing() -> None:
    image, output = window()
    whole = calm_fringes(image, output)
    top = 20
    part = calm_fringes(image[:, :, top - REACH :], output[:, :, top - REACH :])
    assert torch.equal(part[:, :, REACH:], whole[:, :, top:])
    less = calm_fringes(image[:, :, top - REACH + 1 :], output[:, :, top - REACH + 1 :])
    assert less[:, :, REACH - 1 :].shape == whole[:, :, top:].shape
