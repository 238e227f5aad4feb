"""Lists what can be compared: the tasks, a fixed gamma, other programs, cascades."""

from __future__ import annotations

import logging
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from devudp_model.engine.precision import Precision
from devudp_model.network.generator import Generator
from devudp_model.ops.dtypes import from_unit
from devudp_model.restorer import Restorer
from devudp_model.restoring.auto import AUTO
from devudp_model.restoring.restoration import make_network

from ..config import ConfigError
from ..data.image_cache import decode

logger = logging.getLogger("devudp")

Method = Callable[[Path, Path], None]
"""Restores all PNGs of a folder into another one, under the same names."""


def gamma_method(gamma: float, source: Path, target: Path) -> None:
    """The trivial baseline: each value in [0, 1] to the power `gamma`."""
    curve = np.round(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    for path in sorted(source.glob("*.png")):
        save(curve[decode(path)], target / path.name)


def restore_method(restorer: Restorer, source: Path, target: Path) -> None:
    """Does a task of this project, or what each image needs."""

    def run(image: Tensor) -> Tensor:
        restored = restorer(image)
        if restorer.reason:
            logger.info("%s", restorer.reason)
        return restored

    each_image(run, AUTO if restorer.auto else restorer.options.task, source, target)


def model_method(generator: Generator, precision: Precision, source: Path, target: Path) -> None:
    """The network's plain output, which the paper measures, without what the tasks add to it."""
    network = make_network(generator, precision)
    network.has_droplets = False  # they are the network's
    each_image(lambda image: network(image), "model", source, target)


@torch.inference_mode()
def each_image(run: Callable[[Tensor], Tensor], name: str, source: Path, target: Path) -> None:
    """Applies a function of 1,3,H,W in [0, 1], which returns the same, to all PNGs of a folder."""
    for path in tqdm(sorted(source.glob("*.png")), desc=name, disable=None, leave=False):
        image = torch.from_numpy(decode(path).copy()).permute(2, 0, 1)[None].float() / 255
        pixels = from_unit(run(image)[0], torch.uint8)
        save(pixels.permute(1, 2, 0).cpu().numpy(), target / path.name)


def command_method(command: str, source: Path, target: Path) -> None:
    """Any program: ``{input}`` and ``{output}`` in its command line are folders of PNGs.

    Raises:
        ConfigError: it fails or leaves out images.
    """
    words = [
        word.replace("{input}", str(source)).replace("{output}", str(target))
        for word in shlex.split(command)
    ]
    try:
        status = subprocess.run(words, check=False).returncode
    except OSError as error:
        raise ConfigError(f"the stage {command!r} cannot be run: {error}") from error
    missing = [p.name for p in sorted(source.glob("*.png")) if not (target / p.name).exists()]
    if status or missing:
        raise ConfigError(
            f"the stage {command!r} ended with status {status} and left out {len(missing)} "
            f"images ({', '.join(missing[:3])}): it must write each of {{input}}'s PNGs to "
            "{output} under the same name"
        )


def cascade_method(stages: Sequence[Method], source: Path, target: Path) -> None:
    """One method after the other, each on the 8-bit output of the one before (Table 3)."""
    for number, stage in enumerate(stages):
        last = number == len(stages) - 1
        folder = target if last else target.with_name(f"{target.name} stage {number + 1}")
        folder.mkdir(parents=True, exist_ok=True)
        stage(source, folder)
        source = folder


def save(pixels: np.ndarray, path: Path) -> None:
    """H,W,3 uint8 as a PNG."""
    Image.fromarray(pixels).save(path, compress_level=1)
