"""Measures how far 16 and 8 bits are from fp32, when a checkpoint is exported.

The checkpoint's metadata keep it, and the precision `auto` goes by it
(devudp_model/engine/precision.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from devudp_model.engine.network import Network
from devudp_model.engine.output_cache import OutputCache
from devudp_model.engine.precision import DTYPES, HALF, Difference, Measured, Precision
from devudp_model.network.generator import Generator
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.tasks import ROWS, Task

from ..config import Config
from ..data.domains import find_domains
from ..data.layouts import list_images
from ..run.validation import Validation, read

logger = logging.getLogger("devudp")

SHARE = 0.999
"""Of an image's values: see `Difference.common`."""

IMAGES = 6
"""As many sharp photographs are degraded where a run has no images for validation."""

CACHE_BYTES = 2**28
"""Of the network's outputs."""

DIGITS = 4
"""Significant digits that are kept."""

Images = Mapping[Task, Sequence[Tensor]]
"""For each task 1,3,H,W in [0, 1]."""


class Apart(NamedTuple):
    """Holds how far two images are apart, in units of 1/255; see `Difference`."""

    total: float
    values: int
    common: float
    largest: float


def compare(a: Tensor, b: Tensor) -> Apart:
    """Two images of one shape, in [0, 1]."""
    apart = (a.double() - b.double()).abs().flatten() * 255
    common = apart.kthvalue(max(round(SHARE * len(apart)), 1)).values
    return Apart(apart.sum().item(), len(apart), common.item(), apart.max().item())


@torch.inference_mode()
def measure_differences(generator: Generator, images: Images) -> Measured:
    """Measures how far 16 bits, and int8 where it can be had, are from fp32, over all tasks
    and images.

    Args:
        generator: in eval mode; runs on the device it is on.
        images: degraded ones.
    """
    in_int8 = Network(generator, torch.int8).in_int8
    rounded: tuple[Precision, ...] = (*HALF, "int8") if in_int8 else HALF
    found: dict[Precision, list[Apart]] = {name: [] for name in rounded}
    cache = OutputCache(CACHE_BYTES)  # tasks that are given the same images share the outputs
    device = next(generator.parameters()).device
    for task, inputs in images.items():
        options = Options(task=task)
        for image in inputs:
            image = image.to(device)
            exact, *others = (
                restore(image, cache.network(generator, DTYPES[name]), options)
                for name in ("fp32", *found)
            )
            for apart, restored in zip(found.values(), others, strict=True):
                apart.append(compare(restored, exact))
    return {name: summarize(apart) for name, apart in found.items() if apart}


def summarize(apart: Sequence[Apart]) -> Difference:
    """Joins those of several images: the mean of all values, otherwise the worst image."""
    mean = sum(a.total for a in apart) / sum(a.values for a in apart)
    values = mean, max(a.common for a in apart), max(a.largest for a in apart)
    return Difference(*(float(f"{value:.{DIGITS}g}") for value in values))


def tasks_of(generator: Generator) -> list[Task]:
    """Returns the tasks that this variant serves."""
    return [spec.name for spec in ROWS if spec.variant == generator.variant]


def images_of_run(config: Config, generator: Generator) -> Images:
    """Finds what a run's checkpoint is measured on: its validation images, or sharp ones.

    Empty, which is said, where they are not to be found any more.
    """
    try:
        domains = find_domains(config)
        sharp = domains.held_out or spread([*domains.sharp, *domains.to_blur])
        tasks = tuple(tasks_of(generator))
        settings = replace(config.validation, tasks=tasks, images=IMAGES, best_by="psnr")
        pairs = Validation(replace(config, validation=settings), sharp, None).pairs
    except (OSError, ValueError) as error:
        logger.warning("How far 16 and 8 bits are from fp32 was not measured: %s", error)
        return {}
    return {task: [pair.degraded for pair in found] for task, found in pairs.items()}


def images_of_folders(folders: Sequence[Path], generator: Generator) -> Images:
    """Degraded images of some folders, for all tasks of the variant.

    Raises:
        FileNotFoundError: a folder is missing or empty.
    """
    images = [read(path) for path in list_images([str(folder) for folder in folders])]
    return {task: images for task in tasks_of(generator)}


def spread(paths: Sequence[Path], most: int = IMAGES) -> list[Path]:
    """At most so many of them, at even distances."""
    count = min(most, len(paths))
    return [paths[k * len(paths) // count] for k in range(count)]
