"""Coloured rims round blown-out places: what the network makes of them, and the filter against it.

Where the network's image reaches white its channels do so one after the other, each with its own
rounding and its own overshoot. Round lamps, windows and reflections that leaves a rim of one or two
pixels of green, red and blue, often dotted, which the input does not have.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .arithmetic import mix, ramp, scaled_sum, subtract_product_
from .windows import window_max, window_mean

WHITE = (0.85, 1.0)
"""Blown out are places of the model's image whose darkest channel is beyond the first, and surely
at the second."""

NEAR = 4
"""A rim is at most so many pixels away from such a place."""

AROUND = 4
"""Its colour is compared with that of windows of 2 r + 1 pixels."""

CHANGE, MAX_CONTRAST = 0.02, 8.0
"""The colour may differ from its surroundings' by so much, or by what it does in the input, times
the contrast that the model's image has of the input's, which counts at most the second."""

GREY = 0.01
"""Standard deviation that is added to both before their contrasts are compared."""

REACH = max(NEAR, AROUND) + 1

COLOUR_SHARE = 0.5
"""`calm_colours` keeps this share of the network's change of chrominance."""


def calm_fringes(image: Tensor, output: Tensor) -> Tensor:
    """Returns the model's image without the coloured rims that it makes round blown-out places.

    Its brightness stays. Its colours, the differences from its brightness, stay as far as the
    input has them, too: those of lamps and signs.

    Args:
        image, output: B,3,H,W in [0, 1].
    """
    white = output.amin(1, keepdim=True)
    if output.is_cpu and white.amax() <= WHITE[0]:
        return output  # nothing is white, which on a GPU would be waited for
    near = window_mean(ramp(window_max(white, NEAR), *WHITE), 1)
    joined = output.new_empty(2, len(output), 5, *output.shape[2:])
    grey, grey_square, both = joined.split((1, 1, 3), 2)  # what is done with both is done at once
    torch.stack((image, output), out=both)
    torch.mean(both, 2, keepdim=True, out=grey)
    torch.mul(grey, grey, out=grey_square)
    both.sub_(grey)
    mean, square, around = window_mean(joined.flatten(0, 1), AROUND).split((1, 1, 3), 1)
    square = subtract_product_(square, mean, mean).add_(GREY**2).view(2, -1, *white.shape[1:])
    contrast = square[1].div_(square[0]).sqrt_().clamp_(max=MAX_CONTRAST)
    in_image, in_output = around.view(2, -1, *output.shape[1:])
    less, more = most_nearby(both[0].sub_(in_image), contrast)
    colour = both[1].clamp(in_output - less, more.add_(in_output))
    calm = colour.sub_(colour.mean(1, keepdim=True)).add_(grey[1])
    return mix(output, calm, near)


def most_nearby(change: Tensor, contrast: Tensor) -> Sequence[Tensor]:
    """Returns how much a colour may change, downwards and upwards: as a change with this contrast
    in the 3x3 pixels around, at least `CHANGE`."""
    if change.is_cpu:
        change = contrast * change
        return [window_max(x, 1).clamp_(min=CHANGE) for x in (-change, change)]
    both = change.new_empty(2, *change.shape)
    torch.mul(contrast, change, out=both[1])
    torch.neg(both[1], out=both[0])
    return window_max(both.flatten(0, 1), 1).clamp_(min=CHANGE).view(both.shape).unbind(0)


def calm_colours(image: Tensor, output: Tensor) -> Tensor:
    """Returns the model's image with fewer coloured fringes, which it makes at edges of lights.

    Where it only makes things lighter or darker, it stays.

    Args:
        image, output: B,C,H,W in [0, 1] of the same exposure.
    """
    change = output - image
    change.sub_(change.mean(1, keepdim=True))
    return scaled_sum(output, change, COLOUR_SHARE - 1)
