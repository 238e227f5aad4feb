"""Image files: restored rightly, or refused in plain words."""

from __future__ import annotations

import functools
import logging
import random
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from devudp_model.batch.plan import Job
from devudp_model.batch.restore_files import ImageFiles
from devudp_model.batch.run import run
from devudp_model.images.raster import ImageError, RasterImage, to_array
from devudp_model.images.reading import read_stored
from devudp_model.network.generator import Generator
from devudp_model.ops.dtypes import to_unit
from devudp_model.restorer import Restorer
from devudp_model.restoring.options import Options
from tests.fuzz.harness import Fault
from tests.fuzz.image_files import ImageFile, make

UNFORESEEN = "Run again with --verbose"
"""Ends the message on an error that nobody has thought of."""

FORMATS = ("png", "png", "tiff", "tiff", "jpeg", "webp", "bmp")


@functools.cache
def generator() -> Generator:
    """So small that restoring costs next to nothing."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Generator("devudp", 1, 1).eval().requires_grad_(False)
    torch.nn.init.normal_(network.head.weight, std=0.3)
    return network


class Heard(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def attack(seed: int, folder: Path) -> str:
    """Restores one file, and checks what comes of it."""
    rng = random.Random(seed)
    return attack_file(make(seed), rng.choice(FORMATS), rng, folder)


def attack_file(given: ImageFile, format: str, rng: random.Random, folder: Path) -> str:
    """`attack` with a file and a format of the result of its own."""
    source = folder / given.name
    source.write_bytes(given.content)
    job = Job(source, folder / "out" / "result", format)
    options = Options(rng.choice(("joint", "deblur", "low light")), strength=rng.choice((0.0, 1.0)))
    restorer = Restorer(generator(), options.task, options)
    heard = Heard()
    log = logging.getLogger()
    log.addHandler(heard)
    try:
        outcome = run([job], {Job: ImageFiles(restorer)}, restorer)
    finally:
        log.removeHandler(heard)
    if source.read_bytes() != given.content:
        raise Fault("the input was changed")
    files = sorted(path.name for path in folder.rglob("*") if path.is_file() and path != source)
    if outcome.failed:
        [reason] = outcome.failed.values()
        if UNFORESEEN in reason or not reason.strip():
            raise Fault(f"unforeseen: {reason}")
        if files:
            raise Fault(f"failed, but left {files}")
        if given.sound and "damaged" in reason:
            raise Fault(f"a sound file ({given.mode}) is called damaged: {reason}")
        return "refused"
    if files != ["result"]:
        raise Fault(f"left {files}")
    check_result(given, source, job, options, heard.texts)
    return "restored with a warning" if heard.texts else "restored"


def check_result(
    given: ImageFile, source: Path, job: Job, options: Options, said: list[str]
) -> None:
    """Raises Fault unless the result is what it has to be."""
    # As they are stored: in floating point, two images that are only claimed to be large would take
    # more than the work that is watched.
    before, after = read_stored(source, warn=False), read_stored(job.target, warn=False)
    if before.pixels.shape[-2:] != after.pixels.shape[-2:]:
        raise Fault(f"size {list(before.pixels.shape)} became {list(after.pixels.shape)}")
    if not after.pixels.isfinite().all():
        raise Fault("the result is not finite")
    if (before.alpha is None) != (after.alpha is None) and not is_opaque(before):
        raise Fault("transparency was lost, or came from nowhere")
    lossless = job.format in ("png", "tiff")
    if lossless and not said:
        if before.bits != after.bits:
            raise Fault(f"{before.bits} bits became {after.bits}")
        for name in ("icc", "exif", "xmp"):
            if getattr(before.metadata, name) and not getattr(after.metadata, name):
                raise Fault(f"{name} was lost without a word")
    same = lossless and options.strength == 0
    if same and not np.array_equal(array(before), array(after)):
        raise Fault("strength 0 changed the image")
    if given.sound:
        check_against_pillow(source, before)
    if given.cut and not said:
        check_against_whole(given, source, before)


def array(image: RasterImage) -> np.ndarray:
    return to_array(image, np.uint16 if image.bits == 16 else np.uint8)


def is_opaque(image: RasterImage) -> bool:
    return image.alpha is None or bool((to_unit(image.alpha) == 1).all())  # WebP leaves it out then


def check_against_pillow(source: Path, image: RasterImage) -> None:
    """8-bit images as another reader has them, turned upright."""
    if image.bits != 8:
        return
    # By the open file: by its name, Pillow 13 turns some mapped TIFF images not at all.
    with warnings.catch_warnings(), source.open("rb") as file, Image.open(file) as opened:
        warnings.simplefilter("ignore")
        if opened.mode == "CMYK":  # by its profile, here
            return
        opened.load()
        upright = ImageOps.exif_transpose(opened)
        mode = "L" if image.pixels.shape[1] == 1 else "RGB"
        mode += "" if image.alpha is None else "A"
        expected = np.asarray(upright.convert(mode))
    found = to_array(image, np.uint8)
    if not np.array_equal(found.reshape(expected.shape), expected):
        raise Fault("the pixels are not those that Pillow reads")


def check_against_whole(given: ImageFile, source: Path, image: RasterImage) -> None:
    """What is cut may be read only if nothing of the image was in what is missing."""
    whole = source.with_name(f"whole{source.suffix}")
    whole.write_bytes(given.whole)
    try:
        expected = read_stored(whole, warn=False)
    except ImageError:  # of several images, of which only the first was left
        return
    finally:
        whole.unlink()
    if image.pixels.shape != expected.pixels.shape or image.bits != expected.bits:
        raise Fault("a file that is cut off was read as another image")
    if not torch.equal(image.pixels, expected.pixels):
        share = (image.pixels != expected.pixels).float().mean().item()
        raise Fault(f"a file that is cut off was read: {share:.0%} of it is wrong")
