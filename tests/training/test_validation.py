"""Measuring during a run: which pairs, what is measured, what is best, when it gives up."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from devudp_model.network.generator import Generator
from devudp_model.ops.metrics import psnr, ssim
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from tests.training.training_run import make_images, random_lpips_weights
from training.config import Config, ConfigError, ValidationConfig
from training.method.lpips import AlexLpips
from training.run.validation import SHORT_SIDE, Validation, read

CPU = torch.device("cpu")


@pytest.fixture
def held_out(tmp_path: Path) -> list[Path]:
    make_images(tmp_path / "sharp", 3, seed=1, size=(72, 64))
    return sorted((tmp_path / "sharp").iterdir())


def config_of(seed: int = 0, **settings: Any) -> Config:
    validation = ValidationConfig(every=1, **settings)
    return Config(seed=seed, validation=validation)


def network() -> Generator:
    torch.manual_seed(0)
    G = Generator("devudp-dt", 4, 1)
    nn.init.normal_(G.get_parameter("head.weight"), std=0.1)
    return G


def test_pairs_are_made_from_held_out_images_always_the_same(held_out: list[Path]):
    tasks = ("deblur", "low light", "joint")
    first, second = (Validation(config_of(tasks=tasks), held_out, None) for _ in range(2))
    assert set(first.pairs) == set(tasks)
    for task in tasks:
        assert len(first.pairs[task]) == 3
        for a, b, path in zip(first.pairs[task], second.pairs[task], held_out, strict=True):
            assert torch.equal(a.degraded, b.degraded) and torch.equal(a.reference, read(path))
            assert not torch.equal(a.degraded, a.reference)
            levels = a.degraded * 255
            assert (levels - levels.round()).abs().max() < 1e-4  # as a file of 8 bits
    light = [pair.degraded.mean() / pair.reference.mean() for pair in first.pairs["low light"]]
    assert max(light) < 0.6 and light[0] < light[2]  # from the darkest to the brightest
    blurred = [p.degraded.mean() / p.reference.mean() for p in first.pairs["deblur"]]
    assert all(0.9 < share < 1.1 for share in blurred)
    other = Validation(config_of(seed=1, tasks=tasks), held_out, None)
    assert not torch.equal(other.pairs["joint"][0].degraded, first.pairs["joint"][0].degraded)
    assert len(Validation(config_of(images=2), held_out, None).pairs["deblur"]) == 2


def test_pairs_of_folders(held_out: list[Path], tmp_path: Path):
    make_images(tmp_path / "dark", 3, seed=5, size=(72, 64))
    folders: dict[str, Any] = {
        "degraded": str(tmp_path / "dark"),
        "reference": str(tmp_path / "sharp"),
    }
    validation = Validation(config_of(images=0, **folders), [], None)
    pairs = validation.pairs["deblur"]
    assert len(pairs) == 3 and torch.equal(pairs[1].reference, read(held_out[1]))
    (tmp_path / "dark/001.png").unlink()
    with pytest.raises(FileNotFoundError, match="no partner"):
        Validation(config_of(**folders), [], None)


def test_large_images_are_cropped_in_the_middle(tmp_path: Path):
    make_images(tmp_path, 1, size=(500, 400))
    image = read(tmp_path / "000.png")
    assert image.shape == (1, 3, SHORT_SIDE, SHORT_SIDE)


def test_measures_are_those_of_the_task_on_8_bit_images(held_out: list[Path]):
    lpips = AlexLpips(random_lpips_weights())
    validation, G = Validation(config_of(tasks=("deblur",)), held_out, lpips), network()
    before = {name: value.clone() for name, value in G.state_dict().items()}
    found = validation.measure(G.train(), CPU)
    expected = {"psnr": 0.0, "ssim": 0.0, "lpips": 0.0}
    for pair in validation.pairs["deblur"]:
        restored = restore(pair.degraded, network().eval(), Options("deblur", precision="fp32"))
        a, b = (
            (x[0].clamp(0, 1) * 255).round().to(torch.uint8) for x in (restored, pair.reference)
        )
        expected["psnr"] += psnr(a, b) / 3
        expected["ssim"] += ssim(a, b) / 3
        expected["lpips"] += lpips.of_images(a, b) / 3
    assert found == {f"validation deblur {k}": pytest.approx(v) for k, v in expected.items()}
    assert G.training and all(torch.equal(before[k], v) for k, v in G.state_dict().items())


def scores(*values: float, name: str = "psnr") -> list[dict[str, float]]:
    return [{f"validation deblur {name}": v, f"validation joint {name}": v + 2} for v in values]


def test_the_best_is_kept_and_patience_ends(held_out: list[Path]):
    validation = Validation(config_of(patience=2), held_out, None)
    best, over = [], []
    for found in scores(20, 21, 20.5, 22, 22, 21):
        best.append(validation.is_best(found))
        over.append(validation.gives_up)
    assert best == [True, True, False, True, False, False]
    assert over == [False] * 5 + [True]
    later = Validation(config_of(patience=2), held_out, None)
    later.load(validation.state())
    assert later.gives_up and not later.is_best(scores(22)[0]) and later.is_best(scores(22.1)[0])
    assert not later.gives_up
    patient = Validation(config_of(), held_out, None)
    for found in scores(3, 2, 1):
        patient.is_best(found)
    assert not patient.gives_up


def test_of_lpips_the_smallest_is_best(held_out: list[Path]):
    lpips = AlexLpips(random_lpips_weights())
    validation = Validation(config_of(best_by="lpips"), held_out, lpips)
    assert [validation.is_best(f) for f in scores(0.5, 0.4, 0.45, name="lpips")] == [
        True, True, False]  # fmt: skip
    with pytest.raises(ConfigError, match="needs LPIPS's weights"):
        Validation(config_of(best_by="lpips"), held_out, None)


def test_only_one_of_two_folders(held_out: list[Path]):
    from training.config.stages import check

    config = config_of(degraded="somewhere")
    with pytest.raises(ConfigError, match="belong together"):
        check(replace(config, data=replace(config.data, held_out=1)))
