"""How bright results are: the scene model, its prediction, and what restoring makes of it."""

import json

import pytest
import torch
from torch import Tensor

from devudp_model.checkpoint import CheckpointError, bundled, load_checkpoint, save_checkpoint
from devudp_model.degrade import darken, to_srgb
from devudp_model.generator import Generator
from devudp_model.restoration import Options, restore
from devudp_model.scene import (
    DARKEST_MEAN,
    USUAL_MEAN,
    SceneModel,
    features,
    has_lights,
    tone_for,
)
from devudp_model.tasks import TASK_SPECS


def night(height: int = 120, width: int = 160) -> Tensor:
    """A black garden with two lamps."""
    image = torch.full((1, 3, height, width), 0.02)
    image[..., 20:30, 30:40], image[..., 60:66, 100:110] = 1.0, 0.95
    return image


def street() -> Tensor:
    """Orange lamps over a dark street, whose light falls off with the distance."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, 120), torch.linspace(0, 1.33, 160), indexing="ij")
    light = torch.full((3, 120, 160), 2e-4)
    colour = torch.tensor([1.0, 0.75, 0.45])[:, None, None]
    for _ in range(4):
        row, column = 0.15 + 0.3 * torch.rand(()), 1.33 * torch.rand(())
        distance = (y - row) ** 2 + (x - column) ** 2
        light = light + colour * (8e-5 / (distance + 0.002)) + colour * (distance < 4e-4)
    light = light * (1 + 0.3 * torch.rand(3, 120, 160))
    return to_srgb(light.clamp(0, 1))[None]


def shipped() -> SceneModel:
    scene = load_checkpoint(bundled("devudp")).generator.scene
    assert scene is not None
    return scene


def constant(prediction: float) -> SceneModel:
    """A model that predicts the same for all scenes."""
    count = len(features(torch.rand(3, 8, 8)))
    return SceneModel((0.0,) * count, (1.0,) * count, (0.0,) * count, prediction)


def test_features_do_not_depend_on_the_exposure() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 12, 16).repeat_interleave(8, 2).repeat_interleave(8, 3)
    bright, dark = features(image[0]), features(darken(image, 0.1)[0])
    torch.testing.assert_close(bright, dark, rtol=0, atol=1e-3)


def test_the_shipped_model_sees_a_night() -> None:
    torch.manual_seed(0)
    day = torch.rand(1, 3, 12, 16).repeat_interleave(8, 2).repeat_interleave(8, 3) * 0.8 + 0.2
    assert shipped().predict(street()[0]) < 0.28
    assert shipped().predict(darken(day, 0.05)[0]) > 0.35
    assert shipped().target_mean(street()) < 0.4
    assert shipped().target_mean(darken(day, 0.05)) == pytest.approx(USUAL_MEAN)


def test_an_underexposed_image_without_lights_is_not_taken_for_a_night() -> None:
    dim = darken(street(), 0.1)
    assert has_lights(street()) == 1 and has_lights(dim) == 0
    assert shipped().target_mean(dim) == USUAL_MEAN


@pytest.mark.parametrize(("predicted", "mean"), [(0.6, USUAL_MEAN), (0.3, USUAL_MEAN),
                                                 (0.2, 0.29), (-1.0, DARKEST_MEAN)])  # fmt: skip
def test_predictions_only_darken_and_not_without_end(predicted: float, mean: float) -> None:
    assert constant(predicted).target_mean(night()) == pytest.approx(mean)


def test_frames_have_a_common_mean() -> None:
    frames = torch.cat([night(), night().flip(3)])
    assert shipped().target_mean(frames) == pytest.approx(
        (shipped().target_mean(frames[:1]) + shipped().target_mean(frames[1:])) / 2, abs=0.02
    )


def test_tone_curve_gives_the_mean_asked_for() -> None:
    torch.manual_seed(0)
    output = torch.rand(1, 3, 90, 120)
    exponent = tone_for(output, 0.3)
    assert (output.mean(1) ** exponent).mean().item() == pytest.approx(0.3, abs=1e-3)
    assert tone_for(output, 0.6) == 1.0  # it never brightens


def test_results_follow_the_scene_and_exposure_0_does_not() -> None:
    torch.manual_seed(0)
    G = Generator("devudp", width=4, depth=1).eval()
    image = night() + 0.02 * torch.rand(1, 3, 120, 160)
    image = image.clamp(0, 1)
    usual = [restore(image, G, Options(task="joint", exposure=e)) for e in (0.0, 1.0)]
    G.scene = constant(0.0)
    scene = [restore(image, G, Options(task="joint", exposure=e)) for e in (0.0, 1.0)]
    assert torch.equal(usual[0], scene[0])
    assert scene[1].mean() < usual[1].mean() - 0.1


def test_denoise_chooses_between_the_inputs_detail_and_the_models() -> None:
    torch.manual_seed(0)
    G = Generator("devudp", width=4, depth=1).eval()
    image = torch.rand(1, 3, 40, 48)
    given = (0.0, 0.5, 1.0, 1.5, 2.0)
    results = [restore(image, G, Options(task="joint", denoise=d)) for d in given]
    for before, between, after in zip(results, results[1:], results[2:], strict=False):
        assert (before - after).abs().mean() > 0.01
        # Straight between whole steps; at 1 the slope changes, as the task's own share is no half.
        if between is not results[2]:
            torch.testing.assert_close(between, (before + after) / 2, rtol=0, atol=2e-2)
    assert torch.equal(results[2], restore(image, G, Options(task="joint"))), "1 is the task's own"
    with pytest.raises(ValueError, match="denoise must be between 0 and 2"):
        Options(denoise=2.5)


def test_denoise_scales_each_tasks_own_share() -> None:
    for name in ("joint", "low light"):
        spec = TASK_SPECS[name]
        shares = [spec.detail_at(d, shortcut=False) for d in (0, 0.5, 1, 1.5, 2)]
        own = spec.detail
        assert shares == pytest.approx([1, (1 + own) / 2, own, own / 2, 0])
    assert {TASK_SPECS["deblur"].detail_at(d, shortcut=True) for d in (0.0, 1.0, 2.0)} == {0.0}


def test_it_comes_back_from_a_file(tmp_path) -> None:
    G = Generator("devudp", width=4, depth=1)
    model = constant(0.25)
    save_checkpoint(tmp_path / "a.safetensors", G, {"scene": model.to_json()})
    assert load_checkpoint(tmp_path / "a.safetensors").generator.scene == model
    save_checkpoint(tmp_path / "b.safetensors", G, {})
    assert load_checkpoint(tmp_path / "b.safetensors").generator.scene is None


@pytest.mark.parametrize("text", ["{}", "[1, 2]", "nonsense", json.dumps({
    "center": [0], "scale": [1], "weights": [1], "bias": 0})])  # fmt: skip
def test_a_damaged_one_is_refused(text: str, tmp_path) -> None:
    G = Generator("devudp", width=4, depth=1)
    save_checkpoint(tmp_path / "a.safetensors", G, {"scene": text})
    with pytest.raises(CheckpointError, match="damaged scene model"):
        load_checkpoint(tmp_path / "a.safetensors")
