"""RasterImage files: what goes in comes out, with its metadata, or is refused in plain words."""

from __future__ import annotations

import dataclasses
import errno
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from devudp_model import atomic as atomic
from devudp_model.files.images import ImageError, RasterImage, to_array
from devudp_model.files.reading import read_image
from devudp_model.files.writing import check_format, write_image

MODES = ("L", "LA", "RGB", "RGBA")
LOSSLESS = ("png", "tiff")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d" '
    b'dc:title="caf\xc3\xa9"/></x:xmpmeta>'
)


def random_pixels(mode: str, dtype: type = np.uint8, size: tuple[int, int] = (7, 9)) -> np.ndarray:
    shape = (*size, len(mode))
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def image_of(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def camera_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    exif[0x0112] = orientation
    exif[0x8298] = "(c) me"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    return exif


def png_chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def write_deep_png(path: Path, pixels: np.ndarray, *chunks: bytes) -> None:
    """16 bits a channel, by hand: not with the library that is tested here."""
    height, width, channels = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1).tobytes()
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
        + b"".join(chunks)
        + png_chunk(b"IDAT", zlib.compress(lines))
        + png_chunk(b"IEND", b"")
    )


def write_deep_tiff(path: Path, pixels: np.ndarray, **options) -> None:
    """Of any type, with a library that is not used in what is tested here."""
    tifffile = pytest.importorskip("tifffile")
    photometric = "rgb" if pixels.shape[2] > 2 else "minisblack"
    extra = ["unassalpha"] if pixels.shape[2] in (2, 4) else None
    squeezed = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    tifffile.imwrite(
        path,
        squeezed,
        photometric=photometric,
        extrasamples=extra,
        planarconfig="contig",
        **options,
    )


# --- 8 bits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("format", LOSSLESS)
def test_every_value_comes_back(tmp_path: Path, mode: str, format: str) -> None:
    pixels = random_pixels(mode)
    image_of(pixels).save(tmp_path / "in.png")
    image = read_image(tmp_path / "in.png")
    channels = 1 if mode.startswith("L") else 3
    assert image.pixels.shape == (1, channels, 7, 9)
    assert image.pixels.dtype == torch.float32
    assert (image.alpha is not None) == mode.endswith("A")
    assert image.bits == 8
    expected = torch.from_numpy(pixels).permute(2, 0, 1)[None, :channels] / 255
    torch.testing.assert_close(image.pixels, expected)
    write_image(tmp_path / "out", image, format)
    with Image.open(tmp_path / "out") as back:
        assert (back.mode, back.format) == (mode, format.upper())
        assert np.array_equal(np.asarray(back).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("format", ["jpeg", "webp", "bmp"])
def test_other_formats(tmp_path: Path, format: str) -> None:
    smooth = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)
    image_of(smooth).save(tmp_path / "in.png")
    write_image(tmp_path / "out", read_image(tmp_path / "in.png"), format)
    back = read_image(tmp_path / "out")
    assert np.abs(to_array(back, np.uint8).astype(int) - smooth).max() <= 10
    with Image.open(tmp_path / "out") as image:
        assert image.format == format.upper()


def test_rounding_is_to_the_nearest() -> None:
    pixels = torch.tensor([-0.1, 0.4, 0.6, 254.6, 300]).reshape(1, 1, 1, 5) / 255
    assert to_array(RasterImage(pixels), np.uint8).ravel().tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_metadata_are_kept(tmp_path: Path, format: str) -> None:
    image_of(random_pixels("RGB")).save(
        tmp_path / "in.jpg",
        icc_profile=SRGB,
        exif=camera_exif(),
        xmp=XMP % 1,
        dpi=(300, 200),
        comment=b"a comment",
    )
    write_image(tmp_path / "out", read_image(tmp_path / "in.jpg"), format)
    with Image.open(tmp_path / "out") as back:
        back.load()
        assert back.info["icc_profile"] == SRGB
        exif = back.getexif()
        assert exif[0x010E] == "a description"
        assert exif[0x8298] == "(c) me"
        assert exif.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
        assert exif.get_ifd(0x8825)[1] == "N"
        xmp = back.info.get("xmp") or back.info["XML:com.adobe.xmp"].encode()
        assert xmp.strip(b"\0") == XMP % 1
        if format != "webp":
            assert back.info["dpi"] == pytest.approx((300, 200), abs=0.1)
        if format == "png":
            assert back.info["Comment"] == "a comment"
    assert read_image(tmp_path / "out").metadata.xmp == XMP % 1


def test_png_text_is_kept(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", '{"nodes": []}')
    text.add_itxt("Titel", "schön 写真")
    image_of(random_pixels("RGB")).save(tmp_path / "in.png", pnginfo=text)
    write_image(tmp_path / "out.png", read_image(tmp_path / "in.png"))
    with Image.open(tmp_path / "out.png") as back:
        assert back.text == {  # pyright: ignore[reportAttributeAccessIssue]
            "workflow": '{"nodes": []}',
            "Titel": "schön 写真",
        }


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1, 5), (5, 1), (1, 1)])
def test_a_single_row_or_column_is_turned(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    pixels = random_pixels("RGB", size=size)
    image_of(pixels).save(tmp_path / "in.png", exif=camera_exif(orientation))
    with Image.open(tmp_path / "in.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(to_array(read_image(tmp_path / "in.png"), np.uint8), expected)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_reset(tmp_path: Path, orientation: int, suffix: str) -> None:
    """As Pillow's own function turns it; and not turned a second time by whoever reads it next."""
    corner = np.zeros((16, 24, 3), np.uint8)
    corner[:8, :8], corner[:8, -8:] = 255, (255, 0, 0)
    source, target = tmp_path / f"in.{suffix}", tmp_path / "out.png"
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    exif = camera_exif(orientation)
    if suffix != "tif":
        options["xmp"] = XMP % orientation
    image_of(corner).save(source, exif=exif, **options)
    if suffix == "png":  # Pillow writes XMP into PNG in another way
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", (XMP % orientation).decode())
        image_of(corner).save(source, exif=exif, pnginfo=text)
    with Image.open(source) as image:
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    image = read_image(source)
    assert np.array_equal(to_array(image, np.uint8), expected)
    write_image(target, image)
    with Image.open(target) as back:
        assert back.getexif().get(0x0112, 1) == 1
        assert (
            b'Orientation="%d"' % orientation not in back.info.get("XML:com.adobe.xmp", "").encode()
            or orientation == 1
        )
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(back)), expected)


def test_one_bit_and_palette(tmp_path: Path) -> None:
    bits = np.indices((5, 6)).sum(0) % 2 > 0
    Image.fromarray(bits).save(tmp_path / "bits.png")
    image = read_image(tmp_path / "bits.png")
    assert torch.equal(image.pixels[0, 0], torch.from_numpy(bits).float())

    rgba = random_pixels("RGBA", size=(4, 4))
    rgba[..., 3] = np.where(rgba[..., 3] > 127, 255, 0)
    palette = image_of(rgba[..., :3].copy()).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "palette.png")
    image = read_image(tmp_path / "palette.png")
    assert np.array_equal(to_array(image, np.uint8), np.asarray(palette.convert("RGB")))
    assert image.alpha is None
    palette.save(tmp_path / "transparent.png", transparency=0)
    image = read_image(tmp_path / "transparent.png")
    with Image.open(tmp_path / "transparent.png") as opened:
        assert np.array_equal(to_array(image, np.uint8), np.asarray(opened.convert("RGBA")))
    assert image.alpha is not None and image.alpha.min() == 0


def test_cmyk_becomes_rgb_without_its_profile(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    image.save(tmp_path / "in.jpg", icc_profile=b"\0" * 16 + b"CMYK" + b"\0" * 200, quality=100)
    image = read_image(tmp_path / "in.jpg")
    assert image.pixels.shape[1] == 3
    assert image.pixels[0, :, 4, 4].tolist() == pytest.approx([1, 0, 0], abs=0.02)
    assert image.metadata.icc == b""


@pytest.mark.parametrize("size", [(1, 1), (10, 20_000)])
def test_extreme_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = random_pixels("RGB", size=size)
    image_of(pixels).save(tmp_path / "in.png")
    write_image(tmp_path / "out.png", read_image(tmp_path / "in.png"))
    with Image.open(tmp_path / "out.png") as back:
        assert np.array_equal(np.asarray(back), pixels)


# --- 16 bits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("source", LOSSLESS)
@pytest.mark.parametrize("target", LOSSLESS)
def test_sixteen_bits_come_back(tmp_path: Path, mode: str, source: str, target: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = random_pixels(mode, np.uint16)
    (write_deep_png if source == "png" else write_deep_tiff)(tmp_path / "in", pixels)
    image = read_image(tmp_path / "in")
    assert image.bits == 16
    assert image.pixels.shape == (1, 1 if mode.startswith("L") else 3, 7, 9)
    assert (image.alpha is not None) == mode.endswith("A")
    assert np.array_equal(to_array(image, np.uint16), pixels)
    write_image(tmp_path / "out", image, target)
    assert np.array_equal(to_array(read_image(tmp_path / "out"), np.uint16), pixels)
    if target == "tiff":
        assert np.array_equal(tifffile.imread(tmp_path / "out").reshape(pixels.shape), pixels)
    else:
        assert (tmp_path / "out").read_bytes()[24] == 16
        with Image.open(tmp_path / "out") as back:
            back.verify()


def test_metadata_of_sixteen_bits(tmp_path: Path) -> None:
    exif = camera_exif(6).tobytes().removeprefix(b"Exif\0\0")
    pixels = random_pixels("RGB", np.uint16)
    profile = b"profile\0\0" + zlib.compress(SRGB)
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % 6
    write_deep_png(
        tmp_path / "in.png",
        pixels,
        png_chunk(b"iCCP", profile),
        png_chunk(b"pHYs", struct.pack(">IIB", 11811, 7874, 1)),
        png_chunk(b"eXIf", exif),
        png_chunk(b"iTXt", xmp),
        png_chunk(b"iTXt", "workflow\0\0\0\0\0写真".encode()),
    )
    image = read_image(tmp_path / "in.png")
    assert np.array_equal(to_array(image, np.uint16), np.rot90(pixels, -1))
    for format in LOSSLESS:
        write_image(tmp_path / "out", image, format)
        back = read_image(tmp_path / "out")
        assert np.array_equal(to_array(back, np.uint16), np.rot90(pixels, -1)), "turned twice"
        assert back.metadata.icc == SRGB
        assert back.metadata.xmp == XMP % 1
        assert back.metadata.dpi == pytest.approx((300, 200), abs=0.1)
        if format == "png":
            assert back.metadata == image.metadata
            with Image.open(tmp_path / "out") as opened:
                assert opened.getexif()[0x8298] == "(c) me"
                assert opened.getexif().get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"


def test_float_tiff(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((5, 6, 3), np.float32)
    write_deep_tiff(tmp_path / "in.tif", values)
    image = read_image(tmp_path / "in.tif")
    assert image.bits == 16
    assert np.array_equal(image.pixels[0].permute(1, 2, 0).numpy(), values)
    write_deep_tiff(tmp_path / "hdr.tif", values * 3)
    with pytest.raises(ImageError, match="outside 0 to 1"):
        read_image(tmp_path / "hdr.tif")


def test_sixteen_bits_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_deep_png(tmp_path / "in.png", random_pixels("RGB", np.uint16))
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(ImageError, match=r'in\.png has 16 bits.*pip install "pyvips\[binary\]"'):
        read_image(tmp_path / "in.png")


def test_eight_bit_formats_warn_of_the_loss(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = RasterImage(torch.rand(1, 3, 4, 4), bits=16)
    write_image(tmp_path / "out.jpg", image, "jpeg")
    assert "png and tiff keep 16" in caplog.text


# --- what is refused ------------------------------------------------------------------------------


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


def test_gif_that_does_not_move(tmp_path: Path) -> None:
    Image.new("RGB", (9, 7), (0, 0, 255)).save(tmp_path / "still.gif")
    assert read_image(tmp_path / "still.gif").pixels[0, :, 3, 3].tolist() == [0, 0, 1]


def test_thumbnail_in_a_tiff_does_not_count(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = random_pixels("RGB", size=(32, 32))
    with tifffile.TiffWriter(tmp_path / "in.tif") as tiff:
        tiff.write(pixels, photometric="rgb")
        tiff.write(pixels[::4, ::4], photometric="rgb", subfiletype=1)
    assert np.array_equal(to_array(read_image(tmp_path / "in.tif"), np.uint8), pixels)


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


def test_metadata_too_large_for_jpeg(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "x" * 70_000)
    image_of(random_pixels("RGB")).save(tmp_path / "in.png", pnginfo=text)
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "in.png"), "jpeg")
    assert "do not fit into JPEG" in caplog.text
    assert read_image(tmp_path / "out.jpg").metadata.xmp == b""


# --- writing --------------------------------------------------------------------------------------


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
