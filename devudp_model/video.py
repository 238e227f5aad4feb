"""Videos: frames that share their statistics, restored one at a time.

`restore` with shared statistics works on all frames at once, and the features of hundreds of frames
fit into no memory. Here the statistics are those of a few frames spread over the video.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from .frozen import FrozenRestorer, freeze
from .generator import Generator
from .restore import Options, fit_mask, is_flat, restore

SAMPLED_FRAMES, SAMPLED_PIXELS = 8, 4_000_000
"""Shared statistics are taken from so many frames, and no more pixels in all (but one frame)."""

log = logging.getLogger("devudp")


def sampled(frames: int, pixels: int) -> list[int]:
    """Numbers of the frames to take the statistics of `frames` frames with `pixels` pixels from."""
    count = max(1, min(SAMPLED_FRAMES, SAMPLED_PIXELS // pixels, frames))
    return [(2 * i + 1) * frames // (2 * count) for i in range(count)]


class VideoRestorer:
    """Restores frame by frame with the statistics of a sample of them.

    Args:
        generator: runs on the device it is on.
        sample: B,C,H,W in [0, 1], as for `restore`. Frames without any contrast do not count.
        options: what to do; the statistics are shared, whatever they say.
    """

    def __init__(self, generator: Generator, sample: Tensor, options: Options):
        self.generator, self.options = generator, options
        frames = [frame for frame in sample.split(1) if not is_flat(frame)]
        self.sample = torch.cat(frames) if frames else None
        self.frozen: FrozenRestorer | None = None
        if self.sample is not None:
            self.frozen = freeze(generator, self.sample, options)

    def set_memory(self, memory: int | None) -> None:
        """From now on, another bound: see `Options`."""
        self.options = replace(self.options, memory=memory)
        if self.frozen is not None:
            self.frozen.options = self.options

    def __call__(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """1,C,H,W in [0, 1] to the same; `mask` as for `restore`.

        Raises:
            ValueError, FloatingPointError: as `restore`.
        """
        if self.sample is None:
            alone = replace(self.options, statistics="each image")
            return restore(frame, self.generator, alone, mask=mask)
        restored = self.run(frame, self.sample)
        if mask is None:
            return restored
        return torch.lerp(frame, restored, fit_mask(mask, frame).to(frame.device, frame.dtype))

    def run(self, frame: Tensor, sample: Tensor) -> Tensor:
        """Not finite in 16 bits: once more in fp32, here and from now on."""
        assert self.frozen is not None
        try:
            return self.frozen(frame)
        except FloatingPointError:
            if self.frozen.network.dtype == torch.float32:
                raise
        log.warning("The numbers of a frame became too large for 16 bits: going on in fp32.")
        self.options = replace(self.options, precision="fp32")
        self.frozen = freeze(self.generator, sample, self.options)
        return self.frozen(frame)
