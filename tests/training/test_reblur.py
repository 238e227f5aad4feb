"""Blur that is known: as G_inv, and to blur restored pictures again."""

import dataclasses
import math
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from training.method.discriminator import Discriminator
from training.method.reblur import (
    MARGIN,
    Again,
    Blur,
    BlurInverse,
    KnownBlur,
    Noise,
    Part,
    blur_again,
    interior,
)

from devudp_model.degrade import apply_shake, draw_shake, to_srgb
from devudp_model.generator import Generator
from training.config import Config, ConfigError, ModelConfig
from training.data.dataset import UnpairedPictures, develop
from training.data.domains import DataConfig
from training.data.exposure import exposure_of
from training.method.losses import structure_loss
from training.method.step import Batch, LossWeights, Networks, train_step
from training.settings import load_recipe

SIDE = 64


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def detailed(seed: int, side: int = SIDE) -> Tensor:
    """3,side,side in [0, 1]: smooth forms with edges."""
    coarse = torch.rand(1, 3, side // 8, side // 8, generator=seeded(seed))
    return F.interpolate(coarse, (side, side), mode="nearest")[0] * 0.8 + 0.1


def to_png(picture: Tensor, path: Path) -> None:
    """3,H,W in [0, 1]."""
    Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()).save(path)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("common", [False, True])
def test_the_sharp_picture_gives_the_blurry_one_back(flip: bool, common: bool):
    large = detailed(0, SIDE + 2 * MARGIN)
    shake = draw_shake(seeded(1), extent=6.0)
    A = apply_shake(large[None], shake)[0, :, MARGIN:-MARGIN, MARGIN:-MARGIN] * 2 - 1
    sharp = large[:, MARGIN:-MARGIN, MARGIN:-MARGIN] * 2 - 1
    A, sharp = (x.flip(-1) if flip else x for x in (A, sharp))
    exposure = exposure_of(A) if common else None
    A, sharp = (exposure.map(x) if exposure else x for x in (A, sharp))
    inverse, blurs = BlurInverse(), [KnownBlur(Blur(shake), flip, exposure)]
    of_sharp, of_blurry = (
        interior(inverse(x[None], blurs) - A[None]).abs().mean() for x in (sharp, A)
    )
    assert of_sharp < 0.1 * of_blurry


def test_gradients_stay_finite_in_black_and_white():
    L = torch.cat([torch.full((1, 3, 32, 16), -1.0), torch.ones(1, 3, 32, 16)], 3).requires_grad_()
    blur = KnownBlur(Blur(draw_shake(seeded(2), extent=5.0, highlights=3.0)), False, None)
    BlurInverse()(L, [blur]).square().sum().backward()
    assert L.grad is not None and L.grad.isfinite().all() and L.grad.abs().sum() > 0
    black = torch.zeros(3, requires_grad=True)
    to_srgb(black).sum().backward()
    assert black.grad is not None and black.grad.tolist() == pytest.approx([12.92] * 3)


def test_blurred_again_is_smaller_and_carries_no_gradient():
    L = torch.stack([detailed(3), detailed(4)]) * 2 - 1
    noise = Noise(torch.randn(1, 3, SIDE, SIDE, generator=seeded(5)), 0.1, 0.5, None)
    blur = Blur(draw_shake(seeded(6), extent=10.0))
    how = [Again(0.75, blur, None), Again(0.75, blur, noise)]
    sharp, blurry = blur_again(L.requires_grad_(), how)
    side = int(0.75 * SIDE) - 2 * MARGIN
    assert sharp.shape == blurry.shape == (2, 3, side, side)
    assert not sharp.requires_grad and not blurry.requires_grad
    three = (sharp[0], blurry[0], blurry[1])
    rough = [(x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean()).item() for x in three]
    assert rough[1] < 0.8 * rough[0] and rough[2] > 1.2 * rough[1]  # blurred; noisy
    assert all(torch.equal(a, b) for a, b in zip(blur_again(L, how), (sharp, blurry), strict=True))


def test_a_part_moves_in_its_own_way():
    still, moving = draw_shake(seeded(1), extent=0.0), draw_shake(seeded(2), extent=12.0)
    relief = torch.tensor([[-1.0, -1.0, 1.0, 1.0]]).expand(4, 4)[None, None]  # the right half
    picture = detailed(3)
    blurry = Blur(still, Part(moving, relief))(picture)
    whole = Blur(moving)(picture)
    left, right = (
        (slice(None), slice(None), slice(0, 20)),
        (slice(None), slice(None), slice(44, 64)),
    )
    torch.testing.assert_close(blurry[left], picture[left], atol=1e-2, rtol=0)
    torch.testing.assert_close(blurry[right], whole[right], atol=1e-2, rtol=0)
    assert (
        (whole[left] - picture[left]).abs().max()
        > 0.1
        < (whole[right] - picture[right]).abs().max()
    )


def small_networks() -> Networks:
    torch.manual_seed(0)
    G, D = Generator("devudp-dt", 4, 1).eval(), Discriminator(4)
    opt_G = torch.optim.Adam(G.parameters(), 2e-4, (0.5, 0.999))
    return Networks(G, BlurInverse(), D, opt_G, torch.optim.Adam(D.parameters(), 2e-4))


def test_a_step_with_the_blur_as_G_inv():
    A, B = (torch.stack([detailed(s), detailed(s + 1)]) * 2 - 1 for s in (7, 9))
    made = [Blur(draw_shake(seeded(s), extent=5.0)) for s in (1, 2)]
    blurs = tuple(KnownBlur(blur, False, None) for blur in made)
    again = tuple(Again(0.75, blur, None) for blur in made)
    batch, weights = Batch(A, B, A, B, blurs, again), LossWeights(adv=0.1, again=10.0)
    with torch.no_grad():  # at first L is A, since the head is zero
        recon = interior(BlurInverse()(A, blurs) - A).abs().mean()
        sharp, blurry = blur_again(A, again)
    losses, _ = train_step(small_networks(), batch, weights)
    assert "sr_A" not in losses and losses["sr_B"] == 0
    assert losses["recon"].item() == pytest.approx(recon.item(), rel=1e-4)
    assert losses["again"].item() == pytest.approx((sharp - blurry).abs().mean().item(), rel=1e-4)
    total = 0.1 * losses["adv"] + 10 * losses["recon"] + 10 * losses["again"]
    assert losses["G"].item() == pytest.approx(total.item(), rel=1e-5)


def test_where_A_was_blurred_again_L_has_to_be_what_it_was():
    A, less = (torch.stack([detailed(s), detailed(s + 1)]) * 2 - 1 for s in (7, 9))
    weights = LossWeights(adv=0.1, recon=0.0, again=10.0, s_branch_every=2)
    nets = small_networks()
    kinds = [set(train_step(nets, Batch(A, A, A, A, less=less), weights.at(s))[0]) for s in (0, 1)]
    assert kinds == [{"G", "D", "adv", "again", "sr_B"}, {"G", "D", "adv", "again"}]
    losses, _ = train_step(small_networks(), Batch(A, A, A, A, less=less), weights.at(1))
    assert losses["again"].item() == pytest.approx((A - less).abs().mean().item(), rel=1e-5)
    total = 0.1 * losses["adv"] + 10 * losses["again"]
    assert losses["G"].item() == pytest.approx(total.item(), rel=1e-5)
    weights = dataclasses.replace(weights, ssim=2.0)
    losses, _ = train_step(small_networks(), Batch(A, A, A, A, less=less), weights.at(1))
    assert losses["ssim"].item() == pytest.approx(structure_loss(less, A).item(), rel=1e-5)
    total = 0.1 * losses["adv"] + 10 * losses["again"] + 2 * losses["ssim"]
    assert losses["G"].item() == pytest.approx(total.item(), rel=1e-5)
    weights = dataclasses.replace(weights, ssim=0.0, lpips=3.0)
    nets = dataclasses.replace(small_networks(), lpips=nn.L1Loss())  # any distance does here
    losses, _ = train_step(nets, Batch(A, A, A, A, less=less), weights.at(1))
    assert losses["lpips"].item() == pytest.approx((A - less).abs().mean().item(), rel=1e-5)
    total = 0.1 * losses["adv"] + 10 * losses["again"] + 3 * losses["lpips"]
    assert losses["G"].item() == pytest.approx(total.item(), rel=1e-5)
    alone = LossWeights(t_branch=False, s_branch=False, again=10.0)
    assert set(train_step(nets, Batch(A, A, A, A, less=less), alone)[0]) == {"G", "again"}
    with pytest.raises(ConfigError, match="s_branch_every must be at least 1"):
        Config(loss=LossWeights(s_branch_every=0))
    with pytest.raises(ConfigError, match="no other loss"):
        Config(loss=LossWeights(t_branch=False, s_branch_every=2))


@pytest.mark.parametrize("exposure", ["as is", "common"])
def test_A_blurred_again(tmp_path: Path, exposure: Literal["as is", "common"]):
    """It is half as large, and what it was before that is sharper and gives it back."""
    for number in range(4):
        to_png(detailed(number, 160), tmp_path / f"{number}.png")
    config = DataConfig(
        sharp=(str(tmp_path),),
        made_blur=1.0,
        crop=48,
        short_side=(160, 160),
        blur_extent=(1.0, 2.0),
        again_of="A",
        again_extent=(4.0, 8.0),
        again_scale=0.5,
        highlights=0.0,
        exposure=exposure,
    )
    data = UnpairedPictures(config, 8, seed=3)
    batch = develop([data[n] for n in range(4)], config, torch.device("cpu"))
    assert batch.less is not None and not batch.again
    assert batch.A.shape == batch.B.shape == batch.less.shape == (4, 3, 48, 48)
    back = BlurInverse()(batch.less, batch.blurs)
    apart = (interior(x - batch.A).abs().mean() for x in (back, batch.less))
    assert next(apart) < 0.1 * next(apart)
    rough = [
        x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean() for x in (batch.A, batch.less)
    ]
    assert rough[0] < 0.8 * rough[1]


def test_tone_curves_of_the_made_blur(tmp_path: Path):
    """As often below their geometric mean as above it; without, none, and no random number."""
    for number in range(4):
        to_png(detailed(number, 64), tmp_path / f"{number}.png")
    without = DataConfig(sharp=(str(tmp_path),), made_blur=1.0, crop=32, short_side=(64, 64))
    curved = dataclasses.replace(without, curve=(1.0, 9.0))
    exponents: list[float] = []
    for number in range(60):
        drawn = UnpairedPictures(curved, 60, seed=3)[number].A.blur
        plain = UnpairedPictures(without, 60, seed=3)[number].A.blur
        assert drawn is not None and drawn.shake.curve is not None
        assert plain is not None and plain.shake.curve is None
        exponents.append(drawn.shake.curve)
    assert min(exponents) >= 1 and max(exponents) < 9
    assert 20 < sum(e < 3 for e in exponents) < 40
    for wrong in ((3.0, 1.0), (0.0, 2.0)):
        with pytest.raises(ConfigError, match=r"data\.curve"):
            Config(data=DataConfig(curve=wrong))


def test_a_share_of_the_blur_is_a_plain_average(tmp_path: Path):
    """All that moves in a picture is seen by one camera."""
    for number in range(2):
        to_png(detailed(number, 64), tmp_path / f"{number}.png")
    config = DataConfig(
        sharp=(str(tmp_path),), made_blur=1.0, crop=32, short_side=(64, 64), highlights=2.0,
        curve=(1.5, 6.0), averaged=0.3, parts=1.0,
    )  # fmt: skip
    cameras = []
    for number in range(100):
        blur = UnpairedPictures(config, 100, seed=3)[number].A.blur
        assert blur is not None and blur.part is not None
        both = [(shake.highlights, shake.curve) for shake in (blur.shake, blur.part.shake)]
        assert both[0] == both[1]
        cameras.append(both[0])
    assert 20 < cameras.count((0.0, 1.0)) < 40
    assert all(0 < light < 2 and 1.5 <= curve < 6 for light, curve in cameras if curve != 1)
    with pytest.raises(ConfigError, match=r"data\.averaged"):
        Config(data=DataConfig(averaged=1.5))


def test_blur_along_a_few_directions_is_straight_and_even(tmp_path: Path):
    to_png(detailed(0, 64), tmp_path / "0.png")
    to_png(detailed(1, 64), tmp_path / "1.png")
    config = DataConfig(
        sharp=(str(tmp_path),), made_blur=1.0, crop=32, short_side=(64, 64), directions=4,
        blur_extent=(6.0, 6.0),
    )  # fmt: skip
    angles = set()
    for number in range(40):
        blur = UnpairedPictures(config, 40, seed=3)[number].A.blur
        assert blur is not None and blur.part is None and blur.shake.roll == 0
        path = blur.shake.path[:, :2] * blur.shake.extent
        steps = path.diff(dim=0)
        assert torch.allclose(steps, steps[:1].expand_as(steps), atol=1e-5)
        assert torch.allclose((path[-1] - path[0]).norm(), torch.tensor(6.0))
        assert steps.norm(dim=1).max() < 1 and path.mean(0).abs().max() < 1e-5
        angles.add(round(math.degrees(math.atan2(*steps[0].flip(0).tolist())) % 180) % 180)
    assert angles == {0, 45, 90, 135}
    any_length = dataclasses.replace(config, blur_extent=(2.0, 8.0))
    pictures = UnpairedPictures(any_length, 200, seed=3)
    blurs = [pictures[number].A.blur for number in range(200)]
    extents = sorted(blur.shake.extent for blur in blurs if blur is not None)
    assert abs(extents[100] - 5) < 0.6 and abs(extents[50] - 3.5) < 0.6  # all are as frequent
    with pytest.raises(ConfigError, match=r"data\.directions"):
        Config(data=DataConfig(directions=-1))


def test_long_gradients_are_shortened():
    def gradient(max_norm: float) -> float:
        torch.manual_seed(0)
        G, G_inv, D = Generator(width=4, depth=1), Generator(width=4, depth=1), Discriminator(4)
        parameters = [*G.parameters(), *G_inv.parameters()]
        nets = Networks(G, G_inv, D, torch.optim.SGD(parameters), torch.optim.SGD(D.parameters()))
        A = torch.stack([detailed(1)]) * 2 - 1
        train_step(nets, Batch(A, A, A, A), LossWeights(), max_norm=max_norm)
        return torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm().item()

    free = gradient(1e9)
    assert gradient(free / 4) == pytest.approx(free / 4, rel=1e-3)


def test_the_common_exposure_can_be_undone():
    x = detailed(2) * 2 - 1
    exposure = exposure_of(x)
    torch.testing.assert_close(exposure.undo(exposure.map(x)), x)


def test_what_a_known_blur_needs():
    known = ModelConfig(G_inv="known blur")
    with pytest.raises(ConfigError, match=r"data\.made_blur = 1"):
        Config(model=known, data=DataConfig(made_blur=0.9))
    with pytest.raises(ConfigError, match=r"data\.made_blur = 1"):
        Config(model=known, data=DataConfig(made_blur=1.0, blurry=("real",)))
    with pytest.raises(ConfigError, match=r"data\.again_extent"):
        Config(loss=LossWeights(again=1.0))
    with pytest.raises(ConfigError, match=r"data\.again_extent"):
        Config(data=DataConfig(again_of="A"))
    with pytest.raises(ConfigError, match="above 24 pixels"):
        Config(model=known, data=DataConfig(made_blur=1.0, crop=24))
    with pytest.raises(ConfigError, match=r"data\.again_scale"):
        Config(
            loss=LossWeights(again=1.0),
            data=DataConfig(again_extent=(2.0, 4.0), again_scale=0.5, crop=32),
        )
    small = DataConfig(again_extent=(2.0, 4.0), again_scale=0.75, crop=32)  # 24 - 16 pixels
    Config(loss=LossWeights(again=1.0, again_sizes=4), data=small)
    with pytest.raises(ConfigError, match=r"loss\.again_sizes"):
        Config(loss=LossWeights(again=1.0, again_sizes=5), data=small)
    with pytest.raises(ConfigError, match=r"loss\.ssim .* 11 pixels"):
        Config(loss=LossWeights(again=1.0, ssim=1.0), data=small)
    Config(
        loss=LossWeights(again=1.0, again_sizes=6, ssim=1.0),
        data=dataclasses.replace(small, again_of="A"),
    )
    with pytest.raises(ConfigError, match=r"loss\.ssim needs loss\.again"):
        Config(loss=LossWeights(ssim=1.0))
    with pytest.raises(ConfigError, match=r"loss\.lpips needs loss\.again, .* 31 pixels"):
        Config(loss=LossWeights(again=1.0, lpips=1.0), data=small)
    Config(
        model=known,
        data=DataConfig(blurry=("real",), again_of="A", again_extent=(2.0, 4.0)),
    )
    recipe = load_recipe("devudp")
    assert recipe.model.G_inv == "known blur" and recipe.data.again_of == "L"
    with pytest.raises(ConfigError, match="the recipe unpaired"):
        dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, frames=("clips",)))
