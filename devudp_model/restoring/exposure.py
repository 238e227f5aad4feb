"""Decides how bright the result is: a night stays a night, and black stays black.

The generator forgets its input's exposure and brings every image to that of an average photograph,
and each channel to full contrast. A street at night becomes fog that way, and red light grey. So
the model's image goes through a `Curve` of each channel: monotone, the same for all pixels, tiles
and frames. It does three things:

- It gives the result the scene's mean. What a dark image still has of its scene is the shape of its
  brightness: how bright its lights are beside the rest, where it is bright, its colours. A ridge
  regression on such numbers, none of which depends on the exposure, predicts the mean of a good
  photograph of the scene (see scene.py). It is not believed where most of what seems black is an
  underexposed room: see shadows.py. The darker half of the image does not get darker by it.
- It holds black places down, and their noise with them. In a scene that is predicted to be dark,
  and where they do not stand out of the noise, these are all that are as dark as `SEEMS_BLACK`;
  else the darkest hundredth. A sky over lamps that is a little brighter is held down as well.
  Lamps stay, as the upper part of the curve is straight.
- It leaves a channel that is hardly there without full contrast: light of one colour keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bands.rows import AnyImage, bands_of, read_rows
from ..ops.degrade import to_linear
from ..ops.dtypes import to_unit, without_alpha
from ..ops.filters import noise_variance
from .blocks import Blocks, blocks_of
from .curve import Curve
from .first_look import made_small
from .scene import SceneModel
from .shadows import (
    DARK_SCENE,
    DARKEST_SHARE,
    MEDIAN_SHARE,
    NIGHT,
    SEEMS_BLACK,
    USUAL_MEAN,
    between,
    shadows_of,
    sky_of,
)
from .stars import stars_of

CALM, TRUST_DOWN, TRUST_UP = 0.03, 0.9, 1.0
"""Predictions that near to `USUAL_MEAN` change nothing; beyond, the result's mean follows them by
these shares, down and up."""

DARKEST_MEAN, DARKEST_UNLIT, BRIGHTEST_MEAN = 0.16, 0.24, 0.62
"""The result's mean is not taken below the first, or below the second where there are no lights,
nor above the third."""

LIGHTS, LIGHTS_FULL = 0.6, 0.9
"""Brightness of the brightest 0.2 % from which an image has lights, and surely has."""

STARRY_LIGHT, STARRY_MEAN = 0.09, 0.2
"""Darker images than the first (mean linear light) are searched for stars. A starry sky's mean is
predicted to be at most the second."""

STARRY_FRAMES = 4
"""Of a batch, so many frames are searched."""

LAMP, LAMPS = 3, 4
"""Of small lamps and stars, so many squares of so many pixels are that bright. (A hot pixel alone
is not.)"""

SAMPLED_PIXELS = 2**16
"""Quantiles are those of about this many pixels, evenly spaced."""

MIN_TONE, MAX_TONE = 0.6, 4.0
"""Smallest and largest exponent of the curve."""

BLACK, MIN_HELD = 0.06, 0.4
"""Black places come down to the first, but in scenes that are not dark at most to this share of
what they are in the model's image."""

MIN_BLACK, MAX_BLACK = 0.004, 0.8
"""Limits of that level in the model's image."""

NOISE_HELD = 1.0
"""In dark scenes so many standard deviations of the noise in black places are held down with them:
above the black places, the curve is steep."""

SKY_BLACK = 0.95
"""Of a night's sky (see shadows.py), black is what lies below this quantile."""

MAX_COLOUR_GAIN, COLOUR_QUANTILES = 6.0, (0.02, 0.995)
"""A channel gets at most so many times the contrast, beside the strongest, that it has in the
input's linear light between these quantiles."""

HALF_LEVEL = 0.5 / 255 / 12.92
"""In linear light; less contrast is rounding."""


def sampling_stride(height: int, width: int) -> int:
    """Returns N: every N-th row and column leave about `SAMPLED_PIXELS` pixels."""
    return max(math.isqrt(height * width // SAMPLED_PIXELS), 1)


def has_lights(image: Tensor, weights: Tensor | None = None) -> float:
    """0 to 1: whether something in B,C,H,W is as bright as a lamp, of what is visible."""
    step = sampling_stride(*image.shape[2:])
    brightest = to_unit(image[..., ::step, ::step]).amax(1).flatten()
    if weights is not None:
        seen = to_unit(weights[..., ::step, ::step]).flatten() > 0
        brightest = brightest[seen] if bool(seen.any()) else brightest
    level = max(quantile_of(brightest, 0.998), lamp_level(image))
    return min(max((level - LIGHTS) / (LIGHTS_FULL - LIGHTS), 0.0), 1.0)


def quantile_of(x: Tensor, share: float) -> float:
    """`torch.quantile` of a vector, which would take a GPU twenty operations."""
    if x.is_cpu:
        return torch.quantile(x[: 2**24], share).item()
    rank = (len(x) - 1) * torch.tensor(share, device="cpu")  # float32, as there
    around = x.sort().values[int(rank) : int(rank) + 2].cpu()
    return torch.lerp(around[0], around[-1], rank.frac()).item()


def lamp_level(image: Tensor) -> float:
    """The brightness that `LAMPS` squares of `LAMP` pixels of B,C,H,W have; 0 in small images."""
    found = torch.empty(0, device=image.device)
    for band in bands_of(image, LAMP):
        grey = to_unit(read_rows(image, *band)).mean(1)
        if min(grey.shape[1:]) >= LAMP:
            means = F.avg_pool2d(grey, LAMP).flatten()
            means = torch.cat([found, means]) if len(found) else means
            found = means.topk(min(LAMPS, len(means))).values
    return found.cpu()[-1].item() if len(found) == LAMPS else 0.0


def scene_curve(
    scene: SceneModel,
    image: Tensor,
    output: AnyImage,
    weights: Tensor | None,
    fetch: Callable[[Tensor], Tensor],
) -> Curve:
    """Returns the curve for images that are looked at together.

    Args:
        scene: predicts their mean.
        image, output: the input, B,C,H,W in [0, 1], and the model's image of it, B,3,H,W.
        weights: B,1,H,W, how much each pixel counts; None: all alike.
        fetch: brings what is measured on the output to main memory.
    """
    colour = without_alpha(image)
    blocks = blocks_of(colour, weights), blocks_of(output, weights, fetch, True)
    predicted, lights = scene.predict_all(colour, weights), has_lights(colour, weights)
    if float(to_linear(blocks[0].means).mean()) < STARRY_LIGHT:
        starry = starriness(colour)
        predicted -= starry * max(predicted - STARRY_MEAN, 0.0)
        lights = max(lights, starry)
    return curve_for(*blocks, predicted, lights)


def starriness(image: Tensor) -> float:
    """Returns how surely B,C,H,W are starry skies, 0 to 1: of the frame that is least one."""
    some = image[:: max(len(image) // STARRY_FRAMES, 1)].split(1)
    small = [made_small(frame).mean(1, keepdim=True) for frame in some]
    return min(stars_of(grey, noise_variance(grey).sqrt().item()) for grey in small)


def curve_for(source: Blocks, output: Blocks, predicted: float, lights: float) -> Curve:
    """Returns the curve for an image.

    Args:
        source, output: the blocks of the input and of the model's image.
        predicted: mean of a good photograph of the scene (see scene.py).
        lights: see `has_lights`.
    """
    grey, shadows = source.means.mean(1), shadows_of(source)
    predicted = shadows.correct(predicted, lights)
    dark = shadows.darken(predicted)
    places = grey <= black_limit(grey, dark)
    gain = channel_gain(source.means)
    black, noise = (x[places].median(0).values for x in output[:2])
    black = black + between(dark, NIGHT[0], DARK_SCENE[1], NOISE_HELD, 0.0) * noise
    black = (gain * black).clamp(MIN_BLACK, MAX_BLACK)
    mean = target_mean(predicted, lights, float(grey.mean()))
    low, high = MIN_TONE if mean >= USUAL_MEAN else 1.0, MAX_TONE
    gain, black = gain.view(1, 3, 1, 1), black.view(1, 3, 1, 1)

    def curve(exponent: float) -> Curve:
        held = torch.full_like(black, BLACK) ** (1 / exponent)
        return Curve(gain, black, hold(black, held, dark), exponent)

    pixels, dim = output.means.T[None, :, :, None], grey <= grey.median()
    own = grey[dim].mean().item()
    for _ in range(20):
        middle = math.sqrt(low * high)
        made = curve(middle)(pixels)[0, :, :, 0]
        if made.mean().item() > mean and made[:, dim].mean().item() > own:
            low = middle
        else:
            high = middle
    return with_sky(curve(low), source, output, lights * between(dark, *NIGHT, 1.0, 0.0))


def with_sky(curve: Curve, source: Blocks, output: Blocks, night: float) -> Curve:
    """The curve with the night's sky held down as black is; the rest gets no brighter mean for it.

    Args:
        curve: without it.
        source, output: see `curve_for`.
        night: how surely there is one, 0 to 1.
    """
    sky, found = sky_of(source)
    found *= night
    if not found:
        return curve
    level = torch.quantile(output.means[sky][: 2**22], SKY_BLACK, dim=0).view(1, 3, 1, 1)
    level = torch.maximum((curve.gain * level).clamp(max=MAX_BLACK), curve.black)
    held = torch.full_like(level, BLACK) ** (1 / curve.exponent)
    black = curve.black.lerp(level, found)
    return curve._replace(black=black, held=torch.minimum(held, black), ease=found)


def hold(black: Tensor, held: Tensor, predicted: float) -> Tensor:
    """Returns the level for black places: `held`, if that is lower; but see `MIN_HELD`."""
    least = between(predicted, *DARK_SCENE, 0.0, MIN_HELD) * black
    return torch.minimum(torch.maximum(held, least), black)


def channel_gain(source: Tensor) -> Tensor:
    """Returns each channel's gain (3), at most 1: a colour that is hardly there gets less.

    The network standardizes each channel. Light of one colour would turn grey, and its noise green.
    """
    light = to_linear(source)
    low, high = torch.quantile(light[: 2**22], torch.tensor(COLOUR_QUANTILES), dim=0)
    found = (high - low - HALF_LEVEL).clamp(min=0)
    contrast = found / found.max().clamp(min=HALF_LEVEL)
    return (contrast * MAX_COLOUR_GAIN).clamp(max=1) ** (1 / 2.2)


def black_limit(grey: Tensor, predicted: float) -> float:
    """Returns the level of the input up to which a place is black.

    In dark scenes all that is so dark that it holds no information; in others the darkest places.
    """
    darkest = torch.quantile(grey[: 2**24], DARKEST_SHARE).item()
    relative = min(SEEMS_BLACK, MEDIAN_SHARE * grey.median().item())
    limit = between(predicted, *NIGHT, SEEMS_BLACK, relative)
    return max(between(predicted, *DARK_SCENE, limit, darkest), darkest)


def target_mean(predicted: float, lights: float, own: float) -> float:
    """Mean that the result should have, where the input's is `own`."""
    change = predicted - USUAL_MEAN
    change = max(change - CALM, 0.0) * TRUST_UP + min(change + CALM, 0.0) * TRUST_DOWN
    least = DARKEST_MEAN + (1 - lights) * (DARKEST_UNLIT - DARKEST_MEAN)
    return max(min(max(USUAL_MEAN + change, least), BRIGHTEST_MEAN), min(own, USUAL_MEAN))
