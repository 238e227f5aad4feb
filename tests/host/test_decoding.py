"""How ComfyUI's own Load Image reads files, and hence how near a node comes to the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from devudp_model.cli.main import main as command_line
from tests.host.environment import ROOT, Host
from tests.host.prompts import Builder
from tests.host.server import Server
from tests.host.test_nodes import TRUNCATION

MOST, MEAN = 40, 1.5
"""Grey levels between two decoders of JPEG: of single values at edges of colour, and on average."""


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_node_and_command_line_differ_as_their_decoders_do(
    host: Host, server: Server, tmp_path: Path, suffix: str
) -> None:
    """Not at all for PNG. Hosts of 2026 decode JPEG by FFmpeg, which enlarges chroma otherwise."""
    source = server.base / "input" / f"decoded.{suffix}"
    with Image.open(ROOT / "samples/dark_coffee.jpg") as image:
        image.crop((0, 0, 192, 128)).save(source)
    build = Builder()
    loaded = build.load(source.name)
    values = {"task": "low light", "checkpoint": "bundled"}
    saved = [build.save(loaded), build.save(build.restore(loaded, **values))]
    run = server.run(build.prompt)
    seen, by_node = (server.images(run, node)[0].astype(int) for node in saved)
    arguments = ["restore", str(source), "--out", str(tmp_path), "--device", "cpu"]
    assert command_line([*arguments, "--task", "low-light", "--format", "png"]) == 0
    by_command = np.asarray(Image.open(tmp_path / "decoded.png")).astype(int)
    decoded, restored = seen - np.asarray(Image.open(source)).astype(int), by_node - by_command
    for name, change in (("decoded", decoded), ("restored", restored)):
        print(f"{suffix} {name}: {abs(change).max()} at most, {abs(change).mean():.2f} on average")
    by_ffmpeg = "VideoFromFile(image_path)" in (host.tree / "nodes.py").read_text(encoding="utf-8")
    exact = suffix == "png" or not by_ffmpeg
    assert abs(restored).max() <= (TRUNCATION if exact else MOST)
    assert abs(restored).mean() <= MEAN
