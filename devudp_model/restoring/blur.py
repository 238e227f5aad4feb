"""Tells whether an image is blurred or shaken, from its edges and from its spectrum.

A shaken photograph has edges, too: several faint ones for each that there was. So it is not told by
the finest detail alone, but by four measures, all of them pure functions of a small grey image:

- steepness: within small windows of high contrast, the largest step between two neighbours, as a
  share of the contrast. A sharp edge takes most of it in one step. Blur spreads the step, and a
  ghost leaves half of it to the other edge.
- direction: how much detail is missing in the direction where most is missing. A movement takes the
  detail along its path, and does so everywhere: what all parts of the image have in common is the
  movement, what differs is the scene (edges of houses, fences, letters).
- echo: how much all parts of the image are there twice at one and the same distance: a peak of the
  cepstrum (Rom: On the cepstrum of two-dimensional functions, 1975). A hand that held still twice
  leaves two images, each of which may be sharp. Windows and lines of text repeat more than
  twice, so that there is a peak at twice the distance as well.
- sharpness: how much neighbours differ, compared with pixels four apart. Natural images look alike
  at all scales (Field 1987), so the ratio is about the same for all sharp ones; blur lowers it, but
  ghosts hardly do. It only tells shake from defocus.

`blur_score` weighs the first two. Its weights are a logistic regression, fitted by
`python -m benchmarks.blur_weights` on sharp photographs and on others that were shaken on purpose.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.filters import noise_variance

WINDOW = 16
"""Pixels of the side of the windows in which steps are compared with contrast, a power of 2."""

CONTRASTS = (0.9, 0.7)
"""Windows whose contrast is in the upper part from here on count: edges, and no surfaces. In the
dark the first are all lamps, whose streaks have sharp sides; then the second tell more."""

STEEPEST = 0.8
"""The quantile of their steepness that is taken: defocused or moving parts do not count, as long as
some are sharp."""

WHITE, TOE, TONE = 0.98, 0.02, 0.6
"""Grey values are clipped at this quantile and compressed to (grey + toe) ** tone: else lamps and
their streaks would outweigh all other edges of a dark image."""

TILE = 128
"""Pixels of the side of the tiles whose spectra are compared; they overlap by half."""

SECTORS = 12
"""Directions that are told apart, in half a turn."""

FREQUENCIES = (0.05, 0.12)
"""Cycles per pixel in which directions are compared: streaks of 8 to 40 pixels show, noise and
JPEG's blocks do not."""

DISTANCES = (5, 31)
"""Pixels between echoes; twice as much is less than half of a tile."""

ECHO_BAND = 0.4
"""Cycles per pixel at which the weights of frequencies fall to 1/e, for the echo."""

AROUND = 3
"""An echo is a peak over the mean of 2 n + 1 by 2 n + 1 values around it."""

RINGS = 24
"""Up to 0.5 cycles per pixel: the spectrum's fall with frequency is no matter of direction."""

SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""The directions in which neighbours are compared."""

FAR = 4
"""How many pixels apart the coarser differences are."""


WEIGHTS = (-14.72, 3.66, -13.22)
"""Of log steepness, of direction, and of 1."""

MOVED, EDGES = 0.5, 0.38
"""Direction and sharpness from which on blur is called shake."""


class BlurMeasures(NamedTuple):
    """Holds the measures; see the module. `usual` is the steepness where contrast is lower."""

    steepness: float
    usual: float
    direction: float
    echo: float
    sharpness: float


def measure_blur(grey: Tensor, hidden: Tensor | None = None) -> BlurMeasures:
    """Measures 1,1,H,W in [0, 1], with more than `FAR` pixels a side.

    Args:
        hidden: 1,1,H,W, 1 where nothing is to be seen, which then does not count; or None.
    """
    noise = noise_variance(grey).sqrt().item()
    white = quantile(grey, 0.99)
    near_and_far = sharpness_of(grey.clamp(max=white), noise)
    white = max(quantile(grey, WHITE), 1e-3)
    toned = (grey.clamp(max=white) / white + TOE) ** TONE
    noise = noise_variance(toned).sqrt().item()
    return BlurMeasures(
        *steepness_of(toned[0, 0], noise, None if hidden is None else hidden[0, 0]),
        *common_of(toned[0, 0], noise, None if hidden is None else hidden[0, 0]),
        near_and_far,
    )


def blur_score(steepness: float, direction: float) -> float:
    """The logarithm of the odds that an image is blurred, which is taken to be as likely as not."""
    parts = (math.log(min(max(steepness, 0.05), 1.2)), min(direction, 2.0), 1.0)
    return sum(weight * part for weight, part in zip(WEIGHTS, parts, strict=True))


def is_moved(direction: float, sharpness: float) -> bool:
    """True if blur is that of a movement: it has a direction, or there are edges in spite of it."""
    return direction >= MOVED or sharpness >= EDGES


def quantile(values: Tensor, share: float) -> float:
    """Returns a quantile of some 2**18 of the values."""
    return torch.quantile(values.flatten()[:: max(1, values.numel() // 2**18)], share).item()


def window_max_forward(x: Tensor, reach: int) -> Tensor:
    """Returns the larger of each value of H,W and those `reach` further right, below, and both."""
    if min(x.shape) <= reach:
        return x
    x = torch.maximum(x[:, :-reach], x[:, reach:])
    return torch.maximum(x[:-reach], x[reach:])


def steepness_of(grey: Tensor, noise: float, hidden: Tensor | None = None) -> tuple[float, float]:
    """Steepness of H,W, about 0 to 1, for each of `CONTRASTS`; see the module.

    1 where nothing has contrast.
    """
    step = (grey[1:, 1:] - grey[1:, :-1]).abs()
    step = torch.maximum(step, (grey[1:, 1:] - grey[:-1, 1:]).abs())
    high, low = grey, -grey
    reach = 1
    while reach < WINDOW:  # windows of twice the side, from those of one size to those of the next
        high, low = window_max_forward(high, reach), window_max_forward(low, reach)
        hidden = None if hidden is None else window_max_forward(hidden, reach)
        step = step if reach == 1 else window_max_forward(step, reach // 2)
        reach *= 2
    height, width = (min(a, b) for a, b in zip(high.shape, step.shape, strict=True))
    contrast = (high + low)[:height:2, :width:2] - 4 * noise
    steps = step[:height:2, :width:2] - 2.5 * noise
    if hidden is not None:
        seen = hidden[:height:2, :width:2] == 0
        contrast, steps = contrast[seen], steps[seen]
    first, second = (steepest(steps, contrast, share, noise) for share in CONTRASTS)
    return first, second


def steepest(steps: Tensor, contrast: Tensor, share: float, noise: float) -> float:
    """Returns the share of the contrast that steps take where it is high; 1 where there is none."""
    if not contrast.numel():
        return 1.0
    edges = contrast >= max(quantile(contrast, share), 2 * noise, 1e-4)
    if not edges.any():
        return 1.0
    shares = steps[edges].clamp(min=0) / contrast[edges]
    return min(quantile(shares, STEEPEST), 1.5)


def tiles_of(grey: Tensor, hidden: Tensor | None) -> Tensor:
    """Overlapping parts of H,W: N,`TILE`,`TILE`, without those of which something is hidden."""
    rows, columns = (
        torch.linspace(0, size - TILE, round((size - TILE) / (TILE // 2)) + 1).long().tolist()
        for size in grey.shape
    )
    places = [(y, x) for y in rows for x in columns]
    if hidden is not None:
        places = [p for p in places if not hidden[p[0] : p[0] + TILE, p[1] : p[1] + TILE].any()]
    tiles = [grey[y : y + TILE, x : x + TILE] for y, x in places]
    return torch.stack(tiles) if tiles else grey.new_zeros(0, TILE, TILE)


def common_of(grey: Tensor, noise: float, hidden: Tensor | None = None) -> tuple[float, float]:
    """Returns what the spectra of all parts of H,W share: direction and echo, see the module.

    The first says how much is missing in the direction where most is, in natural logarithms of
    power; the second is about 0.3 for two images of the same strength. 0 where H,W is too small.
    """
    if min(grey.shape) < TILE:
        return 0.0, 0.0
    tiles = tiles_of(grey, hidden)
    ramp = torch.hann_window(TILE, periodic=False, device=grey.device)
    window = ramp[:, None] * ramp
    tiles = (tiles - tiles.mean((1, 2), keepdim=True)) * window
    energy = window.square().sum()
    variance = tiles.square().sum((1, 2)) / energy
    if not len(tiles):
        return 0.0, 0.0
    tiles = tiles[variance >= max((4 * noise) ** 2, float(variance.median()) / 4)]
    if not len(tiles):
        return 0.0, 0.0
    power = torch.fft.rfft2(tiles).abs().square_()
    level = (power + (2 * noise**2 + 1e-7) * energy).log_().mean(0)
    down, right = places(1 / TILE, level.device)
    right = right[:, : TILE // 2 + 1].abs()
    frequency = (down.square() + right.square()).sqrt()
    ring = (frequency * 2 * RINGS).long().clamp(max=RINGS - 1)
    rest = level - mean_by(level, ring, RINGS)[ring]
    sector = (torch.atan2(down, right) % math.pi * SECTORS / math.pi).long().clamp(max=SECTORS - 1)
    within = (frequency >= FREQUENCIES[0]) & (frequency < FREQUENCIES[1])
    return -float(mean_by(rest[within], sector[within], SECTORS).min()), echo_of(rest, frequency)


def places(step: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Coordinates in the order of a Fourier transform of `TILE` x `TILE`: `TILE`,1 and 1,`TILE`."""
    line = torch.fft.fftfreq(TILE, d=1 / (TILE * step), device=device)
    return line[:, None], line[None]


def echo_of(rest: Tensor, frequency: Tensor) -> float:
    """Returns the highest peak of the cepstrum, of the logarithm of power without its fall."""
    weight = torch.exp(-(frequency / ECHO_BAND).square())
    size = (TILE, TILE)
    full = torch.fft.irfft2(weight, s=size)[0, 0]
    cepstrum = torch.fft.irfft2(rest * weight, s=size) / full
    padded = F.pad(cepstrum[None, None], [AROUND] * 4, mode="circular")
    peaks = cepstrum - F.avg_pool2d(padded, 2 * AROUND + 1, 1)[0, 0]
    down, right = places(1.0, rest.device)
    distance = (down.square() + right.square()).sqrt()
    twice = (2 * down.flatten().round().long()) % TILE
    peaks = peaks - peaks[twice][:, twice].clamp(min=0)
    return float(peaks[(distance >= DISTANCES[0]) & (distance <= DISTANCES[1])].max())


def mean_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Returns the mean of the values of each group; on CPUs, in the order of the values."""
    sums = torch.zeros(2, groups, device=values.device)
    both = torch.stack([values.flatten(), torch.ones_like(values.flatten())])
    sums.index_add_(1, group.flatten(), both)
    return sums[0] / sums[1].clamp(min=1)


def sharpness_of(grey: Tensor, noise: float) -> float:
    """RMS difference of neighbours over that of pixels `FAR` apart, mean over the directions.

    Noise is taken off the differences, which it would make look sharp.
    """
    ratios = []
    for down, right in SHIFTS:
        near, far = (difference(grey, n * down, n * right) - 2 * noise**2 for n in (1, FAR))
        ratios.append((max(near, 0.0) / far) ** 0.5 if far > 0 else 1.0)
    return sum(ratios) / len(ratios)


def difference(grey: Tensor, down: int, right: int) -> float:
    """Mean squared difference of pixels that far apart."""
    height, width = grey.shape[2:]
    first = grey[..., : height - down, max(-right, 0) : width - max(right, 0)]
    second = grey[..., down:, max(right, 0) : width - max(-right, 0)]
    return float((first - second).square_().mean())
