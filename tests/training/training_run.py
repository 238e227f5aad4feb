"""What the training's tests share: tiny images, tiny settings, runs in processes of their own."""

# ruff: noqa: SIM905 - command lines are easier to read as they are typed

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

ROOT = Path(__file__).parents[2]

TINY = [
    *"--model.width 4 --model.depth 1 --model.D-width 4 --batch 2".split(),
    *"--data.crop 32 --data.short-side 36 48 --data.cache-gb 0.01 --data.blur-length 2 5".split(),
    *"--speed.device cpu --speed.threads 1 --speed.workers 0 --speed.precision fp32".split(),
    *"--speed.no-compile --speed.no-channels-last".split(),
    *"--record.no-tensorboard --record.sample-every 0 --record.weights-every 0".split(),
]
"""For every recipe."""

NARROW = ["--model.G-inv-width", "None", "--schedule.unit", "steps"]
"""For recipes with G_inv and without stages, beside `TINY`."""


def make_images(folder: Path, count: int, seed: int = 0, size: tuple[int, int] = (64, 48)) -> None:
    """Smooth random images, width x height."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")


def make_sharp(folder: Path, count: int = 6) -> list[str]:
    """A folder of sharp images, as command line arguments."""
    make_images(folder / "sharp", count, seed=1)
    return ["--data.sharp", str(folder / "sharp")]


def make_both(folder: Path, sharp: int = 6, blurry: int = 3) -> list[str]:
    """Folders of sharp and of blurry images, as command line arguments."""
    make_images(folder / "blurry", blurry, seed=2)
    return [*make_sharp(folder, sharp), "--data.blurry", str(folder / "blurry")]


def unpaired(folder: Path) -> list[str]:
    """The recipe "unpaired", tiny, with images for it."""
    return ["unpaired", *make_both(folder), *TINY, *NARROW]


def staged(recipe: str, folder: Path, scale: float) -> list[str]:
    """One of the shipped checkpoints' recipes, tiny and short, with images and weights for it."""
    make_images(folder / "sharp", 20, seed=1)  # three of four are not held out
    save_file(random_lpips_weights(), folder / "lpips.safetensors")
    return [
        *(recipe, "--data.sharp", str(folder / "sharp"), *TINY),
        *("--data.held-out", "2", "--loss.lpips-weights", str(folder / "lpips.safetensors")),
        *("--schedule.scale", str(scale), "--validation.every", "3", "--data.reblur-scale", "0.75"),
        *("--model.init", ""),  # not from another run
    ]


def random_lpips_weights() -> dict[str, torch.Tensor]:
    """Weights of LPIPS by their names, none of them learnt."""
    shapes = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]
    rng = torch.Generator().manual_seed(0)
    weights = {}
    for k, (outer, inner, side) in enumerate(shapes):
        scale = (inner * side * side) ** -0.5
        weights[f"conv{k}.weight"] = torch.randn(outer, inner, side, side, generator=rng) * scale
        weights[f"conv{k}.bias"] = torch.randn(outer, generator=rng) * scale
        weights[f"lin{k}"] = torch.rand(outer, generator=rng)
    return weights


def changed(before: dict[str, torch.Tensor], network: nn.Module) -> bool:
    """Whether a network's weights differ from an earlier `copied`."""
    return any(not torch.equal(before[k], v) for k, v in network.named_parameters())


def copied(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a network's weights."""
    return {k: v.detach().clone() for k, v in network.named_parameters()}


def same(a: object, b: object, where: str = "") -> None:
    """Asserts that two nested states are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor) and torch.equal(a, b), where
    elif isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys(), where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert isinstance(b, (list, tuple)) and len(a) == len(b), where
        for number, pair in enumerate(zip(a, b, strict=True)):
            same(*pair, f"{where}.{number}")
    else:
        assert a == b, where


def log_of(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without what depends on the clock."""
    lines = map(json.loads, (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [{k: v for k, v in line.items() if "per_" not in k} for line in lines]


def free_port() -> str:
    """A TCP port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


TRAIN = ("-m", "training.train")


def launch(
    *arguments: str, processes: int = 1, program: tuple[str, ...] = TRAIN
) -> "subprocess.Popen[str]":
    """``devudp-train`` (or another program) in a process of its own, or several of one job."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        command += ["--master-port", free_port()]
    command += [*program, *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: "subprocess.Popen[str]", seconds: float = 180) -> str:
    """The output of a job that must end well."""
    output = process.communicate(timeout=seconds)[0]
    assert process.returncode == 0, output[-3000:]
    return output


def kill_after(process: "subprocess.Popen[str]", step: int) -> None:
    """Kills a run as soon as it reports this step."""
    assert process.stdout
    for line in process.stdout:
        if line.startswith(f"step {step} "):
            process.kill()
            break
    assert process.wait(60) != 0
