"""Validation during training: image pairs, with the tasks as users run them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from devudp_model.network.generator import Generator
from devudp_model.ops import metrics
from devudp_model.ops.degrade import degrade
from devudp_model.ops.dtypes import from_unit
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.tasks import TASK_SPECS, Degradation, Task

from ..config import Config, ConfigError
from ..data.image_cache import decode
from ..data.layouts import folder_pairs
from ..method.lpips import AlexLpips

SHORT_SIDE = 360
"""Held-out images are centre-cropped to this side at most, which bounds the time."""

STRENGTHS: dict[frozenset[Degradation], dict[str, tuple[float, float]]] = {
    frozenset(): {"noise": (0.005, 0.03)},
    frozenset({"blur"}): {"blur": (3.0, 10.0), "noise": (0.0, 0.01)},
    frozenset({"darkness"}): {"light": (0.03, 0.2), "noise": (0.005, 0.03)},
    frozenset({"blur", "darkness"}): {
        "blur": (3.0, 10.0), "light": (0.05, 0.2), "noise": (0.005, 0.02)
    },
}  # fmt: skip
"""How strongly held-out images are degraded for a task that removes these: the first image, the
last image."""


class Pair(NamedTuple):
    """A degraded image and its reference, 1,3,H,W in [0, 1]."""

    degraded: Tensor
    reference: Tensor


def read(path: Path) -> Tensor:
    """1,3,H,W in [0, 1], cropped to `SHORT_SIDE`."""
    image = torch.from_numpy(decode(path).copy()).permute(2, 0, 1)[None].float() / 255
    top, left = ((s - min(s, SHORT_SIDE)) // 2 for s in image.shape[2:])
    return image[..., top : top + SHORT_SIDE, left : left + SHORT_SIDE]


class Validation:
    """The pairs of a run, and the best result so far.

    Args:
        config: of the run.
        held_out: sharp images that the training never sees.
        lpips: LPIPS; None: it is left out.

    Raises:
        ConfigError: no pairs, or too few held-out images.
    """

    def __init__(self, config: Config, held_out: list[Path], lpips: AlexLpips | None):
        self.config, self.lpips = config.validation, lpips
        if self.config.best_by == "lpips" and lpips is None:
            raise ConfigError("validation.best_by 'lpips' needs LPIPS's weights, which are missing")
        self.pairs = self.find_pairs(held_out, config.seed)
        self.best: float | None = None
        self.misses = 0

    def find_pairs(self, held_out: list[Path], seed: int) -> dict[str, list[Pair]]:
        """Returns the pairs of each task."""
        limit = self.config.images or None
        if self.config.degraded:
            folders = Path(self.config.degraded), Path(self.config.reference)
            found = folder_pairs(*folders)[:limit]
            pairs = [Pair(read(p.degraded), read(p.reference)) for p in found]
            return {task: pairs for task in self.config.tasks}
        references = [read(path) for path in held_out[:limit]]
        return {
            task: [make_pair(reference, task, k, len(references), seed)
                   for k, reference in enumerate(references)]
            for task in self.config.tasks
        }  # fmt: skip

    @torch.inference_mode()
    def measure(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """Mean PSNR (dB), SSIM and LPIPS by "validation TASK METRIC".

        Args:
            network: a generator; it is not changed.
        """
        G = copy.deepcopy(network).to(memory_format=torch.contiguous_format).eval()  # pyright: ignore
        assert isinstance(G, Generator)
        found: dict[str, float] = {}
        for task, pairs in self.pairs.items():
            values = [self.compare(G, task, pair, device) for pair in pairs]  # pyright: ignore
            for name in values[0]:
                mean = sum(value[name] for value in values) / len(values)
                found[f"validation {task} {name}"] = mean
        return found

    def compare(
        self, G: Generator, task: Task, pair: Pair, device: torch.device
    ) -> dict[str, float]:
        """Returns the measures of one pair, of 8-bit images."""
        options = Options(task=task, precision="fp32")
        restored = restore(pair.degraded.to(device), G, options)
        a, b = (from_unit(x[0].cpu(), torch.uint8) for x in (restored, pair.reference))
        found = {"psnr": metrics.psnr(a, b), "ssim": metrics.ssim(a, b)}
        if self.lpips is not None:
            home = next(self.lpips.buffers()).device
            found["lpips"] = self.lpips.of_images(a.to(home), b.to(home))
        return found

    def is_best(self, found: dict[str, float]) -> bool:
        """True if the mean of `best_by` over all tasks is the best so far; counts the misses."""
        name = self.config.best_by
        values = [v for k, v in found.items() if k.endswith(f" {name}")]
        score = sum(values) / len(values) * (-1 if name == "lpips" else 1)
        better = self.best is None or score > self.best
        self.best, self.misses = (score, 0) if better else (self.best, self.misses + 1)
        return better

    @property
    def gives_up(self) -> bool:
        """True if the training should end: nothing better for `patience` validations."""
        return 0 < self.config.patience <= self.misses

    def state(self) -> dict:
        """Returns what `load` puts back."""
        return {"best": self.best, "misses": self.misses}

    def load(self, state: dict) -> None:
        """Puts back what `state` returned."""
        self.best, self.misses = state["best"], state["misses"]


def make_pair(reference: Tensor, task: str, number: int, count: int, seed: int) -> Pair:
    """Returns a pair from a sharp image, the same one every time for a seed and a number."""
    rng = torch.Generator().manual_seed(seed * 1_000_003 + number)
    share = number / max(count - 1, 1)
    ranges = STRENGTHS[frozenset(TASK_SPECS[task].removes)]
    strengths = {k: low + (high - low) * share for k, (low, high) in ranges.items()}
    degraded = degrade(reference, rng, **strengths)
    return Pair((degraded * 255).round() / 255, reference)
