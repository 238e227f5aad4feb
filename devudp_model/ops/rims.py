"""Dark and coloured rims round lamps: what the tasks make of them, and the filter against it.

The network makes a ring beside a lamp darker than the image has it, and the exposure makes it wide:
brightening multiplies what it is darker by. Both are judged by what is farther away.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .arithmetic import add_product_, fade_, mix, ramp
from .windows import (
    AWAY,
    AWAY_STEP,
    at_once,
    closing,
    weighted_means,
    window_max,
    window_mean,
)

LAMP = (0.35, 0.55)
"""`fill_rims` starts near places of the input of the first brightness and has its full effect from
the second on (means of 3x3 pixels: a hot pixel alone is not that bright), ..."""

RIM, RIM_REACH, FADE = 13, 12, 3
"""... on dark structures of the result that are narrower than the first, or darker than what is
farther away, at most the second number of pixels away from the lamp, more or less the third one:
an end without a fade is a box of grey in the dark, ..."""

RIM_DARK = (0.25, 0.45)
"""... in dark surroundings: it has its full effect below the first brightness of the input, none
above the second. Else it would fill what blur has taken from dark letters on a white page."""

DIP_FLOOR = 0.04
"""A dark structure of the input may have its contrast in the result; what is darker than this has
the contrast that it would have here."""

MIN_WEIGHT = 1e-6
"""What is near lamps has this weight in their surroundings (see `wide_mean`)."""

LIFT, LIFT_SHARE = 0.05, 0.45
"""What is still darker beside its surroundings than in the input becomes brighter by the first at
most, and by this share of what is farther away: a black sky stays black."""

BRIGHTER = (1.0, 1.3)
"""It does so where the surroundings have become brighter by the second factor, not at all where by
the first: what sharpening makes darker in daylight is none of this."""

TINT, LEVEL = 1.2, 1 / 255
"""Near a lamp a channel may have so many times what it has of the brightness farther away, times
what it has more of it in the 3x3 pixels of the input, and this level."""

DARK = 0.02
"""Is added to what is farther away: near black, its colour is noise."""

REACH = AWAY + AWAY * AWAY_STEP + RIM_REACH // 2 + 2
"""How many pixels around a pixel `fill_rims` looks at."""


def without_lamps(image: Tensor) -> bool:
    """True if there are certainly no lamps in B,C,H,W; on a GPU this would be waited for."""
    return image.is_cpu and bool(
        window_mean(image.mean(1, keepdim=True), 1).amax() < 0.99 * LAMP[0]
    )


def fill_rims(image: Tensor, output: Tensor) -> Tensor:
    """Returns the result without the dark and coloured rims that are made round lamps.

    Near a lamp no channel is darker, beside what is close to it and beside what is farther away,
    than it is in the input: first as a ratio, which brightening keeps, then (`lift`) as a
    difference, as far as little is missing. What is filled has no more of a colour than what is
    farther away, and what is there (`tint`) has no more of it, either, unless the input has it,
    too.

    Args:
        image, output: B,C,H,W in [0, 1]. A single channel of what is returned may be above 1.
    """
    smooth = window_mean(image, 1)
    own, level = smooth.mean(1, keepdim=True), output.mean(1, keepdim=True)
    lamps = ramp(own, *LAMP)
    weight = 1 + MIN_WEIGHT - window_max(lamps, RIM_REACH // 2)
    wide = weighted_means(weight, image, output, others=(own, level))
    surroundings, filled, own_far, far = wide
    dark = ramp(surroundings.mean(1, keepdim=True), RIM_DARK[1], RIM_DARK[0])
    near = window_mean(window_max(lamps, RIM_REACH), FADE)
    share = near * dark
    most = filled * (LIFT_SHARE * dark * liftable(own, own_far, far))
    contrast = smooth.div_(surroundings.clamp_(min=LEVEL))
    usual, tinted = tint(output, level, filled, contrast)
    filled.mul_(contrast.clamp_(max=1))
    del wide, surroundings, smooth, contrast
    around, whole = at_once(partial(closing, radius=RIM // 2), (image, output))
    whole = fade_(whole, (around - image).div_(around.clamp_(min=DIP_FLOOR)))
    # Not more of a colour than farther away: a coloured line in the rim would be all over it.
    gain = whole.mean(1, keepdim=True) / filled.mean(1, keepdim=True).clamp_(min=LEVEL)
    filled = torch.maximum(filled, torch.minimum(whole, filled * gain))
    output = mix(output, usual, fade_(tinted.mul_(share), lamps))
    output = mix(output, torch.maximum(output, filled), share)
    return add_product_(output, lift(output, own, own_far, far, most), near)


def lift(output: Tensor, own: Tensor, own_far: Tensor, far: Tensor, most: Tensor) -> Tensor:
    """Returns how much is missing of the result: darker than the mean around it by no more than
    the input is, where that is darker, too.

    Lamps count in both means, which makes them alike: else much of what is seen around a lamp
    in a street full of them would not count.

    Args:
        output: B,C,H,W.
        own: B,1,H,W, the input's brightness; `own_far` and `far`: around it, and the result's.
        most: B,C,H,W, of what is returned.
    """
    missing = torch.minimum(own, own_far).sub_(own_far).add_(far)
    missing.sub_(output.mean(1, keepdim=True))
    return torch.minimum(missing, most).clamp_(0, LIFT)


def liftable(own: Tensor, own_far: Tensor, far: Tensor) -> Tensor:
    """Returns the share of `lift` that a place gets, B,1,H,W: where the exposure has made its
    surroundings brighter, and the less the blacker it is in the input. Arguments: as there."""
    own_far = own_far.clamp(min=LEVEL)
    return ramp(far / own_far, *BRIGHTER).mul_((own / own_far).clamp_(0, 1).sqrt_())


def tint(output: Tensor, level: Tensor, far: Tensor, contrast: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the model's image in the colours that it has farther away, as bright as it is, and
    where it has more of one than the input says: B,1,H,W in [0, 1].

    Args:
        output: B,3,H,W in [0, 1].
        level: its brightness.
        far: the same as `output` farther away from lamps.
        contrast: the input, over what it is farther away.
    """
    far = far + DARK
    usual = far * (level / far.mean(1, keepdim=True))
    own = contrast / contrast.mean(1, keepdim=True).clamp_(min=LEVEL)
    more = window_max(own, 1).clamp_(min=1)
    if output.is_cpu:
        beyond = output - more.mul_(usual).mul_(TINT).add_(LEVEL)
    else:
        beyond = torch.addcmul(output, more, usual, value=-TINT).sub_(LEVEL)
    share = beyond.div_((output - usual).clamp_(min=LEVEL)).amax(1, keepdim=True)
    return usual, share.clamp_(0, 1)
