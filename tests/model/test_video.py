"""Videos: frames, times, sound, scenes, memory, and flicker."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from devudp_model.checkpoint import bundled, load_checkpoint, save_checkpoint
from devudp_model.cli import main as cli
from devudp_model.network.generator import Generator
from devudp_model.restoring.frozen import VideoRestorer
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.scenes import CutFinder, Sampler
from devudp_model.videos import video
from devudp_model.videos.pyav import VideoError
from devudp_model.videos.video import restore_video

av = pytest.importorskip("av")

RATE = Fraction(30000, 1001)


def scene(seed: int, size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 9, 3), np.uint8))
    return np.asarray(small.resize(size, Image.Resampling.BICUBIC)).astype(float)


def make_clip(
    path: Path,
    frames: int = 30,
    *,
    size: tuple[int, int] = (96, 64),
    cut: int | None = None,
    sound: str | None = "aac",
    light: float = 1.0,
    noise: float = 3.0,
    lamp: bool = False,
) -> Path:
    """A clip of one or two scenes that stand still, with a tone as long as the images.

    `lamp`: in the upper left corner a light goes on and off.
    """
    rng, looks = np.random.default_rng(0), [scene(1, size), scene(2, size)]
    with av.open(str(path), "w") as container:
        images = container.add_stream("libx264", rate=RATE, options={"crf": "8"})
        images.width, images.height = size
        images.pix_fmt = "yuv420p"
        tone = None
        if sound:
            tone = container.add_stream(sound, rate=44100)
            tone.layout = "mono"
        for number in range(frames):
            look = looks[0] if cut is None or number < cut else looks[1]
            pixels = light * look + rng.normal(0, noise, look.shape)
            if lamp and number % 2:
                pixels[: size[1] // 3, : size[0] // 3] = 255
            array = pixels.clip(0, 255).astype(np.uint8)
            container.mux(images.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(images.encode(None))
        if tone is not None:
            count = int(44100 * frames / RATE)
            wave = np.sin(2 * np.pi * 440 / 44100 * np.arange(count))
            array = (wave * 20000).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(array, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 44100, 0
            resampler = av.AudioResampler(format=tone.format, layout="mono", rate=44100)
            for part in resampler.resample(frame):
                container.mux(tone.encode(part))
            container.mux(tone.encode(None))
    return path


def read_clip(source: Any) -> dict[str, Any]:
    with av.open(str(source) if isinstance(source, Path) else source) as container:
        frames = list(container.decode(video=0))
        found = {
            "rate": container.streams.video[0].average_rate,
            "times": [frame.pts * frame.time_base for frame in frames],
            "pixels": np.stack([video.seen(frame)[0].numpy() for frame in frames]),
            "sound": None,
        }
    with av.open(str(source) if isinstance(source, Path) else source) as container:
        if container.streams.audio:
            parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
            found["codec"] = container.streams.audio[0].codec_context.name
            found["sound"] = np.concatenate(parts, 1)
    return found


def unchanged(sample: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda frame: frame


@pytest.mark.parametrize("as_bytes", [False, True])
def test_times_sound_and_colours_stay(tmp_path: Path, as_bytes: bool) -> None:
    clip = make_clip(tmp_path / "a.mp4", noise=0.0)  # colours of single pixels do not survive
    source = io.BytesIO(clip.read_bytes()) if as_bytes else clip
    outcome = restore_video(source, tmp_path / "b.mp4", unchanged)
    assert outcome.frames == 30 and outcome.scenes == [0]
    before, after = read_clip(clip), read_clip(tmp_path / "b.mp4")
    assert after["rate"] == before["rate"] == RATE
    assert after["times"] == before["times"]
    assert after["codec"] == "aac" and np.array_equal(after["sound"], before["sound"])
    change = (after["pixels"] - before["pixels"]) * 255
    assert np.abs(change).mean() < 3 and np.abs(change.mean((0, 2, 3))).max() < 1


def test_sound_that_mp4_does_not_hold_is_encoded(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", sound="flac")
    restore_video(clip, tmp_path / "b.mp4", unchanged)
    before, after = read_clip(clip), read_clip(tmp_path / "b.mp4")
    assert after["codec"] == "aac"
    assert abs(after["sound"].shape[1] - before["sound"].shape[1]) < 3000  # whole AAC frames
    assert 0.3 < np.abs(after["sound"]).max() < 0.9


def test_without_sound_and_of_odd_size(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", 5, sound=None)
    seen = []

    def crop(sample: Tensor) -> Callable[[Tensor], Tensor]:
        seen.append(sample.shape)
        return lambda frame: frame[..., :63, :95]

    restore_video(clip, tmp_path / "b.mp4", crop)
    after = read_clip(tmp_path / "b.mp4")
    assert after["pixels"].shape == (5, 3, 63, 95) and after["sound"] is None
    assert seen == [(5, 3, 64, 96)]


def test_scenes_do_not_share_statistics(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", 40, cut=17)
    samples: list[Tensor] = []

    def note(sample: Tensor) -> Callable[[Tensor], Tensor]:
        samples.append(sample)
        return lambda frame: frame

    outcome = restore_video(clip, tmp_path / "b.mp4", note)
    assert outcome.scenes == [0, 17] and outcome.frames == 40
    pixels = read_clip(clip)["pixels"]
    for sample, frame in zip(samples, (pixels[3], pixels[30]), strict=True):
        assert len(sample) == 8
        assert np.abs(sample.numpy() - frame).mean() < 0.03


def test_neither_a_pan_nor_a_flash_is_a_cut() -> None:
    look = scene(3, (200, 100)).mean(2)
    pan = CutFinder()
    assert not any(pan(look[20:56, start : start + 64]) for start in range(0, 100, 4))
    flash = CutFinder()
    frames = [look[:36, :64]] * 10 + [np.full((36, 64), 250.0)] * 2 + [look[:36, :64]] * 10
    assert sum(flash(frame) for frame in frames) <= 1
    dark = CutFinder()
    looks = [0.05 * look[:36, :64]] * 9 + [0.05 * look[40:76, 90:154]] * 9
    assert [dark(frame) for frame in looks].index(True) == 9


@pytest.mark.parametrize("count", [1, 2, 9, 16, 17, 100, 1000])
def test_a_sample_is_spread_over_the_scene(count: int) -> None:
    sampler = Sampler()
    for number in range(count):
        sampler.add(lambda number=number: torch.full((1, 3, 4, 4), float(number)))
    numbers = sampler.sample()[:, 0, 0, 0].tolist()
    assert len(numbers) == min(count, 8) or (count < 17 and len(numbers) >= 4)
    assert numbers == sorted(set(numbers))
    assert numbers[0] <= count / 4 and numbers[-1] >= count * 0.6 - 1


def test_a_stop_leaves_nothing(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4")

    def stop(done: int, total: int) -> None:
        assert total == 30
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_video(clip, tmp_path / "b.mp4", unchanged, stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video" * 100)
    with pytest.raises(VideoError, match="is no video that can be read"):
        restore_video(tmp_path / "a.mp4", tmp_path / "b.mp4", unchanged)


def tiny(variant: Any = "devudp") -> Generator:
    torch.manual_seed(0)
    generator = Generator(variant, width=4, depth=1).eval()
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    return generator


def static_change(pixels: np.ndarray) -> float:
    """Mean absolute change from frame to frame where there is no lamp, as a share of the contrast
    there: so it does not depend on a gain."""
    static = pixels[..., pixels.shape[2] // 2 :, pixels.shape[3] // 2 :]
    return float(np.abs(np.diff(static, axis=0)).mean() / static.mean(0).std())


@pytest.mark.slow
def test_static_places_do_not_flicker(tmp_path: Path) -> None:
    """A lamp changes the statistics of every other frame, and nothing else must change with it."""
    clip = make_clip(tmp_path / "a.mp4", 8, light=0.3, noise=2.0, lamp=True)
    generator = load_checkpoint(bundled("devudp")).generator
    options = Options(task="low light")

    def shared(sample: Tensor) -> Callable[[Tensor], Tensor]:
        return VideoRestorer(generator, sample, options)

    def each(sample: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda frame: restore(frame, generator, options)

    changes = {"input": static_change(read_clip(clip)["pixels"])}
    for name, make in (("shared", shared), ("each", each)):
        restore_video(clip, tmp_path / f"{name}.mp4", make)
        changes[name] = static_change(read_clip(tmp_path / f"{name}.mp4")["pixels"])
    assert changes["shared"] < changes["each"] / 2, changes
    assert changes["shared"] < 1.1 * changes["input"], changes


MEMORY = """
import sys, resource
from pathlib import Path
import torch
from devudp_model.videos.video import restore_video
from devudp_model.restoring.frozen import VideoRestorer
from devudp_model.network.generator import Generator
from devudp_model.restoring.options import Options
torch.set_num_threads(1)
generator = Generator("devudp", width=1, depth=1).eval()
make = lambda sample: VideoRestorer(generator, sample, Options())
restore_video(Path(sys.argv[1]), Path(sys.argv[2]), make)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no module resource")
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    used = []
    for frames in (30, 600):
        clip = make_clip(tmp_path / f"{frames}.mp4", frames, size=(192, 128))
        arguments = [sys.executable, "-c", MEMORY, str(clip), str(tmp_path / "out.mp4")]
        run = subprocess.run(arguments, capture_output=True, text=True, check=True)
        used.append(int(run.stdout) / 1024)
    pixels = (600 - 30) * 192 * 128 * 3 * 4 / 2**20  # 160 MB as float32
    assert used[1] - used[0] < min(24, pixels / 6), used


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "tiny.safetensors", tiny(), {}, dtype=torch.float32)
    return tmp_path / "tiny.safetensors"


@pytest.mark.slow
def test_the_command_line_takes_videos(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(tmp_path / "clip.mkv", 12, light=0.15)
    image = tmp_path / "a.png"
    Image.fromarray(scene(5, (48, 32)).astype(np.uint8)).save(image)
    out = tmp_path / "out"
    arguments = ["restore", str(clip), str(image), "--out", str(out), "--device", "cpu"]
    arguments += ["--checkpoint", str(weights)]
    assert cli.main([*arguments, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_name = {Path(line["file"]).name: line for line in lines}
    assert by_name["clip.mkv"]["result"] == str(out / "clip.mp4")
    assert by_name["clip.mkv"]["auto"]["task"] in ("low light", "joint")
    assert by_name["a.png"]["auto"]["reason"] and by_name["a.png"]["error"] is None
    assert len(read_clip(out / "clip.mp4")["times"]) == 12
    assert cli.main(arguments) == 1
    text = capsys.readouterr()
    assert "exists already" in text.err
    assert cli.main([*arguments, "--skip-existing"]) == 0
    assert "0 restored" in capsys.readouterr().out
    assert cli.main([*arguments, "--overwrite"]) == 0
    assert f"{clip}: very dark" in capsys.readouterr().out


def test_a_video_is_never_overwritten(tmp_path: Path, weights: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 3)
    before = clip.read_bytes()
    arguments = ["--checkpoint", str(weights), "--device", "cpu", "--overwrite"]
    assert cli.main(["restore", str(clip), "--out", str(tmp_path), *arguments]) == 1
    assert clip.read_bytes() == before
