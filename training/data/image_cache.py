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

from devudp_model.images.metadata import ORIENTATION
from devudp_model.images.raster import ImageError
from devudp_model.images.reading import read_stored
from devudp_model.ops.dtypes import from_unit, to_unit
from devudp_model.system.untrusted import check_regular

from .shards import as_file, opened, split

logger = logging.getLogger("devudp")


class UnreadableImage(OSError):
    """A file that should be an image and cannot be decoded."""


def decode(path: Path) -> np.ndarray:
    """Returns an image file as H,W,3 uint8 RGB, upright, read as restoring reads it.

    16 bits are rounded to 8, grey comes three times, and transparency does not count.

    Raises:
        UnreadableImage: the file is not an image, damaged, truncated or missing.
    """
    file = path
    try:
        with as_file(path) as file:
            pixels = read_stored(file, warn=False).pixels
    except (ImageError, OSError) as error:
        text = str(error).replace(str(file), str(path))
        raise UnreadableImage(text if str(path) in text else f"{path}: {text}") from error
    if pixels.dtype != torch.uint8:
        pixels = from_unit(to_unit(pixels), torch.uint8)
    return pixels[0].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()


def size_of(path: Path) -> tuple[int, int]:
    """Width and height in pixels, upright, from the file's header; (0, 0) if it cannot be read."""
    try:
        if split(path) is None:
            check_regular(path)
        with opened(path) as file, Image.open(file) as image:
            # Pillow turns TIFF by itself, the size included.
            turned = image.format != "TIFF" and image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 0, 0
    return (height, width) if turned else (width, height)


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
        """Returns the image's place in the block: H,W,3 uint8."""
        offset, height, width = self.places[path]
        return self.block[offset : offset + height * width * 3].view(height, width, 3)

    def read(self, path: Path) -> np.ndarray:
        """Returns an image as H,W,3 uint8; read-only, it may be the cache itself.

        Raises:
            UnreadableImage: see `decode`.
        """
        return self.view(path).numpy() if path in self.places else decode(path)
