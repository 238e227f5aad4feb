"""How images reach the samples: clips and videos, unreadable files, the cache, the loader."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.ops.degrade import to_linear, to_srgb
from tests.training.samples import change, plain, seen
from tests.training.training_run import NARROW, TINY, make_both
from training.config import Config
from training.data.check_data import inspect
from training.data.dataset import Key, UnpairedImages
from training.data.image_cache import ImageCache, UnreadableImage, decode, size_of
from training.data.layouts import list_clips, list_images
from training.data.loader import StepSampler, make_loader
from training.data.video_frames import extract
from training.train import main as train

# Frames


def test_frames_are_averaged_in_linear_light(config: Config, tmp_path: Path):
    clip = tmp_path / "clips/one"
    clip.mkdir(parents=True)
    for number, level in enumerate((0, 255, 255, 0)):
        Image.new("RGB", (60, 60), (level,) * 3).save(clip / f"{number}.png")
    frames = plain(config, frames=(str(tmp_path / "clips"),), frames_share=1.0,
                   frames_window=(4, 4))  # fmt: skip
    A = seen(frames, range(1))[0, 0]
    expected = to_srgb(to_linear(torch.tensor([0.0, 1.0, 1.0, 0.0])).mean()) * 2 - 1
    assert A.mean().item() == pytest.approx(expected.item(), abs=5e-3)  # 0.47, not 0


def test_a_video_becomes_a_clip(tmp_path: Path):
    av = pytest.importorskip("av")
    video = tmp_path / "clip.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(0, 250, 25):
            pixels = np.full((48, 64, 3), level, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    train(["frames", str(video), "--out", str(tmp_path / "frames")])
    (clip,) = list_clips([tmp_path / "frames"])
    assert len(clip) == 10 and decode(clip[4]).mean() == pytest.approx(100, abs=4)
    assert extract(video, tmp_path / "few", every=3, limit=2) == 2
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match="no video that can be read"):
        extract(tmp_path / "text.mp4", tmp_path / "none")


# Unreadable images, the cache, the loader


def test_one_corrupt_image_among_many_is_skipped_and_its_neighbour_taken(
    config: Config, tmp_path: Path
):
    for number in range(6, 200):
        shutil.copyfile(tmp_path / "sharp/000.png", tmp_path / f"sharp/{number:03d}.png")
    broken = tmp_path / "sharp/150.png"
    broken.write_bytes(broken.read_bytes()[:60])
    images = UnpairedImages(change(config, synthetic_blur_share=0.0))
    assert len(images.cache.places) == 202
    place = images.domains.sharp.index(broken)
    number = next(n for n in range(200) if images.pick(images.domains.sharp, n, 1) == place)
    sample = images[Key(0, number)]
    assert sample.files[1].endswith("151.png") and "150.png" in sample.faults[0]
    with pytest.raises(UnreadableImage):
        decode(broken)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_a_pipe_among_the_images_is_not_waited_for(config: Config, tmp_path: Path):
    os.mkfifo(tmp_path / "sharp/pipe.png")
    with pytest.raises(UnreadableImage, match="not a regular file"):
        decode(tmp_path / "sharp/pipe.png")
    assert size_of(tmp_path / "sharp/pipe.png") == (0, 0)
    assert "not a regular file" in inspect(tmp_path / "sharp/pipe.png").error
    images = UnpairedImages(change(config, synthetic_blur_share=0.0))
    faults = [fault for number in range(12) for fault in images[Key(0, number)].faults]
    assert any("pipe.png" in fault for fault in faults)


@pytest.mark.slow
def test_a_run_counts_and_names_unreadable_images_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    arguments = ["unpaired", *make_both(tmp_path, 4), *TINY, *NARROW, "--schedule.length", "6"]
    (tmp_path / "sharp/001.png").write_text("not an image")
    train([*arguments, "--data.synthetic-blur-share", "0", "--out", str(tmp_path / "run")])
    said = [m for m in caplog.messages if "Skipped an image" in m]
    assert len(said) == 1 and "001.png" in said[0] and "(1 so far)" in said[0]
    assert any(m.startswith("1 images could not be read") for m in caplog.messages)


def test_only_unreadable_images_stop_the_training(config: Config, tmp_path: Path):
    for path in (tmp_path / "sharp").iterdir():
        path.write_text("not an image")
    with pytest.raises(UnreadableImage, match="check-data"):
        UnpairedImages(config)[Key(0, 0)]


def test_cache_keeps_to_its_bound_and_changes_nothing(config: Config):
    paths = list_images([*config.data.sharp, *config.data.blurry])
    size = 64 * 48 * 3
    for bound, kept in ((0, 0), (3 * size + 5, 3), (10**9, 9)):
        cache = ImageCache(paths, bound)
        assert len(cache.places) == kept and cache.block.numel() <= bound
        assert all(np.array_equal(cache.read(path), decode(path)) for path in paths)
    small = seen(change(config, cache_gb=2 * size / 1e9), range(6))
    assert torch.equal(small, seen(change(config, cache_gb=0.0), range(6)))


def test_processes_share_out_a_step():
    steps = [(0, 12, 4), (0, 16, 4), (1, 20, 2)]
    whole = list(StepSampler(steps))
    halves = [list(StepSampler(steps, rank, 2)) for rank in (0, 1)]
    assert whole[0] == [Key(0, 12), Key(0, 13), Key(0, 14), Key(0, 15)]
    assert whole[2] == [Key(1, 20), Key(1, 21)]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole


@pytest.mark.slow
def test_loader_workers_change_nothing(config: Config):
    images = UnpairedImages(config)
    loaded = [
        list(make_loader(images, [(0, 0, 2), (0, 2, 2)], workers=workers, pin=False))
        for workers in (0, 1)
    ]
    for here, there in zip(*loaded, strict=True):
        assert here.files == there.files and torch.equal(here.A.pixels, there.A.pixels)
        assert here.A.seeds == there.A.seeds and torch.equal(here.A.noise, there.A.noise)
