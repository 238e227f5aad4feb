"""Samples: what is drawn, what is cut, and that nothing but seed, stage and number decides it."""

import math
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from devudp_model.degrade import Shake, to_linear, to_srgb
from tests.training.training_run import NARROW, TINY, make_both, make_images
from training.batch import Batch
from training.config import Config, DataConfig, Stage
from training.data.check_data import inspect
from training.data.dataset import Key, SampleMaker, UnpairedImages
from training.data.image_cache import ImageCache, UnreadableImage, decode, size_of
from training.data.layouts import list_clips, list_images
from training.data.loader import StepSampler, make_loader
from training.data.synthesis import MARGIN, cut_sides, render_batch, stack_plans
from training.data.video_frames import extract
from training.train import main as train

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    make_both(tmp_path)
    data = DataConfig(
        sharp=(str(tmp_path / "sharp"),),
        blurry=(str(tmp_path / "blurry"),),
        synthetic_blur_share=0.5,
        crop=32,
        short_side=(36, 48),
        blur_length=(2.0, 5.0),
        noise=0.2,
        tone=(0.7, 2.0),
        exposure="common",
        cache_gb=0.01,
    )
    return Config(data=data)


def change(config: Config, **data: object) -> Config:
    return replace(config, data=replace(config.data, **data))  # pyright: ignore[reportArgumentType]


def plain(config: Config, **data: object) -> Config:
    """Without anything that changes an image's values."""
    return change(config, **{"exposure": "as is", "noise": 0.0, "tone": (1.0, 1.0), **data})


def batch_of(images: UnpairedImages, keys: list[Key]) -> Batch:
    samples = [images[key] for key in keys]
    A, B = stack_plans([s.A for s in samples]), stack_plans([s.B for s in samples])
    return render_batch(A, B, images.stages[keys[0].stage], CPU)


def seen(config: Config, numbers: range, stage: int = 0) -> Tensor:
    """All that a run would see, one sample at a time: samples,4,3,crop,crop."""
    images = UnpairedImages(config)
    batches = [batch_of(images, [Key(stage, number)]) for number in numbers]
    return torch.stack([torch.cat(list(batch[:4])) for batch in batches])


def test_a_sample_depends_on_seed_and_number_alone(config: Config):
    forwards = seen(config, range(8))
    assert torch.equal(forwards, seen(config, range(7, -1, -1)).flip(0))
    torch.manual_seed(5)
    random.seed(5)
    assert torch.equal(forwards, seen(config, range(8)))
    assert not torch.equal(forwards, seen(replace(config, seed=1), range(8)))
    assert len({float(s[0].mean()) for s in forwards}) > 4


def test_samples_of_a_batch_are_those_of_one_each(config: Config):
    images = UnpairedImages(change(config, reblur_length=(1.0, 6.0), crop=24))
    keys = [Key(0, number) for number in range(4)]
    together = batch_of(images, keys)
    for k, key in enumerate(keys):
        for whole, one in zip(together, batch_of(images, [key]), strict=True):
            assert whole is not None and one is not None
            torch.testing.assert_close(whole[k], one[0], atol=1e-5, rtol=0)


def test_a_stage_has_settings_of_its_own(config: Config):
    stages = (Stage("one", 1), Stage("two", 1, {"data.crop": 40, "data.noise": 0.0}))
    staged = replace(config, stages=stages)
    assert torch.equal(seen(staged, range(3), 0), seen(config, range(3)))
    assert torch.equal(
        seen(staged, range(3), 1), seen(change(config, crop=40, noise=0.0), range(3))
    )


def test_samples_are_crops_in_range(config: Config):
    found = seen(plain(config), range(12))
    assert found.shape == (12, 4, 3, 32, 32)
    assert found.min() >= -1 and found.max() <= 1
    assert torch.equal(found[:, :2], found[:, 2:])  # G gets what the losses compare with


def test_each_image_of_A_once_an_epoch_in_another_order_each_time(config: Config):
    images = UnpairedImages(change(config, synthetic_blur_share=0.0))
    files = [images[Key(0, number)].files for number in range(24)]
    A, B = zip(*files, strict=True)
    epochs = [A[start : start + 3] for start in range(0, 24, 3)]
    assert all(len(set(epoch)) == 3 for epoch in epochs) and len(set(epochs)) > 2
    rounds = [B[start : start + 6] for start in range(0, 24, 6)]
    assert all(len(set(r)) == 6 for r in rounds) and len(set(rounds)) > 2
    only_synthetic = UnpairedImages(change(config, blurry=(), synthetic_blur_share=1.0))
    files = [only_synthetic[Key(0, number)].files[0] for number in range(9)]
    assert all(len(set(files[start : start + 3])) == 3 for start in range(0, 9, 3))


def test_domains_are_drawn_apart(config: Config):
    """Whichever image of A comes, all images of B come with it."""
    images = UnpairedImages(plain(config, synthetic_blur_share=0.0))
    paths = images.domains
    pairs = {
        (images.pick(paths.real_blurry, n, 0), images.pick(paths.sharp, n, 1)) for n in range(300)
    }
    assert len(pairs) == 3 * 6


def test_synthetic_blur_is_of_images_that_B_never_shows(config: Config):
    images = UnpairedImages(change(config, blurry=(), synthetic_blur_share=1.0, held_out=2))
    samples = [images[Key(0, number)] for number in range(40)]
    assert all(sample.A.blur is not None and sample.B.blur is None for sample in samples)
    A, B = ({sample.files[side] for sample in samples} for side in (0, 1))
    assert len(A) == len(B) == 2 and not A & B
    assert not (A | B) & set(map(str, images.domains.held_out))


def test_share_of_synthetic_blur(config: Config):
    images = UnpairedImages(change(config, synthetic_blur_share=0.8))
    made = sum(images[Key(0, number)].A.blur is not None for number in range(300)) / 300
    assert made == pytest.approx(0.8, abs=0.07)


def test_share_of_samples_with_noise_and_its_strength(config: Config):
    """sigma is noise x u^1.5 with u uniform: 1/2.5 of the largest on average, 0.35 of it median."""
    images = UnpairedImages(change(config, noise=0.2, noise_share=0.3, shot_noise=0.8))
    makers = [SampleMaker(images, images.stages[0], number) for number in range(4000)]
    plans = [maker.draw_noise() for maker in makers]
    sigmas = torch.tensor([plan.sigma for plan in plans if plan.sigma])
    assert len(sigmas) / len(plans) == pytest.approx(0.3, abs=0.03)
    assert sigmas.mean() / 0.2 == pytest.approx(1 / 2.5, abs=0.03)
    assert sigmas.median() / 0.2 == pytest.approx(0.5**1.5, abs=0.035)
    assert sigmas.max() <= 0.2
    shots = torch.tensor([plan.shot for plan in plans if plan.sigma])
    assert shots.min() >= 0 and shots.max() <= 0.8 and abs(shots.mean() - 0.4) < 0.03
    coarse = sum(plan.levels > 0 for plan in plans) / len(sigmas)
    assert coarse == pytest.approx(0.25, abs=0.05)
    assert len({plan.seed for plan in plans if plan.sigma}) == len(sigmas)


def test_share_of_samples_with_jpeg_and_their_qualities(config: Config):
    images = UnpairedImages(change(config, jpeg_share=0.4, jpeg_quality=(50, 52)))
    found = [images[Key(0, n)].B.jpeg_quality for n in range(300)]
    assert sum(q > 0 for q in found) / 300 == pytest.approx(0.4, abs=0.08)
    assert set(found) == {0, 50, 51, 52}


def test_noise_tone_black_level_and_jpeg_are_on_the_inputs_alone(config: Config):
    before = seen(plain(config, exposure="common"), range(3))
    for changes in (
        {"noise": 0.2, "noise_share": 1.0},
        {"tone": (2.0, 2.0)},
        {"black_level": 0.6},
        {"jpeg_share": 1.0, "jpeg_quality": (5, 5)},
    ):
        found = seen(plain(config, exposure="common", **changes), range(3))
        assert torch.equal(found[:, 0], before[:, 0]), changes
        # Whether B is mirrored is drawn after what is done to A.
        for mine, its in zip(found[:, 1], before[:, 1], strict=True):
            assert torch.equal(mine, its) or torch.equal(mine, its.flip(-1)), changes
        assert (found[:, 2:] - found[:, :2]).abs().amax((0, 2, 3, 4)).min() > 0.01, changes


# Cutting


def cut(config: Config, pixels: np.ndarray, place: tuple[float, float, float], side: int = 32):
    images = UnpairedImages(config)
    crop = SampleMaker(images, images.stages[0], 0).cut(pixels, place, side)
    return crop.permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("size", [(400, 300), (301, 517), (1234, 777)])
def test_a_cut_is_that_of_the_whole_image_downsized(
    size: tuple[int, int], config: Config, tmp_path: Path
):
    """Only the box under the crop is resized; two roundings apart at most."""
    make_images(tmp_path / "big", 1, size=size)
    full = decode(tmp_path / "big/000.png")
    short = min(size)
    for place in ((100.0, 0.0, 0.0), (100.0, 0.5, 0.25), (63.0, 0.99, 0.99), (250.0, 0.3, 0.7)):
        wanted = int(place[0])
        width, height = (max(round(s * (wanted / short)), 32) for s in size)
        small = np.asarray(
            Image.fromarray(full).resize((width, height), Image.Resampling.LANCZOS)
        ).astype(int)
        top, left = (int(u * (s - 31)) for u, s in zip(place[1:], (height, width), strict=True))
        expected = small[top : top + 32, left : left + 32]
        assert np.abs(cut(config, full, place) - expected).max() <= 2, (size, place)
        assert np.abs(cut(config, full, place) - expected).mean() < 0.1


def test_images_are_never_enlarged_unless_they_are_too_small(config: Config, tmp_path: Path):
    make_images(tmp_path / "big", 1, size=(400, 300))
    full = decode(tmp_path / "big/000.png")
    corner = full[:32, :32].astype(int)
    assert np.array_equal(cut(change(config, downsize=False), full, (100.0, 0, 0)), corner)
    assert np.array_equal(cut(config, full, (900.0, 0, 0)), corner)
    flat = np.zeros((10, 300, 3), dtype=np.uint8)
    assert cut(config, flat, (36.0, 0.9, 0.9)).shape == (32, 32, 3)


def test_what_is_cut_has_margins_for_blur_and_what_is_shrunk():
    data = DataConfig(crop=64)
    assert cut_sides(data) == (64 + 2 * MARGIN, 64)
    smaller = replace(data, reblur_length=(1.0, 2.0), reblur_scale=0.5)
    assert cut_sides(smaller) == (2 * (64 + 2 * MARGIN) + 2 * MARGIN, 128)


# Movements


def blurs(config: Config, count: int, **data: object) -> list[Shake]:
    images = UnpairedImages(change(config, blurry=(), synthetic_blur_share=1.0, **data))
    found = [images[Key(0, number)].A.blur for number in range(count)]
    return [shake for shake in found if shake is not None]


def test_straight_movements_are_even_and_of_few_directions(config: Config):
    angles = set()
    for shake in blurs(config, 40, straight_share=1.0, directions=4, blur_length=(6.0, 6.0)):
        path = shake.path[:, :2] * shake.extent
        steps = path.diff(dim=0)
        assert shake.roll == 0
        assert torch.allclose(steps, steps[:1].expand_as(steps), atol=1e-5)
        assert (path[-1] - path[0]).norm().item() == pytest.approx(6, abs=1e-4)
        assert steps.norm(dim=1).max() < 1 and path.mean(0).abs().max() < 1e-5
        angles.add(round(math.degrees(math.atan2(*steps[0].flip(0).tolist())) % 180) % 180)
    assert angles == {0, 45, 90, 135}


def test_kinds_of_movement_have_their_shares_and_lengths(config: Config):
    found = blurs(config, 400, straight_share=0.5, sweep_share=0.2, blur_length=(2.0, 8.0))
    straight = [shake for shake in found if shake.roll == 0]
    assert len(found) == 400 and len(straight) / 400 == pytest.approx(0.5, abs=0.08)
    # Shakes roll by half their length; sweeps by any share of it.
    sweeps = [s for s in found if s.roll and abs(s.roll - s.extent / 2) > 1e-6]
    assert len(sweeps) / 400 == pytest.approx(0.2, abs=0.06)
    lengths = torch.tensor([s.extent for s in straight])
    others = torch.tensor([s.extent for s in found if s.roll])
    assert lengths.median().item() == pytest.approx(5.0, abs=0.6)  # all are as frequent
    assert others.median().item() == pytest.approx(2 + 6 * 0.5**1.5, abs=0.6)  # short ones more
    assert min(lengths.min(), others.min()) >= 2 and max(lengths.max(), others.max()) <= 8


def test_tone_curves_and_highlights_of_the_blur(config: Config):
    found = blurs(config, 60, curve=(1.0, 9.0), highlights=2.0)
    curves = [shake.curve for shake in found if shake.curve is not None]
    assert len(curves) == 60 and min(curves) >= 1 and max(curves) < 9
    assert 20 < sum(curve < 3 for curve in curves) < 40  # as often below the geometric mean
    assert all(0 <= shake.highlights < 2 for shake in found)
    assert all(shake.curve is None for shake in blurs(config, 5))


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
    with pytest.raises(UnreadableImage, match="no regular file"):
        decode(tmp_path / "sharp/pipe.png")
    assert size_of(tmp_path / "sharp/pipe.png") == (0, 0)
    assert "no regular file" in inspect(tmp_path / "sharp/pipe.png").error
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
