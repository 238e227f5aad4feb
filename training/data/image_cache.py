"""Decoded images in memory, up to a limit: decoding is most of a loader's work."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from devudp_model.system.untrusted import check_regular

logger = logging.getLogger("devudp")


class UnreadableImage(OSError):
    """A file that should be an image and cannot be decoded."""


UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What opening or decoding raises for a file that is damaged or not an image."""


def open_image(path: Path) -> Image.Image:
    """Opens an image file. A pipe is refused: reading it might never end.

    Raises:
        one of `UNREADABLE`.
    """
    check_regular(path)
    return Image.open(path)


def decode(path: Path) -> np.ndarray:
    """An image file as H,W,3 uint8 RGB.

    Raises:
        UnreadableImage: the file is not an image, damaged, truncated or missing.
    """
    try:
        with open_image(path) as image:
            return np.asarray(image.convert("RGB"))
    except UNREADABLE as error:
        raise UnreadableImage(f"{path}: {error}") from error


def size_of(path: Path) -> tuple[int, int]:
    """Width and height in pixels from the file's header; (0, 0) if it cannot be read."""
    try:
        with open_image(path) as image:
            return image.size
    except UNREADABLE:
        return 0, 0


class ImageCache:
    """Reads images; those that fit into `max_bytes` are decoded once, at the start.

    Nothing is evicted: images are drawn at random, so all are equally worth keeping. They lie in
    one block of memory, which the loader's workers share.

    Args:
        paths: the images to cache.
        max_bytes: size limit of the block; 0: no cache.
    """

    def __init__(self, paths: Iterable[Path], max_bytes: int = 0):
        self.places: dict[Path, tuple[int, int, int]] = {}  # offset, height, width
        end = 0
        for path in dict.fromkeys(paths) if max_bytes else ():
            width, height = size_of(path)
            if width and end + width * height * 3 <= max_bytes:
                self.places[path] = (end, height, width)
                end += width * height * 3
        self.block = torch.empty(end, dtype=torch.uint8)
        if end and multiprocessing.get_start_method() != "fork":
            self.block.share_memory_()  # a forked worker sees the block anyway
        with ThreadPoolExecutor() as threads:
            for path, decoded in zip(
                list(self.places), threads.map(self.fill, list(self.places)), strict=True
            ):
                if not decoded:
                    del self.places[path]
        if end:
            logger.info("%d images decoded into memory (%.0f MB)", len(self.places), end / 1e6)

    def fill(self, path: Path) -> bool:
        """Decodes one image into its place; False if it cannot be read."""
        try:
            pixels = decode(path)
        except UnreadableImage:
            return False  # reported when it is drawn
        if pixels.shape[:2] != self.places[path][1:]:
            return False
        self.view(path).numpy()[:] = pixels
        return True

    def view(self, path: Path) -> torch.Tensor:
        """The image's place in the block: H,W,3 uint8."""
        offset, height, width = self.places[path]
        return self.block[offset : offset + height * width * 3].view(height, width, 3)

    def read(self, path: Path) -> np.ndarray:
        """An image as H,W,3 uint8; read-only, it may be the cache itself.

        Raises:
            UnreadableImage: see `decode`.
        """
        return self.view(path).numpy() if path in self.places else decode(path)
