"""The untuned set: 60 photographs on which nobody trains or chooses settings, degraded here.

Their names and hashes are in `training/recipes/untuned.tsv`, which the shipped recipes exclude; the
photographs themselves are not shipped. Each is made dark, blurred, or both, in three strengths,
with sensor noise. The same photograph always gets the same camera path and the same noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.benchmark import set_torch_threads

from devudp_model.ops.degrade import degrade
from devudp_model.ops.dtypes import from_unit

from ..config import ConfigError
from ..data.image_cache import decode
from ..data.layouts import Pair
from ..data.manifest import Entry, read_manifest, sha256_of
from .tables import Result
from .testsets import TestSet

LIST = Path(__file__).parents[1] / "recipes" / "untuned.tsv"


class Damage(NamedTuple):
    """Arguments of `devudp_model.ops.degrade.degrade`: pixels, share of the light, deviation."""

    blur: float = 0.0
    light: float = 1.0
    noise: float = 0.0


NO_DAMAGE = Damage()


DAMAGES: dict[str, tuple[Damage, ...]] = {
    "low-light": (Damage(0, 0.2, 0.01), Damage(0, 0.08, 0.02), Damage(0, 0.03, 0.03)),
    "deblur": (Damage(6, 1, 0.005), Damage(12, 1, 0.005), Damage(24, 1, 0.005)),
    "joint": (Damage(6, 0.12, 0.01), Damage(12, 0.08, 0.015), Damage(20, 0.04, 0.02)),
}
"""What each task has to undo, the weakest strength first. Fixed: changing one makes all earlier
numbers worthless."""

STRENGTHS = (1, 2, 3)


@dataclass(frozen=True)
class UntunedSet(TestSet):
    """The photographs in one task's degradation of one strength.

    Attributes:
        task: the task that has to undo it.
        damage: what is done to them.
    """

    task: str = ""
    damage: Damage = NO_DAMAGE

    def takes(self, method: str) -> bool:
        """No rows for the tasks that something else would be asked of."""
        return method == self.task or method not in DAMAGES

    def read_pair(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Returns the degraded photograph and the photograph, each H,W,3 uint8."""
        pixels = decode(pair.reference)
        seed = hashlib.sha256(f"{self.name}/{pair.name}".encode()).digest()[:6]
        rng = torch.Generator().manual_seed(int.from_bytes(seed, "big"))
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        # How many threads share an operation changes its last digit, and so a pixel or two.
        with set_torch_threads(1):
            worse = degrade(image, rng, **self.damage._asdict())
        return from_unit(worse[0], torch.uint8).permute(1, 2, 0).numpy(), pixels


def untuned_sets(
    folder: Path, tasks: Sequence[str], *, images: int = 0, strengths: Sequence[int] = STRENGTHS
) -> list[UntunedSet]:
    """Returns the untuned set in the degradations that some of the tasks have to undo.

    Args:
        folder: where its photographs lie; others there are ignored.
        tasks: the methods that are asked for. One that is no key of `DAMAGES` (auto, a cascade)
            is for all of them.
        images: how many photographs, evenly spaced in the list; 0: all.
        strengths: of `STRENGTHS`.

    Raises:
        ConfigError: photographs are missing, or differ from the listed ones.
    """
    entries = read_manifest(LIST)
    if images:
        count = min(images, len(entries))
        entries = [entries[k * len(entries) // count] for k in range(count)]
    check_photographs(folder, entries)
    paths = [folder / entry.file for entry in entries]
    pairs = [Pair(path.stem, path, path) for path in paths]
    every = any(task not in DAMAGES for task in tasks)
    return [
        UntunedSet(set_name(task, k), pairs, task=task, damage=DAMAGES[task][k - 1])
        for task in DAMAGES
        if every or task in tasks
        for k in strengths
    ]


def set_name(task: str, strength: int | None = None) -> str:
    """Returns what tables call it; without a strength, all of them together."""
    words = f"untuned {task.replace('-', ' ')}"
    return words if strength is None else f"{words} {strength}"


def check_photographs(folder: Path, entries: Sequence[Entry]) -> None:
    """Makes sure that the photographs are the listed ones.

    Raises:
        ConfigError: some are missing, or differ.
    """
    missing = [e.file for e in entries if not (folder / e.file).is_file()]
    there = [e for e in entries if e.file not in missing]
    other = [e.file for e in there if sha256_of(folder / e.file) != e.sha256]
    found = {"missing": missing, "not the listed ones (other SHA-256)": other}
    parts = [f"{len(x)} {what} (first: {x[0]})" for what, x in found.items() if x]
    if parts:
        raise ConfigError(
            f"of {len(entries)} photographs of the untuned set, {' and '.join(parts)} in {folder}: "
            f"give the folder that holds the files named in {LIST}, unchanged"
        )


def together(results: Sequence[Result], sets: Sequence[TestSet]) -> list[Result]:
    """For each task and method, the results of all strengths as one; none for a single strength."""
    combined: list[Result] = []
    for task in DAMAGES:
        names = [s.name for s in sets if isinstance(s, UntunedSet) and s.task == task]
        rows = [r for r in results if r.set in names]
        for method in dict.fromkeys(r.method for r in rows) if len(names) > 1 else ():
            images = {
                f"{r.set}/{image}": values
                for r in rows
                if r.method == method
                for image, values in r.images.items()
            }
            combined.append(Result(set_name(task), method, images))
    return combined
