"""Measures how closely an exported file agrees with the engine, by program and size.

devudp-train onnx devudp --out onnx --agreement 0.5 2 --web FOLDER

The image is made here, so that anybody can measure the same. What is compared is the network alone,
in float32: the engine's healing of dots is not in the files.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from devudp_model.network.generator import Generator
from devudp_model.restoring.restoration import make_network

from ..config import ConfigError

LEVELS = 255.0

ASPECT = 1.5
"""Width by height."""

WAVES, GRAIN = (97.0, 131.0), 0.03
"""Pixels in which the made image's light rises and falls, and the deviation of its noise."""

WEB_SCRIPT = Path(__file__).with_name("onnx_web.mjs")

Restore = Callable[[np.ndarray], np.ndarray]
"""1,3,H,W in [0, 1] to the restored image."""


class Runtime(NamedTuple):
    """A program that runs ONNX files: its name with its version, and how to load one."""

    name: str
    load: Callable[[Path], Restore]


class Agreement(NamedTuple):
    """The differences of all values of one image, in grey levels of 255."""

    runtime: str
    width: int
    height: int
    largest: float
    mean: float


def load_onnxruntime(path: Path) -> Restore:
    """Loads a file into onnxruntime, on the CPU with as many threads as PyTorch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    content, providers = path.read_bytes(), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(content, options, providers=providers)
    return lambda image: np.asarray(session.run(None, {"image": image})[0])


def load_openvino(path: Path) -> Restore:
    """Does the same with OpenVINO, in float32, which it has to be told."""
    import openvino  # pyright: ignore[reportMissingImports]

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    network = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda image: np.asarray(network({"image": image})[0])


def run_web(modules: Path, path: Path, image: np.ndarray) -> np.ndarray:
    """Returns the image as onnxruntime-web restores it under node.

    Args:
        modules: the folder where `npm install onnxruntime-web` was run.
        path: the ONNX file.
        image: 1,3,H,W in [0, 1].

    Raises:
        ConfigError: node is missing or fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, restored = Path(folder, "in.bin"), Path(folder, "out.bin")
        given.write_bytes(np.ascontiguousarray(image, np.float32).tobytes())
        height, width = (str(side) for side in image.shape[2:])
        command = ["node", str(WEB_SCRIPT), str(modules), str(path), str(given), height, width]
        try:
            done = subprocess.run([*command, str(restored)], capture_output=True, text=True)
        except OSError as error:
            raise ConfigError(f"--web needs node.js, which does not start: {error}") from error
        if done.returncode:
            raise ConfigError(f"onnxruntime-web failed on {path}: {done.stderr.strip()[-500:]}")
        return np.fromfile(restored, np.float32).reshape(image.shape)


def find_runtimes(web: Path | None) -> list[Runtime]:
    """Returns the programs that are installed; onnxruntime always is, with the extra "onnx".

    Args:
        web: see `run_web`; None: without it.

    Raises:
        ConfigError: there is no onnxruntime-web in `web`.
    """
    import onnxruntime

    found = [Runtime(f"onnxruntime {onnxruntime.__version__}", load_onnxruntime)]
    try:
        import openvino  # pyright: ignore[reportMissingImports]
    except ImportError:
        pass
    else:
        found.append(Runtime(f"OpenVINO {openvino.__version__.split('-')[0]}", load_openvino))
    if web is not None:
        package = web / "node_modules/onnxruntime-web/package.json"
        if not package.is_file():
            raise ConfigError(
                f"no onnxruntime-web in {web}: run 'npm install onnxruntime-web' in that folder"
            )
        version = json.loads(package.read_text(encoding="utf-8"))["version"]
        found.append(
            Runtime(f"onnxruntime-web {version}", lambda path: partial(run_web, web, path))
        )
    return found


def made_image(width: int, height: int) -> np.ndarray:
    """1,3,H,W in [0, 1]: slow waves of light with noise, in 8 bits; the same every time."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    light = [0.3 + 0.25 * np.sin(x / WAVES[0] + c) * np.cos(y / WAVES[1] - c) for c in range(3)]
    noise = np.random.default_rng(0).standard_normal((3, height, width), np.float32) * GRAIN
    return np.round(np.clip(light + noise, 0, 1) * LEVELS)[None].astype(np.float32) / 255


def size_of(megapixels: float) -> tuple[int, int]:
    """Width and height of so many megapixels; not multiples of the network's stride."""
    height = round((megapixels * 1e6 / ASPECT) ** 0.5)
    width = round(megapixels * 1e6 / height)
    return width + (width % 2 == 0), height + (height % 2 == 0)


@torch.inference_mode()
def measure_agreement(
    generator: Generator, path: Path, megapixels: Sequence[float], runtimes: Sequence[Runtime]
) -> Iterator[Agreement]:
    """Compares each program with the engine, size by size.

    Args:
        generator: in eval mode, on the CPU.
        path: what it was exported to.
        megapixels: sizes.
        runtimes: see `find_runtimes`.
    """
    network = make_network(generator, "fp32")
    network.has_droplets = False
    loaded = [(runtime.name, runtime.load(path)) for runtime in runtimes]
    for size in tqdm(megapixels, desc=path.name, disable=None, leave=False):
        width, height = size_of(size)
        image = made_image(width, height)
        expected = network(torch.from_numpy(image)).numpy()
        for name, restore in loaded:
            apart = np.abs(restore(image) - expected) * LEVELS
            yield Agreement(
                name, width, height, float(apart.max()), float(apart.mean(dtype=np.float64))
            )


def table(found: Sequence[Agreement]) -> str:
    """Markdown: sizes as rows, programs as columns, the largest and the mean difference."""
    names = list(dict.fromkeys(each.runtime for each in found))
    rows = {(e.width, e.height): {} for e in found}
    for each in found:
        text = f"{each.largest:.4f} ({each.mean:.5f})"
        rows[each.width, each.height][each.runtime] = text
    lines = [f"| size | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for (width, height), row in rows.items():
        cells = " | ".join(row.get(name, "") for name in names)
        lines.append(f"| {width}x{height} ({width * height / 1e6:.1f} MP) | {cells} |")
    return "\n".join(lines) + "\n"
