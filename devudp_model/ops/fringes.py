"""Coloured rims round blown-out places: what the network makes of them, and the filter against it.

Where the network's image reaches white its channels do so one after the other, each with its own
rounding and its own overshoot. Round lamps, windows and reflections that leaves a rim of one or two
pixels of green, red and blue, often dotted, which the input does not have.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from .arithmetic import ramp, subtract_product_
from .windows import at_once, window_max, window_mean, window_means

WHITE = (0.9, 1.0)
"""Blown out are places of the model's image whose darkest channel is beyond the first, and surely
at the second."""

NEAR = 4
"""A rim is at most so many pixels away from such a place."""

AROUND = 4
"""Its colour is compared with that of windows of 2 r + 1 pixels."""

CHANGE, MAX_CONTRAST = 0.02, 8.0
"""The colour may differ from its surroundings' by so much, and by what it does in the input, times
the contrast that the model's image has of the input's, which counts at most the second."""

GREY = 0.01
"""Less standard deviation of the input is no contrast."""

REACH = max(NEAR, AROUND) + 1


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
    near = window_mean(window_max(ramp(white, *WHITE), NEAR), 1)
    grey, grey_out = image.mean(1, keepdim=True), output.mean(1, keepdim=True)
    colour, colour_out = image - grey, output - grey_out
    means = window_means(
        (grey, grey_out, grey * grey, grey_out * grey_out, colour, colour_out), AROUND
    )
    mean, mean_out, square, square_out, mean_colour, around = means
    variance = subtract_product_(square, mean, mean).clamp_(min=0).add_(GREY**2)
    contrast = subtract_product_(square_out, mean_out, mean_out).clamp_(min=0).div_(variance)
    change = colour.sub_(mean_colour).mul_(contrast.sqrt_().clamp_(max=MAX_CONTRAST))
    less, more = at_once(partial(window_max, radius=1), (-change, change))
    least = around - less.clamp_(min=0).add_(CHANGE)
    most = around + more.clamp_(min=0).add_(CHANGE)
    calm = colour_out.clamp(least, most)
    calm.sub_(calm.mean(1, keepdim=True))  # as bright as before
    return output + near * calm.sub_(colour_out)
