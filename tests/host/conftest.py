"""The real host, made once and started once for most tests."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.checkpoint import save_checkpoint
from devudp_model.network.generator import Generator
from tests.host.environment import HERE, Host, prepare
from tests.host.fakes import Pack, load_pack
from tests.host.server import Server, install_pack, make_base, serve

PACK = "De-V.udp-1.0 (test)"
"""The pack's folder in the test host: dashes, dots and blanks must not matter."""

NEIGHBOURS = ("0-careless.neighbour", "zz-careless.neighbour")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that need the real host, so that `-m "not comfyui"` leaves them out."""
    for item in items:
        if "host" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.comfyui)


@pytest.fixture(scope="session")
def host() -> Host:
    """ComfyUI, ready to be started."""
    return prepare()


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """96x128 pixels, 3 channels, uint8: areas, edges and texture of many colours."""
    rng = np.random.default_rng(5)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((128, 96), Image.Resampling.BICUBIC)).astype(int)
    smooth[20:60, 30:70] = 255 - smooth[20:60, 30:70]
    return (smooth + rng.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)


def small_generator(seed: int, variant: Any = "devudp") -> Generator:
    """A quick one, with weights large enough that its images have contrast."""
    torch.manual_seed(seed)
    generator = Generator(variant, width=8, depth=1)
    for parameter in generator.parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
    torch.nn.init.normal_(generator.head.weight, std=0.03)
    return generator.eval()


def fill_base(base: Path, photo: np.ndarray) -> None:
    """Images, checkpoints and neighbours for a ComfyUI's base folder."""
    make_base(base)
    Image.fromarray(photo).save(base / "input" / "example.png")  # what every ComfyUI has
    Image.fromarray(photo[::-1].copy()).save(base / "input" / "other.png")
    models = base / "models" / "devudp"
    save_checkpoint(models / "small.safetensors", small_generator(1), {})
    save_checkpoint(models / "small-dt.safetensors", small_generator(2, "devudp-dt"), {})
    whole = (models / "small.safetensors").read_bytes()
    (models / "cut off.safetensors").write_bytes(whole[: len(whole) // 2])
    (models / "notes.txt").write_text("not a checkpoint, not to be listed", encoding="utf-8")
    for name in NEIGHBOURS:
        shutil.copytree(HERE / "second_pack", base / "custom_nodes" / name)


@pytest.fixture(scope="session")
def server(
    host: Host, photo: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A running ComfyUI with the pack and two careless neighbours."""
    base = tmp_path_factory.mktemp("host")
    fill_base(base, photo)
    install_pack(base / "custom_nodes" / PACK)
    with serve(host, base) as running:
        yield running


@pytest.fixture(params=["old", "new"])
def pack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pack:
    return load_pack(monkeypatch, request.param, str(tmp_path))


@pytest.fixture
def small_weights(pack: Pack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "own.safetensors", small_generator(1), {})
    find = sys.modules["folder_paths"]
    monkeypatch.setattr(find, "get_full_path_or_raise", lambda _, n: str(tmp_path / n), False)
