"""The table of formats says what is so, and the page that is made from it is current."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import features

from devudp_model.images import formats
from devudp_model.images.metadata import Metadata
from devudp_model.images.raster import ImageError, RasterImage
from devudp_model.images.reading import read_image, read_stored
from devudp_model.images.writing import check_format, write_image
from tests.model import colour_files as made
from tests.model.image_files import XMP, camera_exif, image_of, random_pixels
from tools import make_formats

ROOT = Path(__file__).parents[2]
WRITTEN = [each for each in formats.TABLE if each.writes]
IPTC = b"\x1c\x02\x78\x00\x07harbour"
NAMES = [each.name for each in WRITTEN]


def needs(format: formats.Format) -> None:
    """Skips where what it needs is not installed."""
    if format.package:
        pytest.importorskip(format.package)
    if format.name == "avif" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")


def test_page_is_current() -> None:
    page = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
    assert page == make_formats.page(), "run python -m tools.make_formats"


@pytest.mark.parametrize("format", WRITTEN, ids=NAMES)
def test_what_a_format_keeps(
    tmp_path: Path, format: formats.Format, caplog: pytest.LogCaptureFixture
) -> None:
    """As the table says; and what it does not keep is said."""
    needs(format)
    metadata = Metadata(exif=camera_exif().tobytes(), xmp=XMP % 1, iptc=IPTC)
    alpha = torch.full((1, 1, 16, 24), 0.5) if format.alpha else None
    image = RasterImage(torch.rand(1, 3, 16, 24), alpha, metadata=metadata)
    write_image(tmp_path / "out", image, format.name)
    back = read_stored(tmp_path / "out")
    assert back.format == format.name
    assert (back.alpha is not None) == format.alpha
    assert (b"2020:01:01" in back.metadata.exif) == format.exif
    assert (back.metadata.xmp.strip(b"\0") == XMP % 1) == format.xmp
    assert (back.metadata.iptc == IPTC) == format.iptc
    for name, kept in (("EXIF", format.exif), ("IPTC", format.iptc), ("XMP", format.xmp)):
        assert (name in caplog.text.replace(str(tmp_path), "")) != kept
    if not format.alpha:
        with pytest.raises(ImageError, match="transparency"):
            check_format(dataclasses.replace(image, alpha=torch.ones(1, 1, 16, 24)), format.name)


@pytest.mark.parametrize("format", WRITTEN, ids=NAMES)
def test_the_colours_that_a_format_keeps(
    tmp_path: Path, format: formats.Format, caplog: pytest.LogCaptureFixture
) -> None:
    needs(format)
    icc = made.profile("P3", made.P3, made.SRGB_CURVE)
    image_of(random_pixels("RGB", size=(16, 24))).save(tmp_path / "in.png", icc_profile=icc)
    write_image(tmp_path / "out", read_image(tmp_path / "in.png"), format.name)
    back = read_stored(tmp_path / "out")
    kept = formats.ICC in format.colour
    assert (back.metadata.icc == icc) == kept and (back.origin is not None) == kept
    assert ("converted to sRGB" in caplog.text) != kept


@pytest.mark.parametrize("format", WRITTEN, ids=NAMES)
def test_the_bits_that_a_format_keeps(
    tmp_path: Path, format: formats.Format, caplog: pytest.LogCaptureFixture
) -> None:
    needs(format)
    ramp = torch.linspace(0, 1, 4096).view(1, 1, 1, 4096).expand(1, 3, 8, -1)
    write_image(tmp_path / "out", RasterImage(ramp, bits=16), format.name)
    deep = format.write_bits > 8
    assert (len(read_image(tmp_path / "out").pixels.unique()) > 4000) == deep
    assert ("it has 8 bits a channel" in caplog.text) != deep


def test_every_suffix_belongs_to_one_format() -> None:
    suffixes = [suffix for each in formats.TABLE for suffix in each.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in suffixes)
    assert formats.of_suffix(".JPG") is formats.BY_NAME["jpeg"]
    assert formats.of_suffix(".txt") is None


@pytest.mark.parametrize("name", ["jxl", "avif"])
def test_what_is_missing_is_said_before_the_work(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda package: None)
    monkeypatch.setattr(features, "check", lambda feature: False)
    with pytest.raises(ImageError, match=r"devudp\[formats\]|Pillow 11\.3"):
        check_format(RasterImage(torch.zeros(1, 3, 4, 4)), name)
