"""Image files that are refused, in plain words, and writing that fails: it leaves nothing."""

from __future__ import annotations

import dataclasses
import errno
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.images.raster import ImageError, RasterImage
from devudp_model.images.reading import read_image
from devudp_model.images.writing import check_format, write_image
from devudp_model.system import atomic as atomic
from tests.model.image_files import (
    LOSSLESS,
    image_of,
    png_chunk,
    random_pixels,
    write_deep_png,
    write_deep_tiff,
)

# --- reading --------------------------------------------------------------------------------------


def test_sixteen_bits_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_deep_png(tmp_path / "in.png", random_pixels("RGB", np.uint16))
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(ImageError, match=r'in\.png has 16 bits.*pip install "pyvips\[binary\]"'):
        read_image(tmp_path / "in.png")


def test_jpeg_of_twelve_bits(tmp_path: Path) -> None:
    """Is sound, and its name does not lie: the message says neither."""
    image_of(random_pixels("RGB")).save(tmp_path / "in.jpg")
    content = bytearray((tmp_path / "in.jpg").read_bytes())
    content[content.index(b"\xff\xc0") + 4] = 12
    (tmp_path / "in.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=r"in\.jpg is a JPEG file.*rare kind \(12 bits"):
        read_image(tmp_path / "in.jpg")


def test_tiff_of_twelve_bits(tmp_path: Path) -> None:
    """Its pixels end within bytes, which no decoder here knows; it is not damaged."""
    pytest.importorskip("imagecodecs")
    write_deep_tiff(tmp_path / "in.tif", random_pixels("L", np.uint16) >> 4, bitspersample=12)
    with pytest.raises(ImageError, match=r"in\.tif is stored in a way that is not supported"):
        read_image(tmp_path / "in.tif")


def test_missing_folder_empty(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"empty \(0 bytes\)"):
        read_image(tmp_path / "empty.png")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    image_of(random_pixels("RGB")).save(tmp_path / "in.png")
    monkeypatch.setattr(Path, "open", forbid)
    with pytest.raises(ImageError, match=r"in\.png cannot be read: Permission denied"):
        read_image(tmp_path / "in.png")


def test_text_named_png(tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("this is no image\n" * 10)
    with pytest.raises(ImageError, match=r"note\.png is not an image.*Convert"):
        read_image(tmp_path / "note.png")


def test_postscript_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "evil.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(ImageError, match="is not an image"):
        read_image(tmp_path / "evil.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_truncated(tmp_path: Path, suffix: str, keep: float) -> None:
    image_of(random_pixels("RGB", size=(64, 64))).save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ImageError, match=r"cut\.\w+ is (damaged|not an image)"):
        read_image(cut)


@pytest.mark.parametrize("source", LOSSLESS)
def test_truncated_sixteen_bits(tmp_path: Path, source: str) -> None:
    pixels = random_pixels("RGB", np.uint16, size=(64, 64))
    (write_deep_png if source == "png" else write_deep_tiff)(tmp_path / "in", pixels)
    content = (tmp_path / "in").read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match="damaged"):
        read_image(tmp_path / "cut")


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "moving.png", "pages.tif"])
def test_several_images_in_one_file(tmp_path: Path, name: str) -> None:
    frames = [image_of(random_pixels("RGB")), Image.new("RGB", (9, 7)), Image.new("RGB", (9, 7), 9)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=r"holds 3 images.*ffmpeg -i"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("pillows_limit", [1000, None])
def test_a_header_that_claims_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pillows_limit: int | None
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_limit)
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"")
    )
    with pytest.raises(ImageError, match="Cut it into parts"):
        read_image(tmp_path / "bomb.png")


# --- writing --------------------------------------------------------------------------------------


def test_formats_that_cannot_hold_it() -> None:
    image = RasterImage(torch.zeros(1, 3, 2, 2), torch.ones(1, 1, 2, 2))
    for format in ("jpeg", "bmp"):
        with pytest.raises(ImageError, match="transparency"):
            check_format(image, format)
    for format, side in (("webp", 16_384), ("jpeg", 65_501)):
        long = RasterImage(torch.zeros(1, 1, 1, side))
        with pytest.raises(ImageError, match=rf"at most .* has {side}\. Use png or tiff"):
            check_format(long, format)
        check_format(long, "png")
    with pytest.raises(ImageError, match="Unknown format 'heic'"):
        check_format(dataclasses.replace(image, alpha=None), "heic")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failed_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int, error: BaseException
) -> None:
    """A full disk, or Ctrl-C: what was there before is still there, and nothing else."""

    def fail(_: int) -> None:
        raise error

    (tmp_path / "out.png").write_bytes(b"before")
    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(type(error)):
        write_image(tmp_path / "out.png", RasterImage(torch.rand(1, 3, 8, 8), bits=bits))
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    assert (tmp_path / "out.png").read_bytes() == b"before"


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
def test_a_disk_that_fills_up_while_writing(tmp_path: Path) -> None:
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(OSError, match=r"too large|write error"):
            write_image(tmp_path / "out.png", RasterImage(torch.rand(1, 3, 200, 200)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_image(tmp_path / "absent" / "out.png", RasterImage(torch.rand(1, 3, 8, 8)))
