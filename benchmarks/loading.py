"""Start-up time: of the command line on a small image, and of the node pack in a host."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from .measure import ROOT
from .tables import Table

PACK = """
import json, sys, time
import torch, numpy, PIL.Image, safetensors.torch, tqdm  # the host has loaded them already
start = time.perf_counter()
import importlib.util
make = importlib.util.spec_from_file_location
spec = make("pack", "__init__.py", submodule_search_locations=["."])
sys.modules["pack"] = pack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
from pack.devudp_model import checkpoint, restore
from pack.devudp_model.ops import degrade, metrics
print(json.dumps(time.perf_counter() - start))
"""
"""Imports the pack as ComfyUI does, and all of its library that its nodes import."""


def loading(repeats: int = 3) -> list[Table]:
    """The best of a few starts of each."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        Image.fromarray((torch.rand(256, 256, 3) * 255).byte().numpy()).save(image)
        starts = [restore_image(image, Path(folder) / "out") for _ in range(repeats)]
    library, rest = min(starts, key=lambda start: start[1])
    pack = min(json.loads(python("-c", PACK).stdout) for _ in range(repeats))
    rows: list[list[str | float]] = [
        ["`import torch`", library],
        ["`devudp restore` of an image of 256x256, all but that", rest],
        ["the node pack and the library behind it, beside what the host has loaded", pack],
    ]
    note = "By the clock, the best of a few starts; torch's import by `python -X importtime`."
    return [Table("Starting", ["what", "seconds"], rows, note, labels=1)]


def restore_image(image: Path, out: Path) -> tuple[float, float]:
    """Seconds of `import torch` and of all else, in a process that restores one image."""
    start = time.perf_counter()
    module = ("-X", "importtime", "-m", "devudp_model.cli")
    done = python(*module, "restore", str(image), "--out", str(out), "--overwrite")
    seconds = time.perf_counter() - start
    found = re.search(r"^import time: +\d+ \| +(\d+) \| +torch$", done.stderr, re.MULTILINE)
    if found is None:
        raise RuntimeError("python -X importtime did not report torch")
    library = int(found[1]) / 1e6
    return library, seconds - library


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in the repository's root."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
