"""How bright results are: the scene model, its prediction, and what restoring makes of it."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from devudp_model.checkpoint import CheckpointError, bundled, load_checkpoint, save_checkpoint
from devudp_model.network.generator import Generator
from devudp_model.ops.degrade import darken, to_linear, to_srgb
from devudp_model.restoring.exposure import has_lights, sampling_stride, scene_curve, target_mean
from devudp_model.restoring.facts import Facts
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.scene import SceneModel, features
from devudp_model.restoring.shadows import USUAL_MEAN
from devudp_model.restoring.tasks import TASK_SPECS


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
    scene = load_checkpoint(bundled("devudp")).scene
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


@pytest.mark.slow
def test_the_shipped_model_sees_a_night() -> None:
    torch.manual_seed(0)
    day = torch.rand(1, 3, 12, 16).repeat_interleave(8, 2).repeat_interleave(8, 3) * 0.8 + 0.2
    assert shipped().predict(street()[0]) < 0.28
    assert shipped().predict(darken(day, 0.05)[0]) > 0.35


def test_an_underexposed_image_without_lights_gets_less_dark() -> None:
    dim = darken(street(), 0.1)
    assert has_lights(street()) == 1 and has_lights(dim) == 0
    assert target_mean(0.0, 1.0, 0.0) == 0.16 and target_mean(0.0, 0.0, 0.0) == 0.24


@pytest.mark.parametrize(
    ("predicted", "mean"),
    [(0.45, 0.45), (0.47, 0.45), (0.42, 0.45), (0.32, 0.36), (-1.0, 0.16), (0.53, 0.5), (2, 0.62)],
)
def test_the_mean_follows_the_prediction_within_limits(predicted: float, mean: float) -> None:
    assert target_mean(predicted, 1.0, 0.0) == pytest.approx(mean)


def test_no_result_gets_darker_than_its_input_or_an_average_photograph() -> None:
    assert target_mean(0.1, 1.0, 0.3) == 0.3
    assert target_mean(0.1, 1.0, 0.9) == USUAL_MEAN


def test_the_darker_half_of_an_image_does_not_get_darker() -> None:
    """A night that is bright enough: its windows get brighter, and would take it from its walls."""
    torch.manual_seed(0)
    image = 0.1 + 0.03 * torch.rand(1, 3, 128, 160)
    image[..., 20:100, 20:90] = 0.5
    image[..., 112:, :] = 0.005
    dim = image.mean(1, keepdim=True) < 0.2
    output = torch.where(dim, 2 * image, image + 0.45)
    curve = scene_curve(constant(0.0), image, output, None, lambda x: x)
    result = curve(output).mean(1, keepdim=True)
    assert result.mean() > image.mean()
    own = image.mean(1, keepdim=True)[dim].mean().item()
    assert result[dim].mean().item() == pytest.approx(own, rel=0.05)


def test_results_follow_the_scene_and_exposure_0_does_not() -> None:
    torch.manual_seed(0)
    G = Generator("devudp", width=4, depth=1).eval()
    image = night() + 0.02 * torch.rand(1, 3, 120, 160)
    image = image.clamp(0, 1)
    usual = [restore(image, G, Options(task="joint", exposure=e)) for e in (0.0, 1.0)]
    G.facts = Facts(scene=constant(0.0))
    scene = [restore(image, G, Options(task="joint", exposure=e)) for e in (0.0, 1.0)]
    assert torch.equal(usual[0], scene[0])
    assert scene[1].mean() < usual[1].mean() - 0.1


def test_denoise_chooses_between_the_inputs_detail_and_the_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = dataclasses.replace(TASK_SPECS["joint"], before=(), exposed=(), after=())
    monkeypatch.setitem(TASK_SPECS, "joint", bare)
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


def test_it_comes_back_from_a_file(tmp_path) -> None:
    G = Generator("devudp", width=4, depth=1)
    model = constant(0.25)
    save_checkpoint(tmp_path / "a.safetensors", G, {"scene": model.to_json()})
    assert load_checkpoint(tmp_path / "a.safetensors").scene == model
    save_checkpoint(tmp_path / "b.safetensors", G, {})
    assert load_checkpoint(tmp_path / "b.safetensors").scene is None


@pytest.mark.parametrize("text", ["{}", "[1, 2]", "nonsense", json.dumps({
    "center": [0], "scale": [1], "weights": [1], "bias": 0})])  # fmt: skip
def test_a_damaged_one_is_refused(text: str, tmp_path) -> None:
    G = Generator("devudp", width=4, depth=1)
    save_checkpoint(tmp_path / "a.safetensors", G, {"scene": text})
    with pytest.raises(CheckpointError, match=r"damaged metadata \(scene\)"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_quantiles_are_those_of_evenly_spaced_pixels() -> None:
    sizes = {(1, 1): 1, (256, 256): 1, (512, 511): 1, (512, 512): 2, (768, 768): 3, (600, 3000): 5}
    assert {size: sampling_stride(*size) for size in sizes} == sizes


def test_features_are_what_they_say() -> None:
    """Written out, relative to the mean in linear light: quantiles, contrast, colours, a grid."""
    image = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0)) ** 2
    light = to_linear(image).double().numpy()
    grey, mean = light.mean(0), light.mean()
    blocks = grey.reshape(3, 32, 3, 32).mean((1, 3))
    expected = [
        *np.log(np.quantile(grey, [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98]) / mean + 0.02),
        np.log(grey.std(ddof=1) / mean + 0.02),
        (light.max(0) - light.min(0)).mean() / mean,
        *light.mean((1, 2)) / mean,
        *np.log(blocks.flatten() / mean + 0.05),
    ]
    torch.testing.assert_close(
        features(image).double(), torch.tensor(expected), rtol=1e-4, atol=1e-4
    )
    grey_image = features(image[:1])
    torch.testing.assert_close(grey_image, features(image[:1].expand(3, -1, -1)))
    finer = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(features(finer), features(image), rtol=1e-4, atol=1e-4)
    assert features(torch.zeros(3, 9, 9)).isfinite().all()


@pytest.mark.parametrize(
    ("level", "share"), [(0.0, 0.0), (0.6, 0.0), (0.66, 0.2), (0.75, 0.5), (0.9, 1.0), (1.0, 1.0)]
)
def test_lights_are_the_brightest_pixels(level: float, share: float) -> None:
    """Of 1000 pixels, more than two; in any colour."""
    image = torch.zeros(1, 3, 20, 50)
    image[0, 1, -1, -3:] = level
    assert has_lights(image) == pytest.approx(share, abs=1e-5)
    image[0, 1, -1, -2:] = 0
    assert has_lights(image) == 0
    large = torch.zeros(1, 3, 512, 512)
    large[..., ::2, ::2] = 1
    assert has_lights(large) == 1


def test_a_prediction_is_linear_in_standardised_features() -> None:
    rng = np.random.default_rng(0)
    image = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
    found = features(image).double().numpy()
    center, scale, weights = rng.random(21), rng.random(21) + 0.5, rng.random(21)
    model = SceneModel(tuple(center), tuple(scale), tuple(weights), 0.3)
    expected = ((found - center) / scale) @ weights + 0.3
    assert model.predict(image) == pytest.approx(expected, rel=1e-4)


def test_stars_and_small_lamps_are_lights_and_hot_pixels_are_none() -> None:
    image = torch.full((1, 3, 300, 300), 0.02)
    for row, column in ((30, 60), (90, 120), (150, 30), (210, 270)):
        image[..., row : row + 3, column : column + 3] = 0.8
    assert has_lights(image) == pytest.approx(2 / 3, abs=1e-5)
    image[..., 30:33, 60:63] = 0.02
    assert has_lights(image) == 0
    hot = torch.full((1, 3, 300, 300), 0.02)
    hot[..., 5::50, 5::50] = 1.0
    assert has_lights(hot) == 0


def test_frames_share_the_mean_of_their_predictions() -> None:
    class ByBrightness(SceneModel):
        def predict(self, image: Tensor, seen: Tensor | None = None) -> float:
            assert image.shape == (3, 20, 30)
            return image.mean().item()

    model = ByBrightness((), (), (), 0.0)
    frames = torch.stack([torch.full((3, 20, 30), 0.1), torch.full((3, 20, 30), 0.3)])
    assert model.predict_all(frames) == pytest.approx(0.2)


def test_what_is_hidden_is_no_part_of_the_scene() -> None:
    image = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0)) ** 2
    seen = torch.zeros(1, 96, 96)
    seen[:, :48] = 1
    painted = torch.where(seen > 0, image, 0.9)
    torch.testing.assert_close(features(image, seen), features(painted, seen))
    assert not torch.allclose(features(image), features(painted), atol=0.1)
    assert (features(image, seen) - features(image)).abs().max() > 0.01
    bright = torch.where(seen > 0, 0.1, 1.0)[None]
    assert has_lights(bright) == 1 and has_lights(bright, seen[None]) == 1
    assert has_lights(torch.where(seen > 0, 0.1, 0.2)[None], seen[None]) == 0


def test_a_file_keeps_five_digits() -> None:
    values = tuple(k / 7 for k in range(1, 22))
    model = SceneModel(values, values, values, 1 / 3)
    back = SceneModel.from_json(model.to_json())
    assert back.center == back.scale == tuple(round(v, 5) for v in values)
    with pytest.raises(dataclasses.FrozenInstanceError):  # every image reads the same one
        back.bias = 0.0  # pyright: ignore[reportAttributeAccessIssue]
    assert (back.weights, back.bias) == (tuple(round(v, 6) for v in values), 0.33333)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"center": [0.0] * 20}, "3 x 21 finite"),
        ({"scale": [1.0] * 22}, "3 x 21 finite"),
        ({"weights": []}, "3 x 21 finite"),
        ({"weights": [float("nan")] * 21}, "3 x 21 finite"),
        ({"bias": float("inf")}, "3 x 21 finite"),
        ({"bias": "none"}, "no scene model: could not convert"),
        ({"scale": [1.0] * 20 + [0.0]}, "a scale is not above 0"),
        ({"scale": [-1.0] * 21}, "a scale is not above 0"),
    ],
)
def test_why_one_is_refused(change: dict[str, object], why: str) -> None:
    content = json.loads(constant(0.2).to_json())
    assert SceneModel.from_json(json.dumps(content)) == constant(0.2)
    with pytest.raises(ValueError, match=why):
        SceneModel.from_json(json.dumps(content | change))
