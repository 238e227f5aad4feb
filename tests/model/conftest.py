"""The command line with a tiny network, and a checkpoint of another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from devudp_model.checkpoint import save_checkpoint
from devudp_model.cli import main as cli
from devudp_model.engine import winograd
from devudp_model.network import tensor_files
from devudp_model.network.generator import Generator
from tests.model.checkpoint_files import make_generator


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network that visibly changes images."""
    torch.manual_seed(0)
    generator = Generator("devudp", width=4, depth=1)
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(path, generator, {"recipe": "none"}, dtype=torch.float32)
    return path


@pytest.fixture
def devudp(weights: Path, tmp_path: Path) -> Callable[..., int]:
    """`devudp restore` with the tiny network, into tmp_path/out unless --out is given."""

    def call(*arguments: object) -> int:
        texts = [str(argument) for argument in arguments]
        out = [] if "--out" in texts else ["--out", str(tmp_path / "out")]
        out += [] if "--task" in texts else ["--task", "joint"]
        return cli.main(["restore", *texts, *out, "--checkpoint", str(weights), "--device", "cpu"])

    return call


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "g.safetensors"
    save_checkpoint(path, make_generator(), {"recipe": "test"}, dtype=torch.float32)
    return path


@pytest.fixture
def read_pth_with_any_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older ones are refused (tests/test_safety.py); the files here are the tests' own."""
    monkeypatch.setattr(tensor_files, "SAFE_PICKLES", "2.0")


@pytest.fixture
def few_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles for the small networks of these tests, too."""
    for name in ("LEAST_CHANNELS", "LEAST_CHANNELS_AVX512"):
        monkeypatch.setattr(winograd, name, 8)
