"""From weights to files that others can use: safetensors, sums, card, ONNX."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from devudp_model.checkpoint import CheckpointError, load_checkpoint
from devudp_model.network.generator import Generator, Variant
from tests.training.training_run import ROOT, unpaired
from training.config.recipes import load_recipe
from training.export import export_weights
from training.export.model_card import LICENCE
from training.export.onnx_export import check_onnx, export_onnx
from training.run.records import read_run
from training.train import main

NEEDS_EXPORTER = pytest.mark.skipif(
    torch.__version__ < "2.7", reason="torch 2.6's exporter and today's onnxscript do not agree"
)


def make_generator(variant: Variant, **options) -> Generator:
    torch.manual_seed(0)
    generator = Generator(variant, 4, 1, **options)
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    with torch.no_grad():
        generator(torch.rand(4, 3, 32, 32))  # BatchNorm's statistics become something
    return generator.eval()


@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_exported_weights_load_as_they_were(variant: Variant, prefix: str, tmp_path: Path):
    generator = make_generator(variant)
    state = {prefix + name: value for name, value in generator.state_dict().items()}
    curve = tmp_path / "curve.png"
    curve.write_bytes(b"a drawing")
    path = export_weights(
        state, variant, {"step": "7", "data": "mine", "recipe": "seed = 1"},
        tmp_path / "models/w.safetensors", curve=curve, tables="| a table |",
    )  # fmt: skip
    checkpoint = load_checkpoint(path, fold=False)
    image = torch.rand(1, 3, 20, 24) * 2 - 1
    with torch.no_grad():
        difference = (checkpoint.generator(image) - generator(image)).abs().max()
    assert difference < 5e-3  # half precision
    assert checkpoint.metadata["step"] == "7" and checkpoint.metadata["variant"] == variant
    digest, name = (tmp_path / "models/w.safetensors.sha256").read_text().split()
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest() and name == "w.safetensors"
    card = (tmp_path / "models/w.md").read_text()
    for words in (digest, "| a table |", "seed = 1", "w-curve.png", "| step | 7 |"):
        assert words in card
    assert (tmp_path / "models/w-curve.png").read_bytes() == b"a drawing"


def test_ablations_are_exported_as_what_they_are(tmp_path: Path):
    generator = make_generator("devudp", norm="batch", shortcut=False)
    path = export_weights(generator.state_dict(), "devudp", {}, tmp_path / "a.safetensors",
                          norm="batch", shortcut=False)  # fmt: skip
    loaded = load_checkpoint(path).generator
    assert not loaded.shortcut and loaded.variant == "devudp"


@pytest.mark.parametrize("broken", ["other", "variant", "nan"])
def test_what_cannot_be_exported(broken: str, tmp_path: Path):
    state = make_generator("devudp").state_dict()
    if broken == "other":
        state = {"layer.weight": torch.zeros(3)}
    if broken == "nan":
        state["head.bias"] = torch.full((3,), float("nan"))
    variant: Variant = "devudp-dt" if broken == "variant" else "devudp"
    with pytest.raises(CheckpointError):
        export_weights(state, variant, {}, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


@NEEDS_EXPORTER
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["devudp", "devudp-dt"])
def test_onnx_has_dynamic_sizes_and_agrees(variant: Variant, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    generator, path = make_generator(variant), tmp_path / "g.onnx"
    export_onnx(generator, path)
    assert check_onnx(generator, path) < 1e-4
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = torch.rand(3, 3, 29, 70)
    (out,) = session.run(None, {"image": image.numpy()})
    with torch.no_grad():
        expected = (generator(image * 2 - 1) + 1) / 2
    assert out.shape == (3, 3, 29, 70) and np.abs(out - expected.numpy()).max() < 1e-4
    with torch.no_grad():
        generator.head.weight += 0.1
    with pytest.raises(ArithmeticError, match="differs from PyTorch"):
        check_onnx(generator, path)


def run_once(folder: Path, *options: str) -> Path:
    run = folder / "run"
    main([*unpaired(folder), "--schedule.length", "1", "--out", str(run), *options])
    return run


@pytest.mark.slow
def test_export_command(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    table = tmp_path / "table.md"
    table.write_text("| measured |")
    run = run_once(tmp_path, "--model.variant", "devudp-dt")
    out = tmp_path / "models/devudp/mine.safetensors"
    main(["export", str(run), "--out", str(out), "--tables", str(table)])
    assert load_checkpoint(out).metadata["variant"] == "devudp-dt"
    names = sorted(path.name for path in out.parent.iterdir())
    assert "mine.safetensors.sha256" in names and "mine-raw.safetensors" in names
    assert "| measured |" in out.with_suffix(".md").read_text()
    with pytest.raises(SystemExit):
        main(["export", str(run), "--out", str(tmp_path / "mine.pth")])
    assert "should end in .safetensors" in caplog.messages[-1]
    (state,) = (run / "states").glob("state-*.pt")
    main(["export", str(state), "--out", str(tmp_path / "same.safetensors")])
    assert (tmp_path / "same.safetensors").read_bytes() != out.read_bytes()  # without the table
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "models")])
    assert "no state in" in caplog.messages[-1]


@pytest.mark.slow
def test_the_same_bytes_every_time(tmp_path: Path):
    """In processes of their own as well: safetensors orders metadata by a random hash."""
    run = run_once(tmp_path)
    program = "import sys; from training.train import main; main(sys.argv[1:])"
    files = [tmp_path / f"{k}/same.safetensors" for k in range(4)]
    for k, file in enumerate(files):
        if k < 2:
            main(["export", str(run), "--out", str(file)])
        else:
            command = [sys.executable, "-c", program, "export", str(run), "--out", str(file)]
            subprocess.run(command, check=True, cwd=ROOT)
    assert len({file.read_bytes() for file in files}) == 1
    assert len({file.with_suffix(".md").read_bytes() for file in files}) == 1
    assert files[0].read_bytes() == (run / "devudp.safetensors").read_bytes()


@pytest.mark.slow
def test_metadata_are_those_of_the_run_without_names_of_own_folders(tmp_path: Path):
    run = run_once(tmp_path, "--seed", "5")
    metadata = load_checkpoint(run / "devudp.safetensors").metadata
    assert (metadata["step"], metadata["seed"]) == ("1", "5")
    assert metadata["data"].startswith("9 images") and metadata["licence"] == LICENCE
    assert not any(str(tmp_path) in value for value in metadata.values())
    about = read_run(run)
    assert about["data"]["sha256"] in metadata["data"]
    assert f"torch {torch.__version__}" in metadata["trained_with"]
    (recipe := tmp_path / "read.toml").write_text(metadata["recipe"], encoding="utf-8")
    assert load_recipe(recipe).model == load_recipe(run / "config.toml").model


@pytest.mark.slow
def test_the_command_that_a_card_prints_works(tmp_path: Path):
    """As a reader of the card would: beside the checkpoint, with a photograph."""
    run = run_once(tmp_path)
    card = (run / "devudp.md").read_text(encoding="utf-8")
    (line,) = [line.strip() for line in card.splitlines() if line.startswith("    devudp ")]
    shutil.copyfile(next((ROOT / "samples").glob("*.jpg")), run / "photo.jpg")
    program, *arguments = shlex.split(line)
    assert program == "devudp" and "photo.jpg" in arguments
    command = [sys.executable, "-m", "devudp_model.cli", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=run, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in (run / "restored").iterdir()] == ["photo.jpg"]


@NEEDS_EXPORTER
@pytest.mark.slow
def test_onnx_of_a_run(tmp_path: Path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run = run_once(tmp_path)
    main(["export", str(run), "--out", str(tmp_path / "m.safetensors"), "--onnx"])
    assert (tmp_path / "m.onnx").stat().st_size > 1000
