"""Samples: what is drawn, what is cut, and that nothing but seed, stage and number decides it."""

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.ops.degrade import Shake
from tests.training.samples import batch_of, change, plain, seen
from tests.training.training_run import make_images
from training.config import Config, DataConfig, Stage
from training.data.dataset import Key, SampleMaker, UnpairedImages
from training.data.image_cache import decode
from training.data.synthesis import MARGIN, cut_sides


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
