"""Every segment, chunk and box of a file is in the result, or a message names it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from devudp_model.images import segments
from devudp_model.images.reading import read_image
from devudp_model.images.writing import write_image
from tests.model.image_files import image_of, random_pixels

STARTS = {
    0: b"II\x1a\0\0\0HEAPJPGM", 1: b"QVCI\0", 2: b"FPXR\0", 3: b"Meta\0\0", 4: b"PIC\0",
    5: b"RMETA\0", 6: b"EPPIM\0", 7: b"\x1aQualcomm", 8: b"SEAL", 9: b"Media Jukebox\0",
    10: b"UNICODE\0", 12: b"PictureInfo", 13: b"Adobe_CM\0", 14: b"Own", 15: b"Q 70",
}  # fmt: skip


def encoded(format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image_of(random_pixels("RGB", size=(24, 32))).save(stream, format, **options)
    return stream.getvalue()


def with_segments(*pairs: tuple[int, bytes]) -> bytes:
    """A JPEG file with segments; each a number and its content."""
    made = b"".join(
        bytes([0xFF, 0xE0 + number]) + struct.pack(">H", len(content) + 2) + content
        for number, content in pairs
    )
    content = encoded("JPEG")
    return content[:2] + made + content[2:]


def rewritten(folder: Path, suffix: str, content: bytes, format: str) -> bytes:
    (folder / f"a.{suffix}").write_bytes(content)
    write_image(folder / f"out.{suffix}", read_image(folder / f"a.{suffix}"), format)
    return (folder / f"out.{suffix}").read_bytes()


@pytest.mark.parametrize("number", sorted(STARTS))
def test_every_segment_is_carried(
    tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of makers and programs, whatever they are."""
    own = STARTS[number] + b" and what follows"
    assert own in rewritten(tmp_path, "jpg", with_segments((number, own)), "jpeg")
    assert not caplog.records


@pytest.mark.parametrize(
    "number, start, word",
    [
        (0, b"JFXX\0\x10", "thumbnail (JFXX)"),
        (8, b"SPIFF\0", "encoder's notes (SPIFF)"),
        (12, b"Ducky", "encoder's notes (Ducky)"),
        (0, b"AVI1", "encoder's notes (AVI1)"),
        (11, b"JP\0\1", "JPEG XT data"),
        (11, b"JP\0\1....jumb..json", "JUMBF data"),
        (11, b"JP\0\1....jumbc2pa", "content credentials (C2PA)"),
    ],
)
def test_or_it_is_named(
    tmp_path: Path, number: int, start: bytes, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What describes the file as it was, or holds a stamp of the image as it was."""
    own = start + b" and what follows"
    content = rewritten(tmp_path, "jpg", with_segments((number, own)), "jpeg")
    assert own not in content and f"the file's {word} is not kept" in caplog.text


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    "name, data, kept",
    [
        (b"tIME", bytes([7, 232, 5, 6, 7, 8, 9]), True),
        (b"vpAg", b"of a program", True),  # safe to copy, by the last letter
        (b"oFFs", bytes(9), True),
        (b"bKGD", bytes(6), False),
        (b"caBX", b"credentials", False),
        (b"sBIT", bytes([5, 6, 5]), False),
        (b"sBIT", bytes([8, 8, 8]), None),  # says nothing
        (b"iDOT", bytes(28), None),  # how Apple's decoder shares its work
    ],
)
def test_chunks_of_png(
    tmp_path: Path,
    name: bytes,
    data: bytes,
    kept: bool | None,
    deep: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    content = encoded("PNG")
    if deep:
        rows = b"".join(b"\0" + bytes(range(6)) * 8 for _ in range(8))
        head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
        body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        content = content[:8] + body
    own = chunk(name, data)
    made = rewritten(tmp_path, "png", content[:33] + own + content[33:], "png")
    assert (own in made) == bool(kept)
    words = f"its own PNG chunks ({name.decode()}) are not kept"
    assert (words in caplog.text) == (kept is False)
    Image.open(io.BytesIO(made)).load()
    caplog.clear()
    write_image(tmp_path / "b.jpg", read_image(tmp_path / "a.png"), "jpeg")
    assert ("JPEG cannot hold its further chunks" in caplog.text) == bool(kept)


def test_chunks_of_webp(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = encoded("WEBP", exif=Image.Exif().tobytes())
    own = b"OWN " + struct.pack("<I", 4) + b"data"
    content = content[:4] + struct.pack("<I", len(content) - 8 + len(own)) + content[8:] + own
    assert own not in rewritten(tmp_path, "webp", content, "webp")
    assert "its own WebP chunks (OWN ) are not kept" in caplog.text
    caplog.clear()
    rewritten(tmp_path, "webp", encoded("WEBP", lossless=True), "webp")
    assert not caplog.records


def test_boxes_of_jpeg_xl() -> None:
    def box(name: bytes, data: bytes = b"") -> bytes:
        return struct.pack(">I", len(data) + 8) + name + data

    plain = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp") + box(b"Exif") + box(b"jxlc", b"\xff\x0a")
    assert segments.parts_of_jxl(plain) == ()
    found = segments.parts_of_jxl(plain + box(b"jhgm", b"map") + box(b"jumb") + box(b"ownx"))
    assert found == ("gain map", "content credentials (C2PA)", "box ownx")


def test_odd_pixels_survive_the_chunks(tmp_path: Path) -> None:
    """What is put in before the pixels changes none of them."""
    pixels = random_pixels("RGBA", size=(7, 5))
    stream = io.BytesIO()
    image_of(pixels).save(stream, "PNG")
    content = stream.getvalue()
    content = content[:33] + chunk(b"vpAg", b"x" * 999) + content[33:]
    made = rewritten(tmp_path, "png", content, "png")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made))), pixels)


def test_data_behind_a_png_image_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And not taken for names of chunks; zeros there are nothing."""
    content = encoded("PNG")
    assert b"trailing" not in rewritten(tmp_path, "png", content + b"trailing bytes here", "png")
    assert "its own PNG chunks (data behind the image) are not kept" in caplog.text
    caplog.clear()
    rewritten(tmp_path, "png", content + bytes(99), "png")
    assert not caplog.records
