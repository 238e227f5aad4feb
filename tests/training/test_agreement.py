"""Exported files agree with the engine at any size, in every program that is installed."""

import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from devudp_model.checkpoint import save_checkpoint
from devudp_model.network.generator import Generator
from devudp_model.network.instance_norm import NORM_EPS, normalize
from tests.training.test_export import NEEDS_EXPORTER, make_generator
from training.config import ConfigError
from training.export import agreement

if not (find_spec("onnxruntime") and find_spec("onnxscript")):
    pytest.skip("needs onnxruntime and onnxscript", allow_module_level=True)

import onnx

from training.export import onnx_export
from training.export.agreement import Agreement, find_runtimes, measure_agreement, size_of, table
from training.export.onnx_export import check_large, export_onnx, export_tiles, narrow_like
from training.train import main


@pytest.mark.parametrize("dims", [(2, 3), (1, 2, 3)])
def test_normalize_is_that_of_float64(dims: tuple[int, ...]):
    """Also where the mean is large beside the deviation."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 301, 407, generator=rng) * 0.1 + 10
    normal, mean, scale = normalize(x, dims, NORM_EPS)
    var, expected = torch.var_mean(x.double(), dim=dims, correction=0, keepdim=True)
    torch.testing.assert_close(mean.double(), expected, rtol=2e-7, atol=0)
    torch.testing.assert_close(scale.double(), (var + NORM_EPS).rsqrt(), rtol=1e-6, atol=0)
    exact = (x.double() - expected) * (var + NORM_EPS).rsqrt()
    torch.testing.assert_close(normal.double(), exact, rtol=0, atol=2e-5)


@NEEDS_EXPORTER
@pytest.mark.slow
def test_a_large_image_in_each_program(tmp_path: Path):
    """Fails with one mean over both axes (onnxruntime) and with two that follow each other, which
    OpenVINO merges into one."""
    narrow = narrow_like(make_generator("devudp"))
    export_onnx(narrow, tmp_path / "n.onnx")
    runtimes = find_runtimes(None)
    found = list(measure_agreement(narrow, tmp_path / "n.onnx", [3.8], runtimes))
    assert [each.runtime for each in found] == [each.name for each in runtimes]
    assert all(each.largest <= 0.05 and each.mean < 0.001 for each in found), found


@NEEDS_EXPORTER
@pytest.mark.slow
def test_what_programs_get_wrong_is_not_in_the_file(tmp_path: Path):
    """OpenVINO merges a mean of means, and selects wrong lines of more than 2^24 values."""
    export_onnx(narrow_like(make_generator("devudp"), 2), tmp_path / "n.onnx")
    nodes = onnx.load(tmp_path / "n.onnx").graph.node
    makers = {output: node.op_type for node in nodes for output in node.output}
    kinds = {node.op_type for node in nodes}
    assert "ReduceMean" in kinds and not kinds & {"Gather", "InstanceNormalization", "ReduceSum"}
    for node in nodes:
        if node.op_type == "ReduceMean":
            assert makers.get(node.input[0]) != "ReduceMean"


@NEEDS_EXPORTER
@pytest.mark.slow
def test_the_statistics_of_a_large_image(tmp_path: Path):
    """What tiles are restored with."""
    narrow = narrow_like(make_generator("devudp"))
    measure, tile = export_tiles(narrow, tmp_path / "n.onnx")
    image = agreement.made_image(*size_of(2))
    import onnxruntime

    def run(path: Path, **inputs: np.ndarray) -> np.ndarray:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, inputs)[0])

    restored = run(tile, image=image, statistics=run(measure, image=image))
    with torch.no_grad():
        expected = (narrow.double()(torch.from_numpy(image).double() * 2 - 1) + 1) / 2
    assert np.abs(restored - expected.numpy()).max() * 255 <= 0.05


@NEEDS_EXPORTER
@pytest.mark.slow
def test_a_file_that_drifts_is_refused(monkeypatch: pytest.MonkeyPatch):
    generator = make_generator("devudp-dt")
    monkeypatch.setattr(onnx_export, "LARGE_MEGAPIXELS", 0.02)
    assert check_large(generator) < 0.05
    load = onnx_export.load_onnxruntime

    def drifting(path: Path) -> agreement.Restore:
        exact = load(path)
        return lambda image: exact(image) + np.float32(0.06 / 255)

    monkeypatch.setattr(onnx_export, "load_onnxruntime", drifting)
    with pytest.raises(ArithmeticError, match="grey levels at"):
        check_large(generator)


@NEEDS_EXPORTER
@pytest.mark.slow
def test_the_command_writes_the_agreement_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    monkeypatch.setattr(onnx_export, "LARGE_MEGAPIXELS", 0.01)
    save_checkpoint(tmp_path / "mine.safetensors", make_generator("devudp-dt"), {})
    main(["onnx", str(tmp_path / "mine.safetensors"), "--out", str(tmp_path / "onnx"),
          "--agreement", "0.01", "--narrow", "2"])  # fmt: skip
    text = (tmp_path / "onnx/mine-narrow.md").read_text()
    assert text.startswith("| size | onnxruntime ") and "| 123x83 (0.0 MP) | 0.00" in text
    assert text in "\n".join(caplog.messages) and (tmp_path / "onnx/mine-narrow.onnx").exists()


def test_the_table():
    found = [
        Agreement("a 1", 867, 577, 0.0123, 0.0004), Agreement("b 2", 867, 577, 1, 0.5),
        Agreement("a 1", 1733, 1155, 0.02, 0.001),
    ]  # fmt: skip
    assert table(found).splitlines() == [
        "| size | a 1 | b 2 |",
        "|---|---|---|",
        "| 867x577 (0.5 MP) | 0.0123 (0.00040) | 1.0000 (0.50000) |",
        "| 1733x1155 (2.0 MP) | 0.0200 (0.00100) |  |",
    ]
    assert size_of(0.5) == (867, 577)


def test_onnxruntime_web_is_run_by_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With a node that doubles the values."""
    with pytest.raises(ConfigError, match="npm install onnxruntime-web"):
        find_runtimes(tmp_path)
    package = tmp_path / "node_modules/onnxruntime-web"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"version": "9.8"}')
    *_, web = find_runtimes(tmp_path)
    assert web.name == "onnxruntime-web 9.8"

    def node(command: list[str], **options: object) -> SimpleNamespace:
        *_, given, height, width, restored = command
        values = np.fromfile(given, np.float32)
        assert len(values) == 3 * int(height) * int(width)
        (values * 2).tofile(restored)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr("subprocess.run", node)
    image = agreement.made_image(31, 21)
    assert np.array_equal(web.load(tmp_path / "n.onnx")(image), image * 2)
    failed = SimpleNamespace(returncode=1, stderr="out of memory")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: failed)
    with pytest.raises(ConfigError, match="out of memory"):
        web.load(tmp_path / "n.onnx")(image)


@NEEDS_EXPORTER
@pytest.mark.slow
def test_onnxruntime_web(tmp_path: Path):
    """Where node finds one: NODE_PATH names its node_modules."""
    modules = Path(os.environ.get("NODE_PATH", tmp_path))
    if not (modules / "onnxruntime-web").is_dir():
        pytest.skip("needs onnxruntime-web, and NODE_PATH that names its node_modules")
    narrow: Generator = narrow_like(make_generator("devudp"))
    export_onnx(narrow, tmp_path / "n.onnx")
    *_, web = find_runtimes(modules.parent)
    (found,) = measure_agreement(narrow, tmp_path / "n.onnx", [1], [web])
    assert found.largest <= 0.05
