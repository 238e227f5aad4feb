"""What the training's tests share: tiny pictures, tiny settings."""

# ruff: noqa: SIM905 - command lines are easier to read as they are typed

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

ROOT = Path(__file__).parents[2]

TINY = [
    *"--model.width 4 --model.depth 1 --model.D-width 4".split(),
    *"--data.crop 32 --data.short-side 36 48 --data.cache-gb 0.01 --data.blur-extent 2 5".split(),
    *"--data.again-extent 2 4 --data.again-scale 0.75 --model.calibrate 0".split(),
    *"--speed.device cpu --speed.threads 1 --speed.workers 0 --speed.precision fp32".split(),
    *"--speed.no-compile --speed.no-channels-last --model.G-inv-width None".split(),
    *"--record.no-tensorboard --record.sample-every 0 --record.weights-every 0".split(),
    *"--schedule.unit steps --loss.lpips 0".split(),
    *("" if hasattr(torch.optim, "Muon") else "--schedule.muon 0").split(),  # torch before 2.9
]


def make_images(folder: Path, count: int, seed: int = 0, size: tuple[int, int] = (64, 48)) -> None:
    """Smooth random pictures, width x height."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")


def make_sides(folder: Path, sharp: int = 6, blurry: int = 3) -> list[str]:
    """Two folders of pictures, as command line arguments."""
    make_images(folder / "sharp", sharp, seed=1)
    make_images(folder / "blurry", blurry, seed=2)
    return ["--data.sharp", str(folder / "sharp"), "--data.blurry", str(folder / "blurry")]


def recipe_and_sides(recipe: str, folder: Path) -> list[str]:
    """A recipe's name, and the pictures it takes: with "devudp" there are no real blurry ones."""
    sides = make_sides(folder)
    return [recipe, *(sides[:2] if recipe == "devudp" else sides)]


def random_lpips_weights() -> dict[str, torch.Tensor]:
    """Weights of LPIPS by their names, none of them learnt."""
    shapes = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]
    torch.manual_seed(0)
    weights = {}
    for k, (outer, inner, side) in enumerate(shapes):
        conv = nn.Conv2d(inner, outer, side)
        assert conv.bias is not None
        weights[f"conv{k}.weight"], weights[f"conv{k}.bias"] = conv.weight.data, conv.bias.data
        weights[f"lin{k}"] = torch.rand(outer)
    return weights


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
        command += ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
        command += ["--mixed_precision", "no", "--dynamo_backend", "no"]
        command += ["--num_processes", str(processes), "--main_process_port", free_port()]
    command += [*program, *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
