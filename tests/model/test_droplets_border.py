"""Droplets that the image's border cuts: two pixels wide are enough there."""

from __future__ import annotations

import pytest
import torch

from devudp_model.engine.droplets import BORDER, Sides, heal

from .engine_network import random_image


@pytest.mark.parametrize(("row", "column"), [(0, 30), (28, 0), (78, 40), (40, 98), (1, 1)])
def test_a_spot_of_2x2_pixels_is_healed_at_the_border_only(row: int, column: int) -> None:
    image = 0.3 * random_image(1, 3, 80, 100)
    output, beyond = 2 * image, torch.zeros(1, 1, 80, 100)
    spot = (..., slice(row, row + 2), slice(column, column + 2))
    output[spot], beyond[spot] = 1.0, 1.0
    healed = heal(output, image, beyond)
    assert healed[spot].max() < 0.8
    inside = Sides(False, False, False, False)  # a part from the middle of an image
    assert torch.equal(heal(output, image, beyond, inside), output)


def test_a_line_or_a_spot_away_from_the_border_stays() -> None:
    image = 0.3 * random_image(1, 3, 80, 100)
    output, beyond = 2 * image, torch.zeros(1, 1, 80, 100)
    beyond[..., 0, 10:60] = 1  # one pixel wide
    beyond[..., BORDER + 2 : BORDER + 4, 80:82] = 1
    assert torch.equal(heal(output, image, beyond), output)
