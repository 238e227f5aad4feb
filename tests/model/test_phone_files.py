"""HEIC, AVIF and JPEG XL: their pixels, bits, colours, and how they are turned."""

from __future__ import annotations

import dataclasses
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from devudp_model.images import isobmff, jpeg_xl
from devudp_model.images.orientation import upright
from devudp_model.images.raster import ImageError, to_array
from devudp_model.images.reading import read_image, read_stored
from devudp_model.images.writing import write_image
from tests.model import colour_files as made
from tests.model.image_files import camera_exif, image_of, random_pixels

AVIF = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")


def smooth(height: int = 64, width: int = 96) -> np.ndarray:
    """H,W,3 in [0, 1], whose four quarters differ."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x / width, y / height, (x + 2 * y) / (width + 2 * height)], -1)


# --- HEIC -----------------------------------------------------------------------------------------


def write_heic(path: Path, pixels: np.ndarray, mode: str, **options: Any) -> None:
    heif = pytest.importorskip("pillow_heif")
    size = pixels.shape[1], pixels.shape[0]
    heif.from_bytes(mode=mode, size=size, data=pixels.tobytes()).save(path, quality=-1, **options)


def test_ten_bits_of_heic(tmp_path: Path) -> None:
    values = (smooth() * 1023).round().astype(np.uint16) << 6
    values[:8] = 1023 << 6
    write_heic(tmp_path / "a.heic", values, "RGB;16", chroma=444)
    image = read_stored(tmp_path / "a.heic")
    assert image.format == "heic" and image.bits == 16
    assert np.abs(made.read_srgb(tmp_path / "a.heic", 16) / 65535 - values / 65472).mean() < 0.005
    assert len(np.unique(made.read_srgb(tmp_path / "a.heic", 16))) > 500, (
        "only the values of 8 bits"
    )


def test_ten_bits_of_grey_heic(tmp_path: Path) -> None:
    """Neither white, nor a little darker than it was."""
    values = np.full((64, 64), 512 << 6, np.uint16)
    values[:, 32:] = 1023 << 6
    write_heic(tmp_path / "a.heic", values, "I;16")
    image = read_image(tmp_path / "a.heic")
    assert image.pixels.shape == (1, 1, 64, 64) and image.bits == 16
    assert image.pixels[0, 0, 20, 10].item() == pytest.approx(0.5, abs=0.01)
    assert image.pixels.max() == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once(tmp_path: Path, orientation: int) -> None:
    """By its own property; what EXIF says of it is not applied again, and set back."""
    heif = pytest.importorskip("pillow_heif")
    pixels = (smooth() * 255).astype(np.uint8)
    opened = heif.from_pillow(image_of(pixels))
    opened.info["exif"] = camera_exif(orientation).tobytes()
    opened.save(tmp_path / "a.heic", quality=-1, chroma=444)
    image = read_image(tmp_path / "a.heic")
    exif = Image.Exif()
    exif.load(image.metadata.exif)
    assert exif.get(0x0112, 1) == 1 and exif[0x010E] == "a description"
    expected = upright(pixels, orientation) / 255
    seen = image.pixels[0].permute(1, 2, 0).numpy()
    assert seen.shape == expected.shape and np.abs(seen - expected).mean() < 0.02


def test_hdr_heic(tmp_path: Path) -> None:
    """PQ by its numbers: seen with white at 203 candela, and PQ again in PNG."""
    white = 0.5807  # of PQ: 203 candela
    values = np.full((64, 64, 3), round(white * 1023) << 6, np.uint16)
    write_heic(
        tmp_path / "a.heic", values, "RGB;16", color_primaries=9, transfer_characteristics=16,
        matrix_coefficients=9,
    )  # fmt: skip
    image = read_image(tmp_path / "a.heic")
    assert image.origin is not None and image.origin.space.name == "BT.2020 PQ"
    assert image.pixels.mean() > 0.97
    write_image(tmp_path / "out.png", image)
    again = read_stored(tmp_path / "out.png")
    assert again.origin is not None and again.origin.space.name == "BT.2020 PQ"


def test_heic_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_heic(tmp_path / "a.heic", (smooth() * 255).astype(np.uint8), "RGB")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r'\(HEIC\).*"devudp\[formats\]"'):
        read_image(tmp_path / "a.heic")


# --- AVIF -----------------------------------------------------------------------------------------


@AVIF
def test_avif(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = (smooth() * 255).astype(np.uint8)
    image_of(pixels).save(tmp_path / "a.avif", quality=95, exif=camera_exif(6).tobytes())
    image = read_image(tmp_path / "a.avif")
    assert image.format == "avif" and image.pixels.shape == (1, 3, 96, 64)
    seen = image.pixels[0].permute(1, 2, 0).numpy()
    assert np.abs(seen - np.rot90(pixels, -1) / 255).mean() < 0.02
    write_image(tmp_path / "out.avif", image, "avif")
    with Image.open(tmp_path / "out.avif") as back:
        assert back.size == (64, 96) and back.getexif().get(0x0112, 1) == 1
        assert back.getexif()[0x010E] == "a description"
    assert not caplog.records


@AVIF
@pytest.mark.parametrize("bits", [10, 12])
def test_deep_avif(
    tmp_path: Path, bits: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pyvips = pytest.importorskip("pyvips")
    ramp = np.linspace(0, 65535, 64 * 256).reshape(64, 256, 1).repeat(3, 2).astype(np.uint16)
    image = pyvips.Image.new_from_array(ramp, interpretation="rgb16")
    image.heifsave(str(tmp_path / "a.avif"), compression="av1", bitdepth=bits, lossless=True)
    found = read_stored(tmp_path / "a.avif")
    assert found.bits == 16 and found.format == "avif"
    seen = made.read_srgb(tmp_path / "a.avif", 16)
    assert len(np.unique(seen)) > 900 and seen.max() == 65535
    monkeypatch.setitem(sys.modules, "pyvips", None)
    found = read_stored(tmp_path / "a.avif")
    assert found.bits == 8
    write_image(tmp_path / "out.avif", found, "avif")
    assert f"it has {bits} bits a channel, of which 8 are read without pyvips" in caplog.text


@AVIF
def test_moving_avif(tmp_path: Path) -> None:
    frames = [image_of(random_pixels("RGB")) for _ in range(3)]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="holds 3 images"):
        read_image(tmp_path / "a.avif")


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9])
@AVIF
def test_damaged_avif(tmp_path: Path, cut: float) -> None:
    image_of(random_pixels("RGB", size=(64, 64))).save(tmp_path / "a.avif")
    content = (tmp_path / "a.avif").read_bytes()
    (tmp_path / "cut.avif").write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(ImageError, match="damaged"):
        read_image(tmp_path / "cut.avif")


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def test_parts_of_a_container() -> None:
    """A gain map and a depth map are found by their items, and the main image's properties."""
    depth = b"\0" * 4 + b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth\0"
    properties = box(b"ispe", struct.pack(">III", 0, 30, 20)) + box(b"auxC", depth)
    properties += box(b"colr", b"nclx" + struct.pack(">HHHB", 9, 16, 9, 128))
    table = struct.pack(">IIHBBBHBB", 0, 2, 1, 2, 1, 3, 2, 1, 2)
    items = b"".join(
        box(b"infe", b"\2\0\0\0" + struct.pack(">HH", n, 0) + kind + b"\0")
        for n, kind in ((1, b"av01"), (2, b"av01"), (3, b"tmap"))
    )
    meta = bytes(4) + box(b"pitm", bytes(4) + struct.pack(">H", 1))
    meta += box(b"iinf", bytes(4) + struct.pack(">H", 3) + items)
    meta += box(b"iprp", box(b"ipco", properties) + box(b"ipma", table))
    found = isobmff.read(box(b"ftyp", b"avif" + bytes(4) + b"mif1") + box(b"meta", meta))
    assert found.image.size == (30, 20) and found.image.nclx == (9, 16)
    assert found.parts == ["depth map", "gain map"]


def container(purpose: bytes, *beside: bytes) -> bytes:
    """With an auxiliary image, and boxes beside the images."""
    properties = box(b"ispe", struct.pack(">III", 0, 30, 20)) + box(b"auxC", bytes(4) + purpose)
    table = struct.pack(">IIHBBHBB", 0, 2, 1, 1, 1, 2, 1, 2)
    items = b"".join(
        box(b"infe", b"\2\0\0\0" + struct.pack(">HH", n, 0) + b"hvc1\0") for n in (1, 2)
    )
    meta = bytes(4) + box(b"pitm", bytes(4) + struct.pack(">H", 1))
    meta += box(b"iinf", bytes(4) + struct.pack(">H", 2) + items)
    meta += box(b"iprp", box(b"ipco", properties) + box(b"ipma", table))
    return box(b"ftyp", b"heic" + bytes(4) + b"mif1") + box(b"meta", meta) + b"".join(beside)


@pytest.mark.parametrize(
    "purpose, beside, parts",
    [
        (b"urn:mpeg:hevc:2015:auxid:1\0", b"", []),  # alpha
        (b"urn:com:apple:photo:2018:aux:portraiteffectsmatte\0", b"", ["auxiliary image"]),
        (b"urn:com:apple:photo:2020:aux:hdrgainmap\0", b"", ["gain map"]),
        (b"", box(b"mpvd", b"a video"), ["video"]),
        (b"", box(b"moov", b"a burst"), ["image sequence"]),
        (b"", box(b"uuid", isobmff.C2PA + b"manifest"), ["content credentials (C2PA)"]),
        (b"", box(b"uuid", bytes(16)), ["box uuid"]),
    ],
)
def test_what_else_lies_in_a_container(purpose: bytes, beside: bytes, parts: list[str]) -> None:
    assert isobmff.read(container(purpose, beside)).parts == parts


@pytest.mark.parametrize("seed", range(40))
def test_damaged_containers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(box(b"ftyp", b"avif" + bytes(4)) + box(b"meta", rng.bytes(200)))
    for name in (b"iloc", b"iinf", b"iprp", b"ipma", b"ipco", b"pitm"):
        at = int(rng.integers(24, 200))
        content[at : at + 8] = struct.pack(">I", int(rng.integers(0, 90))) + name
    isobmff.read(bytes(content))


# --- JPEG XL --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_jpeg_xl(tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("pillow_jxl")
    pixels = random_pixels(mode, size=(20, 30))
    image_of(pixels).save(tmp_path / "a.jxl", lossless=True, exif=camera_exif(1).tobytes())
    image = read_stored(tmp_path / "a.jxl")
    assert image.format == "jxl" and image.bits == 8
    assert np.array_equal(to_array(image, np.uint8), pixels)
    assert b"a description" in image.metadata.exif
    write_image(tmp_path / "out.jxl", image, "jxl")
    assert b"a description" in read_stored(tmp_path / "out.jxl").metadata.exif
    assert not caplog.records


def test_a_jpeg_file_in_jpeg_xl(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    image_of(random_pixels("RGB", size=(24, 32))).save(tmp_path / "a.jpg", exif=camera_exif(6))
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(tmp_path / "a.jxl", lossless_jpeg=True)
    found, expected = read_stored(tmp_path / "a.jxl"), read_stored(tmp_path / "a.jpg")
    assert (found.pixels == expected.pixels).all() and found.pixels.shape == (1, 3, 32, 24)
    assert found.metadata.exif == expected.metadata.exif


@pytest.mark.parametrize("size", [(8, 256), (30, 20), (1000, 700), (160, 90)])
def test_headers_of_jpeg_xl(tmp_path: Path, size: tuple[int, int]) -> None:
    pytest.importorskip("pillow_jxl")
    Image.new("RGB", size, (9, 99, 199)).save(tmp_path / "a.jxl")
    found = jpeg_xl.header((tmp_path / "a.jxl").read_bytes())
    assert found == (*size, 8)
    Image.new("I;16", size, 999).save(tmp_path / "b.jxl", lossless=True)
    assert jpeg_xl.header((tmp_path / "b.jxl").read_bytes()).bits == 16
    assert read_stored(tmp_path / "b.jxl").bits == 16


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("channels", [3, 4])
def test_jpeg_xl_of_many_bits(tmp_path: Path, bits: int, channels: int) -> None:
    pytest.importorskip("pillow_jxl")
    codecs = pytest.importorskip("imagecodecs")
    most = 2**bits - 1
    ramp = np.arange(32 * 48 * channels).reshape(32, 48, channels) * most // (32 * 48 * channels)
    ramp[0, 0] = most
    content = codecs.jpegxl_encode(ramp.astype(np.uint16), lossless=True, bitspersample=bits)
    (tmp_path / "a.jxl").write_bytes(content)
    image = read_stored(tmp_path / "a.jxl")
    assert image.bits == 16 and (image.alpha is not None) == (channels == 4)
    assert image.origin is not None and image.origin.space.name.endswith("Lin")  # the codec's
    stored = dataclasses.replace(image, pixels=image.origin.pixels)
    assert np.abs(to_array(stored, np.uint16) / 65535 - ramp / most).max() < 1e-5


def test_jpeg_xl_of_many_bits_without_what_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("pillow_jxl")
    codecs = pytest.importorskip("imagecodecs")
    content = codecs.jpegxl_encode(np.full((9, 9, 3), 9999, np.uint16), lossless=True)
    (tmp_path / "a.jxl").write_bytes(content)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    image = read_stored(tmp_path / "a.jxl")
    write_image(tmp_path / "a.png", image)
    assert image.bits == 8 and "16 bits a channel, of which its decoder gives 8" in caplog.text


def test_jpeg_xl_of_floating_point(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What no package here gives is said, without advice that would not help."""
    pytest.importorskip("pillow_jxl")
    codecs = pytest.importorskip("imagecodecs")
    content = codecs.jpegxl_encode(np.full((9, 9, 3), 0.5, np.float32), lossless=True)
    (tmp_path / "a.jxl").write_bytes(content)
    write_image(tmp_path / "a.png", read_stored(tmp_path / "a.jxl"))
    assert "32 bits a channel, of which its decoder gives 8." in caplog.text


@pytest.mark.parametrize("lossless", [False, True])
def test_jpeg_xl_without_boxes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lossless: bool
) -> None:
    """A file that is the image alone: its bytes are not taken for names of boxes."""
    pytest.importorskip("pillow_jxl")
    image_of(random_pixels("RGB", size=(20, 30))).save(
        tmp_path / "a.jxl", lossless=lossless, use_container=False
    )
    assert (tmp_path / "a.jxl").read_bytes().startswith(b"\xff\x0a")
    write_image(tmp_path / "a.png", read_stored(tmp_path / "a.jxl"))
    assert not caplog.records


def test_an_animation_in_jpeg_xl_is_refused(tmp_path: Path) -> None:
    """Two images of 9x9 pixels, by cjxl 0.7."""
    (tmp_path / "a.jxl").write_bytes(
        bytes.fromhex(
            "ff0a4010c100028a4b0208029209000064004b188b15c24142e105220048a68d0400000000000000000000"
            "080292050068004b188b15c24902e6052200d8f1bd580000000000000000000000"
        )
    )
    with pytest.raises(ImageError, match=r"a\.jxl is an animation.*Split it"):
        read_stored(tmp_path / "a.jxl")


def test_jpeg_xl_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pillow_jxl")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jxl")
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(ImageError, match=r'\(JPEG XL\).*"devudp\[formats\]"'):
        read_image(tmp_path / "a.jxl")


# --- transparency ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_that_alpha_is_multiplied_into(tmp_path: Path, dtype: type) -> None:
    """Are taken out of it, since results hold them without."""
    tifffile = pytest.importorskip("tifffile")
    most = 1 if dtype == np.float32 else np.iinfo(dtype).max
    alpha = np.linspace(0.2, 1, 40)[None].repeat(30, 0)[..., None]
    colour = np.full((30, 40, 3), 0.6) if most > 1 else made.linear(np.full((30, 40, 3), 0.6))
    pixels = np.concatenate([colour * alpha, alpha], 2) * most
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(dtype), photometric="rgb", extrasamples=[1])
    image = read_image(tmp_path / "a.tif")
    assert image.alpha is not None
    assert np.abs(image.pixels.numpy() - 0.6).max() < 0.03
    write_image(tmp_path / "out.tif", image, "tiff")
    again = read_image(tmp_path / "out.tif")
    assert np.abs(again.pixels.numpy() - 0.6).max() < 0.03
    brighter = dataclasses.replace(image, pixels=image.pixels * 0 + 0.8)
    write_image(tmp_path / "out.tif", brighter, "tiff")
    assert np.abs(read_image(tmp_path / "out.tif").pixels.numpy() - 0.8).max() < 0.04
