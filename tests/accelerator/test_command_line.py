"""`devudp restore --device` and the evaluation on an accelerator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.checkpoint import save_checkpoint
from devudp_model.cli.main import main
from tests.accelerator.conftest import photos, small_generator
from tests.accelerator.counts import NAME, counting, watching_memory
from tests.training.training_run import random_lpips_weights
from training.evaluation import arguments, evaluate

pytestmark = pytest.mark.slow  # they take seconds together


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of two images of one size, one with transparency."""
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = (photos(2, 4, 44, 52) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    Image.fromarray(pixels[0]).save(folder / "a.png")
    Image.fromarray(pixels[1, ..., :3]).save(folder / "b.png")
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "small.safetensors", small_generator("devudp-dt"), {})
    return tmp_path / "small.safetensors"


def same_images(a: Path, b: Path, most: int = 1) -> None:
    names = sorted(path.name for path in a.glob("*.png"))
    assert names and names == sorted(path.name for path in b.glob("*.png"))
    for name in names:
        x, y = (np.asarray(Image.open(side / name)).astype(int) for side in (a, b))
        assert x.shape == y.shape and abs(x - y).max() <= most


@pytest.mark.parametrize(
    "options",
    [
        ("--task", "deblur"),
        ("--task", "low-light", "--statistics", "shared", "--strength", "0.7"),
        ("--task", "auto"),
        ("--task", "joint", "--memory", "1MB", "--format", "png"),
    ],
    ids=" ".join,
)
def test_restore(
    options: tuple[str, ...],
    images: Path,
    weights: Path,
    tmp_path: Path,
    device: torch.device,
    coarser: None,
) -> None:
    fixed = ("restore", str(images), "--checkpoint", str(weights), "--precision", "fp32")
    assert main([*fixed, *options, "--out", str(tmp_path / "here"), "--device", "cpu"]) == 0
    with counting() as counts:
        assert main([*fixed, *options, "--out", str(tmp_path / "there"), "--device", NAME]) == 0
    assert counts.operations or "auto" in options
    same_images(tmp_path / "there", tmp_path / "here")


def test_memory_runs_out_once(
    images: Path, weights: Path, tmp_path: Path, device: torch.device
) -> None:
    fixed = ("restore", str(images), "--checkpoint", str(weights), "--task", "joint")
    fixed = (*fixed, "--precision", "fp32", "--overwrite")
    assert main([*fixed, "--out", str(tmp_path / "here"), "--device", "cpu"]) == 0
    for place in (60, 100, 150):
        with watching_memory(lambda number, place=place: number == place):
            assert main([*fixed, "--out", str(tmp_path / "there"), "--device", NAME]) == 0
        same_images(tmp_path / "there", tmp_path / "here")


def test_evaluation(
    images: Path,
    weights: Path,
    tmp_path: Path,
    device: torch.device,
    coarser: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from safetensors.torch import save_file

    save_file(random_lpips_weights(), tmp_path / "lpips.safetensors")
    for path in images.iterdir():
        Image.open(path).convert("RGB").resize((140, 130)).save(path)
    found = []
    for where in (torch.device("cpu"), device):
        monkeypatch.setattr(arguments, "fastest_device", lambda where=where: where)
        out = tmp_path / where.type
        command = ["--weights", str(weights), "--task", "deblur", "joint", "model", "--precision"]
        command += ["fp32", "--lpips-weights", str(tmp_path / "lpips.safetensors"), "--gamma", "0"]
        evaluate.main([*command, "--pairs", "mine", str(images), str(images), "--out", str(out)])
        results = json.loads((out / "results.json").read_text(encoding="utf-8"))["results"]
        found.append({r["method"]: r["mean"] for r in results})
    here, there = found
    assert here.keys() == there.keys() == {"input", "deblur", "joint", "model"}
    for method in ("deblur", "joint", "model"):
        for metric in ("ssim", "mae", "lpips"):
            assert there[method][metric] == pytest.approx(here[method][metric], abs=0.02)
