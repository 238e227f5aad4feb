"""The ONNX files and the script that runs them: whole images and tiles."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.checkpoint import load_checkpoint, save_checkpoint
from devudp_model.network.generator import Variant
from devudp_model.restoring.restoration import make_network
from tests.training.test_export import NEEDS_EXPORTER, make_generator

if not (find_spec("onnxruntime") and find_spec("onnxscript")):  # seconds, to import them
    pytest.skip("needs onnxruntime and onnxscript", allow_module_level=True)

from training import onnx_export, onnx_restore


@NEEDS_EXPORTER
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
def test_onnx_in_tiles_is_the_whole_image(
    variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    weights, folder = tmp_path / "mine.safetensors", tmp_path / "onnx"
    generator = make_generator(variant)
    save_checkpoint(weights, generator, {})
    onnx_export.main([str(weights), "--out", str(folder)])
    parts = {"mine-statistics.onnx", "mine-tile.onnx"} if variant == "devudp" else set()
    assert {path.name for path in folder.iterdir()} == {"mine.onnx", *parts}
    pixels = np.random.default_rng(0).integers(0, 255, (97, 190, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")

    def restored(*options: str) -> np.ndarray:
        words = [str(tmp_path / "in.png"), str(tmp_path / "out.png"), *options]
        monkeypatch.setattr(
            "sys.argv", ["onnx_restore", *words, "--model", str(folder / "mine.onnx")]
        )
        onnx_restore.main()
        return np.asarray(Image.open(tmp_path / "out.png")).astype(int)

    whole = restored()
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    network = make_network(load_checkpoint(weights).generator, "fp32")
    expected = (network(image)[0].permute(1, 2, 0).numpy() * 255).round().astype(int)
    assert np.abs(whole - expected).max() <= 1
    assert np.abs(restored("--tile", "24") - whole).max() <= 1
    if parts:
        for path in parts:
            (folder / path).rename(folder / f"x{path}")
        assert np.abs(restored("--tile", "24") - whole).max() > 1, "tiles measured by themselves"
    with pytest.raises(SystemExit, match="no multiple of 4"):
        restored("--tile", "30")
