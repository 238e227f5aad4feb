"""How far 16 bits are from fp32, as an export measures it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.checkpoint import load_checkpoint
from devudp_model.engine.precision import Difference
from devudp_model.network.generator import Generator
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from tests.training.training_run import unpaired
from training.export.differences import (
    compare,
    images_of_folders,
    measure_differences,
    spread,
    summarize,
    tasks_of,
)
from training.train import main


def make_generator(variant: str = "devudp") -> Generator:
    torch.manual_seed(0)
    generator = Generator(variant, 8, 1).eval().requires_grad_(False)  # pyright: ignore
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    return generator


def test_two_images() -> None:
    a = torch.zeros(1, 3, 100, 100)
    b = a.clone()
    b.view(-1)[:30] = 2 / 255  # 0.1 % of the values
    b.view(-1)[0] = 10 / 255
    apart = compare(a, b)
    assert apart.values == 30_000 and apart.total == pytest.approx(29 * 2 + 10, rel=1e-5)
    assert apart.common == 0 and apart.largest == pytest.approx(10, rel=1e-5)
    b.view(-1)[30] = 3 / 255
    assert compare(a, b).common == pytest.approx(2, rel=1e-5)


def test_of_several_images_the_worst_counts() -> None:
    a = torch.zeros(1, 3, 10, 10)
    found = summarize([compare(a, a + 1 / 255), compare(a[..., :5], a[..., :5] + 4 / 255)])
    assert found == Difference(mean=2.0, common=4.0, largest=4.0)


def test_measured_differences_are_those_of_restoring() -> None:
    generator, image = make_generator(), torch.rand(1, 3, 40, 48)
    found = measure_differences(generator, {"joint": [image]})
    exact, half = (
        restore(image, generator, Options(task="joint", precision=name))
        for name in ("fp32", "bf16")
    )
    assert found["bf16"].largest == pytest.approx((half - exact).abs().max().item() * 255, rel=1e-3)
    assert 0 < found["fp16"].mean < found["bf16"].mean  # three more bits


def test_each_variant_is_measured_on_its_own_tasks(tmp_path: Path) -> None:
    Image.fromarray(np.full((30, 20, 3), 9, np.uint8)).save(tmp_path / "a.png")
    assert tasks_of(make_generator("devudp-dt")) == ["deblur"]
    images = images_of_folders([tmp_path], make_generator())
    assert list(images) == ["joint", "low light"]
    assert [image.shape for image in images["joint"]] == [(1, 3, 30, 20)]


def test_images_at_even_distances() -> None:
    paths = [Path(str(k)) for k in range(12)]
    assert spread(paths) == paths[::2] and spread(paths[:2]) == paths[:2]


def run(folder: Path) -> None:
    main([*unpaired(folder), "--schedule.length", "1", "--out", str(folder / "run")])


@pytest.mark.slow
def test_a_run_measures_its_checkpoint(tmp_path: Path) -> None:
    run(tmp_path)
    measured = load_checkpoint(tmp_path / "run" / "devudp.safetensors").measured
    assert set(measured) == {"bf16", "fp16"} and measured["bf16"].largest > 0


@pytest.mark.slow
def test_a_checkpoint_is_measured_afterwards(tmp_path: Path) -> None:
    run(tmp_path)
    file, out = tmp_path / "run" / "devudp.safetensors", tmp_path / "out.safetensors"
    folder = tmp_path / "degraded"
    folder.mkdir()
    torch.manual_seed(0)
    pixels = torch.randint(0, 60, (24, 32, 3), dtype=torch.uint8).numpy()
    Image.fromarray(pixels).save(folder / "a.png")
    main(["export", str(file), "--images", str(folder), "--out", str(out)])
    before, after = (load_checkpoint(path) for path in (file, out))
    assert after.measured != before.measured
    expected = measure_differences(after.generator, images_of_folders([folder], after.generator))
    assert after.measured == expected
    for name, weight in before.generator.state_dict().items():
        assert torch.equal(weight, after.generator.state_dict()[name])
