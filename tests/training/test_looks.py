"""Nights, light of one colour, white balance and borders: what they do, and that off is off."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from accelerate.utils import send_to_device
from PIL import Image
from torch import Tensor

from devudp_model.ops.degrade import draw_shake, to_linear
from tests.training.samples import change, plain, seen
from training.batch import Batch
from training.config import Config, DataConfig
from training.data.dataset import Key, UnpairedImages
from training.data.exposure import COMMON_MEAN, exposure_of
from training.data.looks import BRIGHTER, PLAIN, WEAK, WIDEST, Look, draw_look, is_night
from training.data.synthesis import (
    MARGIN,
    CropPlan,
    Crops,
    NoisePlan,
    cut_sides,
    render_batch,
    stack_plans,
)

CPU = torch.device("cpu")
DATA = DataConfig(crop=32, exposure="common")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(side: int, seed: int = 0) -> Tensor:
    """3,side,side uint8: areas with edges, some of them black."""
    coarse = torch.rand(3, side // 4, side // 4, generator=seeded(seed))
    coarse = 0.7 * coarse * (torch.rand(side // 4, side // 4, generator=seeded(seed + 1)) > 0.3)
    return (coarse.repeat_interleave(4, 1).repeat_interleave(4, 2) * 255).to(torch.uint8)


def batch_of(look: Look, data: DataConfig = DATA, **how: object) -> Batch:
    """A and B with the same look; A has no blur."""
    A, B = (
        CropPlan(scene(side), None, None, False, look=look)._replace(**how)
        for side in (32 + 2 * MARGIN, 32)
    )
    return render_batch(stack_plans([A]), stack_plans([B]), data, CPU)


def photograph(mean: float, black_share: float) -> np.ndarray:
    """40,40,3 uint8: black at the left, the rest even."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    width = round(40 * (1 - black_share))
    pixels[:, 40 - width :] = round(mean * 255 * 40 / width)
    return pixels


@pytest.mark.parametrize(
    ("mean", "black_share", "night"),
    [
        (0.2, 0.3, True),
        (0.29, 0.15, True),
        (0.31, 0.15, False),  # bright enough
        (0.2, 0.05, False),  # dark without black: it may be underexposed
        (0.05, 0.95, True),
    ],
)
def test_a_night_is_dark_and_has_black_places(mean: float, black_share: float, night: bool):
    assert is_night(photograph(mean, black_share), below=0.3) is night
    assert not is_night(photograph(mean, black_share), below=0.0)


def test_a_night_keeps_its_exposure_in_the_losses_alone():
    common, own = batch_of(PLAIN), batch_of(Look(own=True))
    as_file = scene(32)[None] / 255 * 2 - 1
    torch.testing.assert_close(own.B, as_file)
    assert common.B.mean() - own.B.mean() > 0.2  # that it would have been brightened
    # G is given what it was given before, but for what the common exposure cuts off.
    given = exposure_of(as_file).to_common(as_file)
    torch.testing.assert_close(own.B_input, given, atol=1e-4, rtol=0)
    torch.testing.assert_close(common.B_input, given.clamp(-1, 1), atol=1e-4, rtol=0)
    assert own.B_input.mean().item() == pytest.approx(COMMON_MEAN, abs=1e-3)


def reblurred(look: Look) -> Batch:
    """A with this look and a second blur."""
    data = replace(DATA, reblur_length=(1.0, 9.0), reblur_scale=0.5)
    A_side, B_side = cut_sides(data)
    shake = draw_shake(seeded(1), extent=5.0)
    A = CropPlan(scene(A_side), None, shake, False, look=look)
    B = CropPlan(scene(B_side), None, None, False)
    return render_batch(stack_plans([A]), stack_plans([B]), data, CPU)


def test_the_target_of_a_blurred_night_stays_dark_as_well():
    common, night = reblurred(PLAIN), reblurred(Look(own=True))
    assert common.reblur_target is not None and night.reblur_target is not None
    assert night.reblur_target.min() == -1 and night.reblur_target.mean() < -0.4
    assert common.reblur_target.mean() > night.reblur_target.mean() + 0.2
    assert torch.equal(night.B, common.B)


def test_the_target_of_a_blurred_crop_has_its_light_and_border():
    plain, special = reblurred(PLAIN), reblurred(Look(light=(1.0, 0.1, 0.1), border=(0, 0, 4, 0)))
    assert plain.reblur_target is not None and special.reblur_target is not None
    before, after = ((x + 1) / 2 for x in (plain.reblur_target, special.reblur_target))
    assert (after[..., :4] == 0).all()
    gains = torch.tensor([1.0, 0.1, 0.1]).view(1, 3, 1, 1)
    torch.testing.assert_close(
        to_linear(after[..., 4:]), to_linear(before[..., 4:]) * gains, atol=1e-4, rtol=0
    )


def test_looks_can_be_sent_to_a_device():
    look = Look(True, (1.0, 0.1, 0.1), (1.2, 1.0, 0.9), (4, 4, 0, 0), 0.5, 2.0)
    crops = stack_plans([CropPlan(scene(32), None, None, False, look=look)])
    there = cast(Crops, send_to_device(crops, CPU))
    assert crops.looks is not None and there.looks is not None
    for one, other in zip(crops.looks, there.looks, strict=True):
        assert torch.equal(one, other)


def test_light_of_one_colour_is_in_inputs_and_losses():
    """Black stays black, and what is white has the light's colour."""
    light = (1.0, 0.05, 0.02)
    red, white = batch_of(Look(light=light)), batch_of(PLAIN)
    gains = torch.tensor(light).view(1, 3, 1, 1)
    for side in ("A", "B"):
        before, after = ((getattr(batch, side) + 1) / 2 for batch in (white, red))
        torch.testing.assert_close(to_linear(after), to_linear(before) * gains, atol=1e-4, rtol=0)
    torch.testing.assert_close(red.A_input, red.A)
    torch.testing.assert_close(red.B_input, red.B)


def test_white_balance_is_in_the_inputs_alone():
    """And not their exposure: three equal gains change nothing."""
    warm, true = batch_of(Look(balance=(1.3, 1.0, 0.8))), batch_of(PLAIN)
    assert torch.equal(warm.A, true.A) and torch.equal(warm.B, true.B)
    ratio = (warm.B_input.std((2, 3)) / true.B_input.std((2, 3)))[0]
    assert ratio[0] > 1.05 and ratio[2] < 0.95
    assert warm.B_input.mean().item() == pytest.approx(COMMON_MEAN, abs=1e-3)


def test_a_border_is_even_and_sharp_in_inputs_and_losses():
    look = Look(border=(3, 0, 5, 1), level=1.0, boost=2.0)
    noise = NoisePlan(seed=7, sigma=0.3, grain=0.0, shot=0.0, levels=0)
    framed, bare = (batch_of(x, noise=noise, tone=1.5) for x in (look, PLAIN))
    border = torch.ones(32, 32, dtype=torch.bool)
    border[3:, 5:31] = False
    for side in ("A", "B"):
        clean, given = getattr(framed, side), getattr(framed, f"{side}_input")
        assert (clean[..., border] == 1).all()
        # No noise, one value, and brighter than any white of the darker image inside.
        assert given[..., border].unique().numel() == 1
        assert given[..., border].max() > getattr(bare, f"{side}_input").max()
        for name in (side, f"{side}_input"):
            assert torch.equal(getattr(framed, name)[..., ~border],
                               getattr(bare, name)[..., ~border])  # fmt: skip


def test_a_black_border_is_as_black_as_black_places():
    """Whether the input's exposure is changed or not."""
    for tone in (1.0, 1.7):
        framed = batch_of(Look(border=(2, 2, 2, 2), level=0.0), tone=tone)
        assert (framed.B[..., :2, :] == -1).all()
        assert (framed.B_input[..., :2, :] <= framed.B_input.min() + 1e-6).all()


def test_crops_without_a_look_do_not_depend_on_their_neighbours():
    looks = [PLAIN, Look(True, (1.0, 0.1, 0.1), (1.2, 1.0, 0.9), (4, 4, 0, 0), 0.5, 2.0)]
    A, B = (
        [CropPlan(scene(side, k), None, None, False, look=x) for k, x in enumerate(looks)]
        for side in (32 + 2 * MARGIN, 32)
    )
    both = render_batch(stack_plans(A), stack_plans(B), DATA, CPU)
    alone = render_batch(stack_plans(A[:1]), stack_plans(B[:1]), DATA, CPU)
    for together, single in zip(both[:4], alone[:4], strict=True):
        assert torch.equal(together[:1], single)


def test_off_is_off(config: Config):
    """No number is drawn for it, and nothing is computed."""
    rng = seeded(3)
    before = rng.get_state()
    assert draw_look(rng, DATA, night=False) == PLAIN
    assert torch.equal(rng.get_state(), before)
    sample = UnpairedImages(config)[Key(0, 1)]
    assert stack_plans([sample.A, sample.B._replace(pixels=sample.A.pixels)]).looks is None


def test_what_is_drawn_is_within_bounds():
    config = DataConfig(crop=64, coloured_light=0.5, white_balance=0.3, border_share=0.5)
    rng = seeded(0)
    looks = [draw_look(rng, config, night=False) for _ in range(600)]
    lit, framed = ([x for x in looks if cond(x)] for cond in (
        lambda x: x.light != (1, 1, 1), lambda x: any(x.border)))  # fmt: skip
    assert 240 < len(lit) < 360 and 240 < len(framed) < 360
    for look in looks:
        assert all(2**-0.3 <= gain <= 2**0.3 for gain in look.balance)
    kinds = Counter(tuple(gain > 0.5 for gain in look.light) for look in lit)
    assert len(kinds) == 6  # never all channels, never none
    for look in lit:
        assert all(0.6 <= g <= 1 or 2 ** -WEAK[1] <= g <= 2 ** -WEAK[0] for g in look.light)
    assert 2 ** -WEAK[0] < 2**-0.3 / 2**0.3  # such light is no white balance
    for look in framed:
        widths = {width for width in look.border if width}
        assert len(widths) == 1 and 1 <= min(widths) <= WIDEST * 64
        assert 0 <= look.level <= 1 <= look.boost <= 2**BRIGHTER
    assert {0.0, 1.0} < {look.level for look in framed}


def test_night_is_decided_by_the_whole_photograph(config: Config, tmp_path: Path):
    """A bright crop of a dark photograph keeps its exposure, too; other photographs do not."""
    pixels = np.zeros((48, 96, 3), np.uint8)
    pixels[:, 72:] = np.random.default_rng(0).integers(40, 200, (48, 24, 3))
    for k in range(2):
        path = tmp_path / f"night/n{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    nights = change(config, sharp=(str(tmp_path / "night"),), blurry=(),
                    synthetic_blur_share=1.0, keep_dark=0.3)  # fmt: skip
    images = UnpairedImages(nights)
    samples = [images[Key(0, number)] for number in range(20)]
    assert all(sample.A.look.own and sample.B.look.own for sample in samples)
    assert max(sample.B.pixels.float().mean().item() for sample in samples) > 60
    days = UnpairedImages(change(config, keep_dark=0.3))
    assert not any(days[Key(0, n)].B.look.own for n in range(6))
    assert torch.equal(seen(change(config, keep_dark=0.3), range(3)), seen(config, range(3)))


def test_looks_leave_the_choice_of_crops_alone(config: Config):
    """They are drawn after everything else of a crop."""
    with_looks = plain(config, exposure="common", white_balance=0.3, border_share=1.0)
    samples = [UnpairedImages(c)[Key(0, 5)] for c in (plain(config, exposure="common"), with_looks)]
    assert samples[0].files == samples[1].files
    assert torch.equal(samples[0].A.pixels, samples[1].A.pixels)
    assert samples[0].A.flip == samples[1].A.flip and samples[0].A.look == PLAIN
    assert any(samples[1].A.look.border)
