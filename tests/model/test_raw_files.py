"""Raw files of cameras: what is one, and how it is developed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from devudp_model.images import raw, tiff_exif
from devudp_model.images.raster import ImageError
from devudp_model.images.reading import read_image
from devudp_model.images.writing import write_image
from tests.model import colour_files as made
from tests.model.camera_files import write_dng


def photograph() -> np.ndarray:
    """H,W,3 linear light."""
    y, x = np.mgrid[0:120, 0:160]
    return made.linear(0.1 + 0.8 * np.stack([x / 160, y / 120, (x + 2 * y) / 400], -1))


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("name", ["a.dng", "a.NEF", "a.tif"])
def test_raw_files_are_developed(tmp_path: Path, name: str, preview: bool) -> None:
    """By their content, whatever their name; never the preview. 16 bits, no brightening."""
    pytest.importorskip("rawpy")
    write_dng(tmp_path / name, photograph() * 0.25, preview=preview)
    image = read_image(tmp_path / name)
    assert image.format == "raw" and image.bits == 16 and image.pixels.shape == (1, 3, 120, 160)
    seen = made.linear(image.pixels[0].permute(1, 2, 0).double().numpy()).mean()
    assert seen == pytest.approx(photograph().mean() * 0.25, rel=0.15)
    write_image(tmp_path / "out.png", image)
    with Image.open(tmp_path / "out.png") as back:
        assert back.size == (160, 120)


@pytest.mark.parametrize("preview", [False, True])
def test_what_editors_wrote_into_a_raw_file_is_kept(tmp_path: Path, preview: bool) -> None:
    pytest.importorskip("rawpy")
    xmp = b'<x:xmpmeta><rdf:RDF><rdf:Description xmp:Rating="4"/></rdf:RDF></x:xmpmeta>'
    iptc = b"\x1c\x02\x78\x00\x10A winter evening"
    more = [(700, 1, len(xmp), xmp, True), (33723, 7, len(iptc), iptc, True)]
    write_dng(tmp_path / "a.dng", photograph(), preview=preview, more=more)
    write_image(tmp_path / "b.png", read_image(tmp_path / "a.dng"))
    found = read_image(tmp_path / "b.png").metadata
    assert b'xmp:Rating="4"' in found.xmp and found.iptc == iptc


@pytest.mark.parametrize("name", ["a.CR2", "a.tif", "a"])
def test_the_preview_of_a_cr2_file_is_not_taken_for_it(tmp_path: Path, name: str) -> None:
    """Its first directory is a JPEG preview that says nothing of being one."""
    small = tmp_path / "small.tif"
    Image.new("RGB", (64, 48), "grey").save(small, compression="jpeg")
    content = small.read_bytes()
    start = int.from_bytes(content[4:8], "little")
    head = content[:4] + (start + 8).to_bytes(4, "little") + b"CR\2\0" + bytes(4)
    moved = tiff_exif.moved(content, 16)  # the directory's places count from the head
    (tmp_path / name).write_bytes(head + moved)
    with pytest.raises(ImageError, match="raw"):
        read_image(tmp_path / name)


def test_raw_files_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dng(tmp_path / "a.dng", photograph(), preview=True)
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(ImageError, match=r'a\.dng is of a kind \(raw\).*"devudp\[raw\]"'):
        read_image(tmp_path / "a.dng")


def test_damaged_raw_files(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    write_dng(tmp_path / "a.dng", photograph())
    content = (tmp_path / "a.dng").read_bytes()
    (tmp_path / "cut.dng").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.cr2").write_text("no image" * 100)
    for name, reason in (("cut.dng", r"cut off\?"), ("text.cr2", "raw file that cannot be read")):
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("start", "suffix", "tags", "expected"),
    [
        (b"FUJIFILMCCD-RAW 0201", ".raf", {}, True),
        (b"IIU\0\x18\0\0\0", ".rw2", {}, True),
        (b"IIRO\x08\0\0\0", ".orf", {}, True),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", ".cr3", {}, True),
        (b"\0MRM\0\x0a", ".mrw", {}, True),
        (b"II\x1a\0\0\0HEAPCCDR", "", {}, True),
        (b"II*\0\x10\0\0\0CR\2\0", ".tif", {259: (6,)}, True),
        (b"II*\0\x08\x0a\0\0IIIICwaR", "", {254: (0,)}, True),
        (b"II*\0\x08\0\0\0\x10\0", ".tif", {259: (6,)}, False),
        (b"II*\0", ".cr2", {}, True),
        (b"II*\0", ".tif", {50706: (1, 4, 0, 0)}, True),
        (b"II*\0", ".tif", {262: (32803,)}, True),
        (b"II*\0", ".tif", {254: (1,), 330: (500,)}, True),
        (b"II*\0", ".tif", {254: (1,)}, False),
        (b"II*\0", ".tif", {254: (0,), 330: (500,)}, False),
        (b"\xff\xd8\xff\xe0", ".nef", {}, False),
        (b"\x89PNG", ".dng", {}, False),
    ],
)
def test_what_is_raw(start: bytes, suffix: str, tags: dict, expected: bool) -> None:
    assert raw.is_raw(start, suffix, tags) == expected


def test_raw_files_that_claim_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rawpy")
    write_dng(tmp_path / "a.dng", photograph())
    monkeypatch.setenv("DEVUDP_FILE_MEMORY", "100000")
    with pytest.raises(ImageError, match="160x120 pixels"):
        read_image(tmp_path / "a.dng")
