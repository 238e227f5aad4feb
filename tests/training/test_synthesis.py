"""The arithmetic half of the data: movements, noise, exposure, what a batch is made of."""

from pathlib import Path
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from torch import Tensor

from devudp_model.ops.degrade import Shake, apply_shake, draw_shake
from training.config import DataConfig
from training.data import synthesis
from training.data.exposure import COMMON_MEAN, COMMON_STD, exposure_of
from training.data.jpeg import jpeg
from training.data.synthesis import (
    MARGIN,
    NO_NOISE,
    CropPlan,
    Crops,
    NoisePlan,
    add_noise,
    apply_motion,
    cut_sides,
    render_batch,
    stack_motions,
    stack_plans,
    within,
)

CPU = torch.device("cpu")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def detailed(seed: int, side: int = 64) -> Tensor:
    """3,side,side in [0, 1]: areas with edges."""
    coarse = torch.rand(1, 3, side // 8, side // 8, generator=seeded(seed))
    return F.interpolate(coarse, (side, side), mode="nearest")[0]


def plan_of(image: Tensor, **how: object) -> CropPlan:
    """A plan for 3,S,S in [0, 1] that does nothing by itself."""
    pixels = (image * 255).round().to(torch.uint8)
    return CropPlan(pixels, None, None, False)._replace(**how)


SHAKES: list[Shake | None] = [
    draw_shake(seeded(1), extent=9.0, highlights=2.0, curve=2.2),
    draw_shake(seeded(2), extent=14.0, roll=11.0, sweep=True),
    None,
    draw_shake(seeded(3), extent=0.0),
    draw_shake(seeded(4), extent=4.0, highlights=3.0, curve=1.0),
    draw_shake(seeded(5), extent=25.0, roll=0.0, highlights=1.0, curve=6.0),
]


@pytest.mark.parametrize("at_once", [1, 16])
def test_movements_are_those_of_the_model_s_degradation(
    at_once: int, monkeypatch: pytest.MonkeyPatch
):
    """For each image of a batch, whatever the others do, on a rectangle as well."""
    monkeypatch.setattr(synthesis, "POSES_AT_ONCE", {"cpu": at_once})
    images = torch.stack([detailed(seed, 80)[:, :64] for seed in range(len(SHAKES))])
    motion = stack_motions(SHAKES)
    assert motion is not None
    moved = apply_motion(images, motion)
    for image, shake, result in zip(images, SHAKES, moved, strict=True):
        expected = image if shake is None else apply_shake(image[None], shake)[0]
        # A rounding error in a coordinate counts most where a steep tone curve meets an edge.
        assert (result - expected).abs().max() < 2e-4
        assert (result - expected).abs().mean() < 1e-5


def test_no_movement_is_no_motion():
    assert stack_motions([None, None]) is None


def noisy(image: Tensor, **how: float) -> Tensor:
    plan = NoisePlan(seed=7, sigma=0.2, grain=0.0, shot=0.0, levels=0)._replace(**how)
    crops = stack_plans([plan_of(torch.zeros(3, 8, 8), noise=plan)])
    return add_noise(image[None], crops)[0]


@pytest.mark.parametrize("shot", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("level", [-1.0, -0.6, 0.0, 0.8])
def test_poisson_gaussian_noise(shot: float, level: float):
    """Variance sigma^2 (1 - shot + shot s) with the signal s = image + 1, which is 1 on average."""
    image = torch.full((3, 128, 128), level)
    noise = noisy(image, shot=shot) - image
    assert noise.mean().abs() < 0.004
    expected = 0.2 * (1 - shot + shot * (level + 1)) ** 0.5
    assert noise.std().item() == pytest.approx(expected, rel=0.02, abs=1e-6)


def test_grain_is_coarser_and_as_strong():
    image = torch.zeros(3, 256, 256)
    fine, coarse = noisy(image), noisy(image, grain=1.0)
    assert coarse.std().item() == pytest.approx(fine.std().item(), rel=0.05)
    alike = [(x[..., 1:] * x[..., :-1]).mean().item() / x.var().item() for x in (fine, coarse)]
    assert abs(alike[0]) < 0.02 and alike[1] == pytest.approx(2 / 3, abs=0.03)
    half = noisy(image, grain=0.5)
    assert 0.8 < half.std().item() / fine.std().item() < 1.3


def test_levels_round_and_seeds_decide():
    image = torch.zeros(3, 32, 32)
    stepped = noisy(image, levels=10)
    assert torch.equal(stepped, (noisy(image) * 10).round() / 10)
    assert torch.equal(noisy(image), noisy(image))
    assert not torch.equal(noisy(image), noisy(image, seed=8))


def test_no_noise_changes_nothing():
    image = detailed(1) * 2 - 1
    crops = stack_plans([plan_of(detailed(1), noise=NO_NOISE)])
    assert torch.equal(add_noise(image[None], crops)[0], image)


def test_common_exposure():
    x = torch.rand(2, 3, 32, 32, generator=seeded(0)) * 1.2 - 0.95
    y = exposure_of(x).to_common(x)
    for image in y:
        assert image.mean().item() == pytest.approx(COMMON_MEAN, abs=1e-4)
        assert image.std().item() == pytest.approx(COMMON_STD, abs=1e-3)
    nearly_flat = 0.7 + 1e-3 * torch.randn(1, 3, 8, 8, generator=seeded(1))
    assert exposure_of(nearly_flat).to_common(nearly_flat).std() < 0.01  # a wall stays a wall


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("exposure", ["as is", "common"])
def test_A_blurred_a_second_time(flip: bool, exposure: str):
    """Smaller, and what it was before is its target: blurred, that gives A back."""
    data = DataConfig(crop=48, reblur_length=(1.0, 9.0), reblur_scale=0.5)
    A_side, B_side = cut_sides(data)
    reblur = draw_shake(seeded(1), extent=7.0)
    image = detailed(3, A_side + 8)[:, :A_side, :A_side]
    A = stack_plans([plan_of(image, reblur=reblur, flip=flip)])
    B = stack_plans([plan_of(torch.rand(3, B_side, B_side, generator=seeded(2)))])
    batch = render_batch(A, B, DataConfig(**{**vars(data), "exposure": exposure}), CPU)
    assert batch.reblur_target is not None
    assert batch.A.shape == batch.B.shape == batch.reblur_target.shape == (1, 3, 48, 48)
    small = F.interpolate(
        within(A.pixels.float() / 255), (64, 64), mode="bicubic", antialias=True
    ).clamp(0, 1)  # fmt: skip
    target, blurred = (within(x) for x in (small, apply_shake(small, reblur)))
    if flip:
        target, blurred = target.flip(-1), blurred.flip(-1)
    target, blurred = target * 2 - 1, blurred * 2 - 1
    if exposure == "common":
        of_A = exposure_of(blurred)
        target, blurred = (of_A.to_common(x).clamp(-1, 1) for x in (target, blurred))
    torch.testing.assert_close(batch.reblur_target, target, atol=2e-4, rtol=0)
    torch.testing.assert_close(batch.A, blurred, atol=2e-4, rtol=0)
    rough = [x.diff(dim=-1).abs().mean() for x in (batch.A, batch.reblur_target)]
    assert rough[0] < 0.8 * rough[1]


def test_only_what_has_a_plan_is_blurred():
    data = DataConfig(crop=32)
    side = 32 + 2 * MARGIN
    images = [detailed(k, side) for k in (1, 2)]
    A = stack_plans(
        [plan_of(images[0], blur=draw_shake(seeded(1), extent=9.0)), plan_of(images[1])]
    )
    B = stack_plans([plan_of(detailed(k, 32)) for k in (3, 4)])
    batch = render_batch(A, B, data, CPU)
    sharp = torch.stack([within((i * 255).round() / 255) for i in images]) * 2 - 1
    assert (batch.A[0] - sharp[0]).abs().mean() > 0.05
    torch.testing.assert_close(batch.A[1], sharp[1])
    assert batch.reblur_target is None


def test_tone_curve_and_black_level_of_inputs():
    data = DataConfig(crop=32, exposure="common")
    image = detailed(1, 32)
    A = stack_plans([plan_of(detailed(2, 32 + 2 * MARGIN))])
    how = {"tone": 2.0}, {"black_level": 0.3}
    toned, clipped = (
        render_batch(A, stack_plans([plan_of(image, **h)]), data, CPU) for h in how
    )  # fmt: skip
    curve = ((toned.B + 1) / 2) ** 2
    torch.testing.assert_close(toned.B_input, exposure_of(curve).to_common(curve))
    black = exposure_of((clipped.B + 1) / 2).to_common(torch.tensor(0.3)).item()
    assert (
        clipped.B_input.min().item() == pytest.approx(black, abs=1e-5) and black > clipped.B.min()
    )
    higher = black < clipped.B
    assert torch.equal(clipped.B_input[higher], clipped.B[higher])


@pytest.mark.parametrize(
    ("changes", "sides"),
    [
        ({}, (64, 48)),  # margins for one blur
        ({"reblur_length": (1.0, 9.0), "reblur_scale": 1.0}, (80, 48)),  # for two
        ({"reblur_length": (1.0, 9.0), "reblur_scale": 0.5}, (144, 96)),
        ({"reblur_length": (1.0, 9.0), "reblur_scale": 0.75}, (102, 64)),
        ({"reblur_length": (1.0, 9.0), "reblur_scale": 0.7}, (108, 69)),  # rounded up
    ],
)
def test_what_is_cut_has_room_for_blurs_and_downsizing(
    changes: dict[str, object], sides: tuple[int, int]
):
    assert cut_sides(DataConfig(**{"crop": 48, **changes})) == sides  # pyright: ignore


def test_white_is_brighter_than_it_looks_when_it_is_blurred():
    """With light = value: 1 + highlights * (value - 0.8) / 0.2 times as bright, then clipped."""
    shake = draw_shake(seeded(1), extent=5.0, highlights=0.1, curve=1.0)
    motion = stack_motions([shake] * 5)
    assert motion is not None
    values = torch.tensor([0.5, 0.8, 0.85, 0.9, 1.0]).view(5, 1, 1, 1)
    found = apply_motion(values.expand(5, 3, 24, 24).clone(), motion)
    expected = (values * (1 + 0.1 * ((values - 0.8) / 0.2).clamp(min=0))).clamp(max=1)
    torch.testing.assert_close(found, expected.expand_as(found), atol=1e-5, rtol=0)
    coloured = torch.tensor([1.0, 0.9, 0.7]).view(1, 3, 1, 1).expand(5, 3, 24, 24).clone()
    torch.testing.assert_close(apply_motion(coloured, motion), coloured)  # not white: as it is


def test_B_is_downsized_to_the_crop():
    """And otherwise as it is in its file."""
    data = DataConfig(crop=32, reblur_length=(1.0, 9.0), reblur_scale=0.5)
    A = stack_plans([plan_of(detailed(1, cut_sides(data)[0]))])
    small, large = (torch.rand(3, side, side, generator=seeded(side)) for side in (32, 64))
    for image in (small, large):
        B = stack_plans([plan_of(image, flip=True)])
        expected = B.pixels.float() / 255
        if image is large:
            expected = F.interpolate(expected, (32, 32), mode="bicubic", antialias=True)
        batch = render_batch(A, B, data, CPU)
        torch.testing.assert_close(batch.B, expected.clamp(0, 1).flip(-1) * 2 - 1)


def test_jpeg_is_in_the_inputs_that_ask_for_it():
    images = torch.stack([detailed(k, 32) for k in (1, 2)])
    data = DataConfig(crop=32)
    A = stack_plans([plan_of(detailed(k, 32 + 2 * MARGIN)) for k in (3, 4)])
    for qualities in ((0, 30), (90, 20), (0, 0)):
        plans = [plan_of(i, jpeg_quality=q) for i, q in zip(images, qualities, strict=True)]
        batch = render_batch(A, stack_plans(plans), data, CPU)
        for image, given, quality in zip(batch.B, batch.B_input, qualities, strict=True):
            expected = image
            if quality:
                expected = jpeg((image[None] + 1) / 2, torch.tensor([float(quality)]))[0] * 2 - 1
                assert (expected - image).abs().mean() > 0.005
            torch.testing.assert_close(given, expected)


def test_plans_can_be_sent_to_a_device():
    shake = draw_shake(seeded(1), extent=3.0)
    crops = stack_plans([plan_of(detailed(1), blur=shake), plan_of(detailed(2))])
    there = cast(Crops, send_to_device(crops, CPU))
    assert torch.equal(there.pixels, crops.pixels) and there.seeds == crops.seeds
    assert there.motion is not None and there.second_motion is None
    assert there.moved.tolist() == [True, False]


def test_sheets_are_labelled(tmp_path: Path):
    from training.data.sheets import CAPTION_HEIGHT, GAP, to_pixels
    from training.run.sheets import image_sheet, write_image

    images = (detailed(1) * 2 - 1, detailed(2) * 2 - 1)
    sheet = image_sheet([images] * 2, ("A", "B"))
    assert sheet.shape == (2 * (CAPTION_HEIGHT + 64), 2 * (64 + GAP), 3)
    for half in (sheet[:CAPTION_HEIGHT, :64], sheet[:CAPTION_HEIGHT, 64 + GAP :]):
        assert half.min() < 100 and half.float().mean() > 200  # black on white
    assert (sheet[CAPTION_HEIGHT : CAPTION_HEIGHT + 64, :64].numpy() == to_pixels(images[0])).all()
    write_image(sheet, tmp_path / "new/sheet.png")
    assert (tmp_path / "new/sheet.png").exists()
