"""What a video is stays as it is: bits, chroma, colours, HDR, shape, times."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from devudp_model.videos.frame_colours import Colours, seen
from devudp_model.videos.hdr import PEAK, compress, expand, from_view, to_view
from devudp_model.videos.pyav import VideoError, video_stream
from devudp_model.videos.turns import Turn
from devudp_model.videos.video import VideoOutcome, restore_video
from tests.model.video_cases import FRAMES, HEIGHT, RATE, WIDTH, frames_of, scene, tag, write

av = pytest.importorskip("av")

PQ, HLG, BT2020, YCGCO = 16, 18, 9, 8


def unchanged(sample: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda frame: frame


def brighter(sample: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda frame: (frame * 1.2).clamp(0, 1)


def restored(path: Path, make: Any = unchanged, **options: Any) -> tuple[Path, VideoOutcome]:
    target = path.with_name(f"{path.stem}_restored.mp4")
    return target, restore_video(path, target, make, **options)


NEEDS_TURNS = pytest.mark.skipif(
    not hasattr(av.video.stream.VideoStream, "set_display_rotation"), reason="an older PyAV"
)


def read(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        video = video_stream(container)
        return list(container.decode(video))


def luma(frames: list[Any]) -> np.ndarray:
    """Frames, rows, columns: the file's own numbers."""
    found = []
    for frame in frames:
        kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
        plane = frame.planes[0]
        found.append(np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width])
    return np.stack(found).astype(float)


def tags(path: Path) -> tuple[int, ...]:
    """Matrix, primaries, transfer and range, by H.273's numbers."""
    names = ("colorspace", "color_primaries", "color_trc", "color_range")
    with av.open(str(path)) as container:
        coding = video_stream(container).codec_context
        next(container.decode(video=0))
        return tuple(int(getattr(coding, name)) for name in names)


@pytest.mark.parametrize(
    "format, codec, result",
    [
        ("yuv420p", "libx264", "yuv420p"),
        ("yuv422p", "libx264", "yuv422p"),
        ("yuv444p", "libx264", "yuv444p"),
        ("yuv422p10le", "libx264", "yuv422p10le"),
        ("yuv444p10le", "libx264", "yuv444p10le"),
        ("yuv420p10le", "libx265", "yuv420p10le"),
        ("yuv444p12le", "libx265", "yuv444p10le"),
        ("yuv411p", "ffv1", "yuv422p"),
        ("gray", "ffv1", "yuvj420p"),
    ],
)
def test_bits_and_chroma_stay(tmp_path: Path, format: str, codec: str, result: str) -> None:
    options = {} if codec == "ffv1" else None
    size = (64, 64)  # 10 bits of smaller frames are H.264
    clip = write(tmp_path / "a.mkv", frames_of(format, size=size), codec, options)
    target, outcome = restored(clip)
    before, after = read(clip), read(target)
    assert after[0].format.name == result
    depth, made = (frames[0].format.components[0].bits for frames in (before, after))
    change = luma(after) / 2 ** (made - 8) - luma(before) / 2 ** (depth - 8)
    assert np.abs(change).mean() < 0.7 and abs(change.mean()) < 0.2
    assert bool(outcome.said) == (depth > 10)


@pytest.mark.parametrize("matrix", [1, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("span", [1, 2])
def test_matrix_and_range_stay_true(tmp_path: Path, matrix: int, span: int) -> None:
    numbers = {"colorspace": matrix, "color_range": span, "color_primaries": 1, "color_trc": 1}
    frames = list(frames_of("yuv444p", 2))
    for frame in frames:
        rgb = torch.from_numpy(scene(frame.pts)).permute(2, 0, 1)[None].float()
        made = Colours.of(Stated(frame, matrix, span))
        planes = torch.einsum("ij,bjhw->bihw", made.inner.float(), rgb)
        for i, plane in enumerate(frame.planes):
            zero, scale = (0, 255) if span == 2 else (16, 219)
            zero, scale = (zero, scale) if i == 0 else (128, 255 if span == 2 else 224)
            rows = np.zeros((plane.height, plane.line_size), np.uint8)
            rows[:, : plane.width] = (planes[0, i] * scale + zero).round().clamp(0, 255).byte()
            plane.update(rows.tobytes())
    clip = write(tmp_path / "a.mp4", frames, set_up=tag(**numbers))
    target, _ = restored(clip)
    kept = (1 if matrix == YCGCO else matrix, 1, 1, span)
    for path, numbers in ((clip, (matrix, 1, 1, span)), (target, kept)):
        frame = read(path)[0]
        assert tags(path) == numbers
        pixels = seen(frame)[0].permute(1, 2, 0).numpy()
        assert np.abs(pixels - scene(0)).mean() < 0.01, "the colours are those that were written"


class Stated:
    """A frame that says other numbers."""

    def __init__(self, frame: Any, matrix: int, span: int):
        self.format, self.height, self.width = frame.format, frame.height, frame.width
        self.colorspace, self.color_range = matrix, span
        self.color_primaries = self.color_trc = 1


def test_rgb_becomes_bt709(tmp_path: Path) -> None:
    clip = write(tmp_path / "a.mkv", frames_of("bgr0"), "ffv1", {})
    target, outcome = restored(clip)
    frame = read(target)[0]
    assert frame.format.name == "yuv444p" and tags(target) == (1, 1, 1, 1)
    pixels = seen(frame)[0].permute(1, 2, 0).numpy()
    assert np.abs(pixels - scene(0)).mean() < 0.01
    assert outcome.said == ["Its colours, coded as RGB, are coded as BT.709."]


def test_a_matrix_that_is_not_known_is_named(tmp_path: Path) -> None:
    clip = write(tmp_path / "a.mp4", frames_of("yuv420p"), set_up=tag(colorspace=14))
    with pytest.raises(VideoError, match=r"a\.mp4: .*ICtCp.*Convert it"):
        restored(clip)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


MASTERING = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_stays_hdr(tmp_path: Path, transfer: int) -> None:
    said = f"log-level=error:repeat-headers=1:{MASTERING}:max-cll=1000,400"
    clip = write(
        tmp_path / "a.mkv",
        frames_of("yuv420p10le", size=(128, 64), matrix=BT2020),
        "libx265",
        {"crf": "4", "x265-params": said if transfer == PQ else "log-level=error"},
        tag(colorspace=BT2020, color_primaries=BT2020, color_trc=transfer, color_range=1),
    )
    target, _ = restored(clip)
    before, after = read(clip), read(target)
    assert tags(clip) == tags(target) == (BT2020, BT2020, transfer, 1)
    assert after[0].format.name == "yuv420p10le"
    kinds = {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"}
    stated = [
        {s.type.name: bytes(s) for s in frame.side_data if s.type.name in kinds}
        for frame in (before[0], after[0])
    ]
    assert stated[0] == stated[1] and bool(stated[0]) == (transfer == PQ)
    light = [decoded_light(luma(frames), transfer) for frames in (before, after)]
    share = light[1].mean(0) / light[0].mean(0)
    assert np.abs(share - 1).mean() < 0.02 and abs(share.mean() - 1) < 0.005
    made, _ = restored(clip, brighter)
    dim = luma(before) < 500  # what is brighter than the network sees is not changed
    brightened = decoded_light(luma(read(made)), transfer)[dim] / light[0][dim]
    assert dim.mean() > 0.1 and brightened.mean() > 1.2


def decoded_light(codes: np.ndarray, transfer: int) -> np.ndarray:
    """Relative light of luma, by the formulas of ITU-R BT.2100."""
    signal = ((codes - 64) / 876).clip(0, 1)
    if transfer == HLG:
        high = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
        return np.where(signal <= 0.5, signal**2 / 3, high)
    power = signal ** (32 / 2523)
    return (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (16384 / 2610)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_the_view_of_hdr_can_be_undone(transfer: int) -> None:
    light = torch.linspace(0, PEAK, 1000)
    seen = compress(light)
    assert seen.min() == 0 and seen.max() == pytest.approx(1) and (seen.diff() > 0).all()
    assert torch.allclose(expand(seen), light, rtol=1e-3, atol=1e-5)
    grey = torch.linspace(0.05, 0.55, 200).expand(1, 3, 1, -1)
    space = Colours.find_space(BT2020, transfer)
    assert space is not None
    assert torch.allclose(from_view(to_view(grey, space), space), grey, atol=1e-3)


@NEEDS_TURNS
def test_pixels_need_not_be_square(tmp_path: Path) -> None:
    def shape(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)

    def turned(stream: Any) -> None:
        shape(stream)
        stream.set_display_rotation(90)

    for set_up, expected in ((shape, Fraction(16, 11)), (turned, Fraction(11, 16))):
        target, _ = restored(write(tmp_path / "a.mp4", frames_of("yuv420p"), set_up=set_up))
        with av.open(str(target)) as container:
            assert container.streams.video[0].sample_aspect_ratio == expected


TURNS = {  # FFmpeg's degrees and flips: what a player shows of an image
    (0, False, False): lambda x: x,
    (0, True, False): np.fliplr,
    (0, False, True): np.flipud,
    (90, False, False): lambda x: np.rot90(x, 1),
    (180, False, False): lambda x: np.rot90(x, 2),
    (-90, False, False): lambda x: np.rot90(x, -1),
    (90, True, False): lambda x: np.fliplr(np.rot90(x, 1)),
    (90, False, True): lambda x: np.flipud(np.rot90(x, 1)),
}


@NEEDS_TURNS
@pytest.mark.parametrize("turn", TURNS)
def test_frames_are_upright(tmp_path: Path, turn: tuple[int, bool, bool]) -> None:
    clip = write(
        tmp_path / "a.mp4",
        frames_of("yuv420p", 2),
        set_up=lambda stream: stream.set_display_rotation(*turn),
    )
    target, _ = restored(clip)
    [frame, _] = read(target)
    assert Turn.of(frame) == Turn(), "turned once, and not again"
    pixels = seen(frame)[0].permute(1, 2, 0).numpy()
    expected = TURNS[turn](scene(0))
    assert pixels.shape == expected.shape and np.abs(pixels - expected).mean() < 0.03


def interlaced(number: int) -> np.ndarray:
    """A bar that moves between the two fields of a frame."""
    fields = []
    for time in (2 * number, 2 * number + 1):
        pixels = np.full((HEIGHT, WIDTH, 3), 0.2)
        pixels[:, 8 + 2 * time : 24 + 2 * time] = 0.8
        fields.append(pixels)
    fields[0][1::2] = fields[1][1::2]
    return fields[0]


def combs(frames: list[Any]) -> float:
    """How much neighbouring rows differ, more than rows of one field."""
    rows = luma(frames)[1:-1]
    return float(np.abs(np.diff(rows, axis=1)).mean())


def test_fields_become_whole_frames(tmp_path: Path) -> None:
    frames = []
    for number in range(FRAMES):
        pixels = (interlaced(number) * 255).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, RATE)
        frames.append(frame)
    options = {"crf": "4", "x264-params": "interlaced=1:tff=1"}
    clip = write(tmp_path / "a.mp4", frames, options=options)
    target, outcome = restored(clip)
    before, after = read(clip), read(target)
    assert before[0].interlaced_frame and not after[0].interlaced_frame
    assert len(after) == len(before) == FRAMES
    assert [f.pts * f.time_base for f in after] == [f.pts * f.time_base for f in before]
    assert combs(after) < 0.4 * combs(before)
    assert outcome.said == ["It is interlaced: deinterlaced (bwdif), one image for two fields."]


def test_what_the_struct_of_a_display_matrix_is() -> None:
    """A matrix that is no quarter turn is taken for the nearest."""

    class Part:
        def __init__(self, numbers: list[int]):
            self.numbers = numbers
            self.type = type("T", (), {"name": "DISPLAYMATRIX"})

        def __bytes__(self) -> bytes:
            return struct.pack("=9i", *self.numbers)

    def frame(numbers: list[int]) -> Any:
        return type("F", (), {"side_data": [Part(numbers)]})()

    nearly = [65000, 3000, 0, -3000, 65000, 0, 0, 0, 1 << 30]
    assert Turn.of(frame(nearly)) == Turn()
