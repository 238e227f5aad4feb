"""Scenes of a video: where one ends, and a sample of its frames to measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.dtypes import to_unit
from .frozen import SAMPLED_FRAMES, SAMPLED_PIXELS, sampled

THUMBNAIL = (64, 36)
"""Width and height at which frames are compared to find cuts."""

CUT = 0.2
"""Mean difference of two thumbnails over their mean, above which a new scene may begin. A pan gives
some 0.05, a cut 0.3 and more."""

CUT_RATIO = 4.0
"""And so many times the difference of the frames before: fast motion goes on, a cut is alone."""

SHORTEST_SCENE = 6
"""Frames: a flash is no scene."""


class Scene(NamedTuple):
    """Frames that belong together: how many, and a sample of them, B,3,H,W in [0, 1]."""

    frames: int
    sample: Tensor


def thumbnail(frame: Tensor) -> np.ndarray:
    """1,C,H,W, any type of image, as `CutFinder` compares frames: grey, small, 0 to 255."""
    width, height = THUMBNAIL
    grey = to_unit(frame[:, :3]).float().mean(1, keepdim=True) * 255
    return F.adaptive_avg_pool2d(grey, (height, width))[0, 0].cpu().numpy()


class CutFinder:
    """Tells where a new scene begins, frame after frame."""

    def __init__(self) -> None:
        self.last: np.ndarray | None = None
        self.before = 0.0
        self.frames = 0

    def __call__(self, small: np.ndarray) -> bool:
        """True if this frame, H,W, is the first of a new scene (the very first one is not)."""
        self.frames += 1
        last, self.last = self.last, small
        if last is None:
            return False
        change = float(np.abs(small - last).mean() / (0.5 * (small.mean() + last.mean()) + 1))
        before, self.before = self.before, change
        if change > CUT and change > CUT_RATIO * before and self.frames > SHORTEST_SCENE:
            self.frames, self.before = 1, 0.0
            return True
        return False


class Sampler:
    """Keeps a few frames, evenly spaced over a number that is not known before the end."""

    def __init__(self) -> None:
        self.frames: list[Tensor] = []
        self.stride, self.seen = 1, 0

    def add(self, make: Callable[[], Tensor]) -> None:
        """One frame, made only if it is to be kept."""
        if self.seen % self.stride == 0:
            frame = make()
            room = max(4, 2 * min(SAMPLED_FRAMES, SAMPLED_PIXELS // frame[0, 0].numel()))
            if len(self.frames) == room:
                self.frames = self.frames[::2]
                self.stride *= 2
            if self.seen % self.stride == 0:
                self.frames.append(frame)
        self.seen += 1

    def sample(self) -> Tensor:
        """B,3,H,W in [0, 1]."""
        first = self.frames[0]
        wanted = sampled(len(self.frames), first[0, 0].numel())
        return torch.cat([self.frames[i] for i in wanted if self.frames[i].shape == first.shape])


def find_scenes(
    frames: Iterator[Any],
    small: Callable[[Any], np.ndarray],
    tensor: Callable[[Any], Tensor],
    check: Callable[[], None] = lambda: None,
) -> Iterator[Scene]:
    """One scene after the other; what is read runs ahead to the end of the scene.

    Args:
        frames: of a video.
        small: gives a frame's thumbnail.
        tensor: gives a frame as 1,3,H,W in [0, 1].
        check: is called for each frame; may raise to stop.
    """
    cut, sampler = CutFinder(), Sampler()
    for frame in frames:
        check()
        if cut(small(frame)):
            yield Scene(sampler.seen, sampler.sample())
            sampler = Sampler()
        sampler.add(lambda frame=frame: tensor(frame))
    if sampler.seen:
        yield Scene(sampler.seen, sampler.sample())
