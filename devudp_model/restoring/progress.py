"""Reports how far a restoration is within an image: for progress bars."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from ..engine.hooks import Finished, hooked
from ..network.generator import Generator
from .facts import Model, generator_of
from .options import Options
from .run_network import pixels_to_do

Report = Callable[[float], None]
"""Gets the number of images done, with a fraction; what it raises goes through."""

SECONDS = 0.2
"""Between two reports within an image."""

MEASURED_SECONDS = 2.0
"""After so long the rate is known well enough to say how long an image will take."""

Forecast = Callable[[float, float], bool]
"""Gets the seconds that an image will take and its pixels; returns True if it wants no more."""


class ImageProgress:
    """Turns the pixels that the engine tells of into images done, not more often than needed.

    Args:
        report: gets the number of images done, with a fraction. What it raises goes through.
        forecast: is told how long an image will take, by the rate of its first strips.
    """

    def __init__(self, report: Report, forecast: Forecast | None = None):
        self.report, self.forecast = report, forecast
        self.images = 0
        self.pixels, self.of = 0.0, 1.0
        self.last_report = self.begun = time.monotonic()

    @property
    def finished(self) -> Finished | None:
        """Gets rows of a result, where somebody wants to see them; for `hooked`."""
        return None

    def start(self, image: Tensor, generator: Generator, options: Options) -> None:
        """Prepares for the restoring of images B,C,H,W."""
        height, width = image.shape[2:]
        self.begin(pixels_to_do(height, width, generator, options))

    def begin(self, pixels: float) -> None:
        """The next image takes so many pixels of work; see `pixels_to_do`."""
        self.pixels, self.of = 0.0, max(pixels, 1.0)
        self.begun = time.monotonic()

    def advance(self, pixels: float) -> None:
        """For `hooked`."""
        self.pixels += pixels
        if time.monotonic() - self.last_report >= SECONDS:
            self.last_report = time.monotonic()
            # The rest is the task's; and numbers that 16 bits cannot hold are computed twice.
            self.report(self.images + min(self.pixels / self.of, 1.0) * 0.99)
            passed = self.last_report - self.begun
            if self.forecast and passed >= MEASURED_SECONDS and self.pixels:
                was_said = self.forecast(passed * self.of / self.pixels, self.of)
                self.forecast = None if was_said else self.forecast

    def done(self, images: int) -> None:
        """So many images are done."""
        self.images, self.pixels = images, 0.0
        self.last_report = time.monotonic()
        self.report(images)


def as_progress(progress: Report | ImageProgress | None) -> ImageProgress | None:
    """Makes one of a function."""
    if progress is None or isinstance(progress, ImageProgress):
        return progress
    return ImageProgress(progress)


def begin_images(
    progress: ImageProgress | None, image: Tensor, model: Model, options: Options, first: int
) -> Callable[[int, int], None]:
    """Prepares for images of which `first` are done; returns what gets the number done of these."""
    if progress is None:
        return lambda count, total: None
    progress.start(image, generator_of(model), options)
    return lambda count, total: progress.done(first + count)


def watched(progress: ImageProgress | None) -> AbstractContextManager[None]:
    """Within the block, the network tells of its progress."""
    if progress is None:
        return nullcontext()
    return hooked(progress.advance, progress.finished)
