"""The input's own detail in the model's image: what tasks keep of it."""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import add_product_, subtract_product_
from .windows import window_mean

DETAIL_RADIUS = 2
"""r of the guided filter of `detail_transfer`: its windows have 2 r + 1 pixels.

The smaller, the more comes from the model's image, which has less noise than a dark input.
"""

DETAIL_REACH = 2 * DETAIL_RADIUS
"""As `Filter.reach`, of `detail_transfer`."""


def detail_transfer(image: Tensor, output: Tensor, floor: Tensor) -> Tensor:
    """Returns the input's detail in the model's exposure and colours.

    In every window the model's image is fitted by gain * image + offset, channel by channel, and
    the smoothed gains and offsets are applied to the input: a guided filter (He, Sun, Tang: Guided
    Image Filtering, 2013, eqs. 5, 6, 8) of the model's image with the input as its guide.

    Args:
        image, output: B,C,H,W.
        floor: variance (1,C,1,1) from which on a window is detail and not noise.
    """
    if not image.is_cpu:
        return detail_at_once(image, output, floor)
    products = image, output, image * image, image * output
    mean, mean_out, square, product = (window_mean(x, DETAIL_RADIUS) for x in products)
    del products  # and in place, as all below: bands are large, and few copies shall be alive
    variance = subtract_product_(square, mean, mean)
    covariance = subtract_product_(product, mean, mean_out)
    gain = covariance.div_(variance.add_(floor))
    offset = subtract_product_(mean_out, gain, mean)
    gain, offset = (window_mean(x, DETAIL_RADIUS) for x in (gain, offset))
    return add_product_(offset, gain, image)


def detail_at_once(image: Tensor, output: Tensor, floor: Tensor) -> Tensor:
    """`detail_transfer` in few operations, for a GPU."""
    pair = torch.stack((image, output))  # 2,B,C,H,W
    products = window_mean((pair * image).flatten(0, 1), DETAIL_RADIUS).view(pair.shape)
    means = window_mean(pair.flatten(0, 1), DETAIL_RADIUS).view(pair.shape)
    variance, covariance = subtract_product_(products, means, means[0])
    gain = covariance.div_(variance.add_(floor))
    torch.addcmul(means[1], gain, means[0], value=-1, out=variance)  # the offset, beside the gain
    offset, gain = window_mean(products.flatten(0, 1), DETAIL_RADIUS).view(pair.shape)
    return add_product_(offset, gain, image)
