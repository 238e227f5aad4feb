"""The ONNX files and the script that runs them: whole images and tiles."""

from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.checkpoint import load_checkpoint, save_checkpoint
from devudp_model.images.reading import read_image
from devudp_model.network.generator import Variant
from devudp_model.restoring.restoration import make_network
from tests.training.test_export import NEEDS_EXPORTER, make_generator
from tests.training.training_run import make_images

if not (find_spec("onnxruntime") and find_spec("onnxscript")):  # seconds, to import them
    pytest.skip("needs onnxruntime and onnxscript", allow_module_level=True)

import onnx

from training import train
from training.export import onnx_command, onnx_restore
from training.export.quantize import calibration_images, decibels


@NEEDS_EXPORTER
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
def test_onnx_in_tiles_is_the_whole_image(
    variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    weights, folder = tmp_path / "mine.safetensors", tmp_path / "onnx"
    generator = make_generator(variant)
    save_checkpoint(weights, generator, {})
    onnx_command.main([str(weights), "--out", str(folder)])
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


@NEEDS_EXPORTER
@pytest.mark.slow
def test_eight_bits(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    weights = tmp_path / "mine.safetensors"
    save_checkpoint(weights, make_generator("devudp-dt"), {})
    make_images(tmp_path / "photos", 3, size=(64, 48))
    command = ["onnx", str(weights), "--out", str(tmp_path / "onnx")]
    train.main([*command, "--int8", str(tmp_path / "photos")])
    whole, small = (tmp_path / f"onnx/{name}.onnx" for name in ("mine", "mine-int8"))
    images = calibration_images(tmp_path / "photos")
    assert [image.shape for image in images] == [(1, 3, 48, 64)] * 3
    assert 35 < decibels(whole, small, images) < 100  # a network without any training
    assert any("dB from float32" in message for message in caplog.messages)
    kinds = Counter(node.op_type for node in onnx.load(small).graph.node)
    # All convolutions but the first and the last have integers before them: image and weights.
    assert kinds["DequantizeLinear"] >= 2 * (kinds["Conv"] - 2) and kinds["QuantizeLinear"]

    save_checkpoint(weights, make_generator("devudp"), {})
    with pytest.raises(SystemExit):
        train.main([*command, "--int8", str(tmp_path / "photos")])
    assert "--int8 is for networks with BatchNorm" in caplog.messages[-1]


@pytest.mark.parametrize("orientation", [1, 6])
def test_it_reads_images_as_the_command_line_does(orientation: int, tmp_path: Path):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    images = {
        "rgb.jpg": rng.integers(0, 255, (40, 24, 3), np.uint8),
        "grey.png": rng.integers(0, 255, (40, 24), np.uint8),
        "grey16.png": rng.integers(0, 65535, (40, 24), np.uint16),
    }
    for name, pixels in images.items():
        Image.fromarray(pixels).save(tmp_path / name, exif=exif)
        expected = read_image(tmp_path / name).pixels.expand(1, 3, -1, -1).numpy()
        found = onnx_restore.read(tmp_path / name)
        assert found.shape == expected.shape and np.allclose(found, expected, atol=1e-6), name
