"""How ComfyUI's own Load Image reads files, and hence how near a node comes to the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model import read_image
from devudp_model.cli.main import main as command_line
from tests.host.environment import ROOT, Host
from tests.host.prompts import Builder
from tests.host.server import Server
from tests.host.test_nodes import TRUNCATION
from tests.model.image_files import write_deep_png

MOST, MEAN = 40, 3.0
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


def test_sixteen_bits_go_through(server: Server) -> None:
    """From Load Image through Restore to Save Image (Advanced), where the host has both."""
    if "SaveImageAdvanced" not in server.get("/object_info"):
        pytest.skip("this ComfyUI saves 8 bits only")
    ramp = torch.arange(65536, dtype=torch.int32).reshape(1, 1, 256, 256).expand(1, 3, -1, -1)
    source = server.base / "input" / "ramp.png"
    write_deep_png(source, ramp[0].permute(1, 2, 0).numpy().astype(np.uint16))
    build = Builder()
    restored = build.restore(build.load(source.name), task="joint", strength=0.0)
    choices = {"format": "png", "format.bit_depth": "16-bit", "format.input_color_space": "sRGB"}
    build.add("SaveImageAdvanced", images=restored, filename_prefix="deep", **choices)
    run = server.run(build.prompt)
    assert run.status == "success", run.error
    [saved] = (server.base / "output").glob("deep_*.png")
    pixels = (read_image(saved).pixels * 65535).round().int()
    change = (pixels - ramp).abs()
    levels = len(pixels.unique())
    print(f"16-bit PNG: {levels} of 65536 levels are left, at most {change.max()} off")
    assert levels > 40_000 and change.max() < 64, "8 bits have 256, and are 128 off"
