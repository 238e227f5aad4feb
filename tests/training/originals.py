"""The functions that other programs measure with, and how far this project's are from them.

    pip install --no-deps -r tests/training/requirements-no-deps.txt
    pip install opencv-python-headless
    python -m tests.training.originals        # the largest differences on ten made pairs

BasicSR and pyiqa ask for torchvision, which their metrics do not need: single files are loaded,
without what the packages import first.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.evaluation.protocols import PROTOCOLS

skimage_metrics: Any = importlib.import_module("skimage.metrics")

PACKAGES = {
    "basicsr": ("metrics", "utils"),
    "pyiqa": ("archs", "utils", "matlab_utils"),
}
"""The packages, and their sub-packages whose own imports are left out."""

KEPT = {"pyiqa.matlab_utils"}
"""Those that import nothing unusual."""

Pair = tuple[np.ndarray, np.ndarray]
"""An image and its reference, H,W,3 uint8."""


def available(*names: str) -> bool:
    """Whether these packages are installed."""
    return all(find_spec(name) for name in names)


@contextmanager
def bare(package: str) -> Iterator[None]:
    """Lets single modules of a package be imported without its `__init__`; then forgets them."""
    spec = find_spec(package)
    assert spec and spec.submodule_search_locations
    (root,) = spec.submodule_search_locations
    before = set(sys.modules)
    for name in (package, *(f"{package}.{part}" for part in PACKAGES[package])):
        if name not in KEPT:
            module = ModuleType(name)
            module.__path__ = [str(Path(root, *name.split(".")[1:]))]
            sys.modules[name] = module
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            if name.split(".")[0] == package:
                del sys.modules[name]


def basicsr(image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """BasicSR's own numbers; its images are BGR."""
    with bare("basicsr"):
        # Its sub-package names the colour conversion that the metrics ask it for.
        colour = importlib.import_module("basicsr.utils.color_util")
        sys.modules["basicsr.utils"].bgr2ycbcr = colour.bgr2ycbcr  # pyright: ignore
        metrics = importlib.import_module("basicsr.metrics.psnr_ssim")
    a, b = (np.ascontiguousarray(each[..., ::-1]) for each in (image, reference))
    found = {}
    for suffix, of_y in (("", False), ("_y", True)):
        found[f"psnr{suffix}"] = metrics.calculate_psnr(a, b, 0, test_y_channel=of_y)
        found[f"ssim{suffix}"] = metrics.calculate_ssim(a, b, 0, test_y_channel=of_y)
    return found


def pyiqa(image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """pyiqa's own numbers, with the settings of the metrics psnr, psnry, ssim and ssimc."""
    with bare("pyiqa"):
        psnr = importlib.import_module("pyiqa.archs.psnr_arch").PSNR
        ssim = importlib.import_module("pyiqa.archs.ssim_arch").SSIM
    pair = [
        torch.from_numpy(each.copy()).permute(2, 0, 1)[None] / 255 for each in (image, reference)
    ]
    metrics = {
        "psnr": psnr(test_y_channel=False), "psnr_y": psnr(test_y_channel=True),
        "ssim_y": ssim(test_y_channel=True), "ssim": ssim(test_y_channel=False),
    }  # fmt: skip
    return {name: metric(*pair).item() for name, metric in metrics.items()}


def skimage(image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """scikit-image's numbers, as its documentation says to match Wang et al."""
    return {
        "psnr": float(skimage_metrics.peak_signal_noise_ratio(reference, image, data_range=255)),
        "ssim": float(
            skimage_metrics.structural_similarity(
                reference, image, channel_axis=2, gaussian_weights=True,
                use_sample_covariance=False, data_range=255,
            )
        ),
        "mae": float(np.abs(image.astype(np.float64) - reference).mean()),
    }  # fmt: skip


def realblur(image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """RealBlur's published steps with OpenCV and scikit-image, in float32 as there."""
    cv2: Any = importlib.import_module("cv2")
    z, x = image.astype(np.float32) / 255, reference.astype(np.float32) / 255
    z = (np.sum(x * z) / np.sum(z * z)) * z
    grey = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (x, z)]
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 0)
    H = cv2.findTransformECC(*grey, np.eye(3, dtype=np.float32), cv2.MOTION_HOMOGRAPHY, until,
                             inputMask=None, gaussFiltSize=5)[1]  # fmt: skip
    size, back = (x.shape[1], x.shape[0]), cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(z, H, size, flags=cv2.INTER_CUBIC + back,
                                borderMode=cv2.BORDER_REFLECT)  # fmt: skip
    mask = cv2.warpPerspective(np.ones_like(z), H, size, flags=cv2.INTER_NEAREST + back,
                               borderMode=cv2.BORDER_CONSTANT, borderValue=0)  # fmt: skip
    moved, x = moved * mask, x * mask
    error = np.sum((x - moved) ** 2, dtype=np.float64) / np.sum(mask)
    _, each = skimage_metrics.structural_similarity(
        x, moved, channel_axis=2, gaussian_weights=True, use_sample_covariance=False,
        data_range=1.0, full=True,
    )  # fmt: skip
    inside = slice(5, -5)
    each, covered = (a[inside, inside] for a in (each * mask, mask))
    ssim = np.mean(each.sum((0, 1)) / covered.sum((0, 1)))
    return {"psnr": float(-10 * np.log10(error)), "ssim": float(ssim)}


ORIGINALS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], dict[str, float]]]] = {
    "scikit-image": ("paper", skimage),
    "basicsr": ("basicsr", basicsr),
    "pyiqa": ("pyiqa", pyiqa),
    "RealBlur's steps": ("realblur", realblur),
}
"""By name: the protocol of this project, and the numbers of the other program."""

NEEDS = {"scikit-image": (), "basicsr": ("basicsr", "cv2"), "pyiqa": ("pyiqa",),
         "RealBlur's steps": ("cv2",)}  # fmt: skip


def made_pairs(count: int = 10) -> list[Pair]:
    """Images with structure, and of each a blurred, darker, noisy version, turned a little."""
    pairs = []
    for number in range(count):
        rng = np.random.default_rng(number)
        width, height = 160 + 13 * number, 120 + 7 * number
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        fine = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        sizes = (width, height), Image.Resampling.BICUBIC
        sharp = Image.blend(coarse.resize(*sizes), fine.resize(*sizes), 0.4)
        moved = sharp.rotate(0.4 * (number - 5) / 5, Image.Resampling.BICUBIC,
                             translate=(number % 3, -(number % 2)))  # fmt: skip
        small = moved.resize((width // 2, height // 2), Image.Resampling.BOX).resize(*sizes)
        light = 0.75 + 0.05 * (number % 4)
        noisy = np.asarray(small, np.float64) * light + rng.normal(0, 3, (height, width, 3))
        pairs.append((np.clip(noisy, 0, 255).round().astype(np.uint8), np.asarray(sharp)))
    return pairs


def differences(name: str, pairs: list[Pair]) -> dict[str, float]:
    """The largest difference of each number of a program from this project's."""
    protocol, original = ORIGINALS[name]
    worst: dict[str, float] = {}
    for image, reference in pairs:
        ours = PROTOCOLS[protocol].compare(as_tensor(image), as_tensor(reference))
        for metric, value in original(image, reference).items():
            worst[metric] = max(worst.get(metric, 0.0), abs(ours[metric] - value))
    return worst


def as_tensor(pixels: np.ndarray) -> Tensor:
    """H,W,3 to 3,H,W."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def main() -> None:
    pairs: Any = made_pairs()
    for name, needed in NEEDS.items():
        if not available(*needed):
            print(f"{name}: {', '.join(needed)} missing")
            continue
        found = differences(name, pairs)
        print(f"{name}: {', '.join(f'{m} {v:.1e}' for m, v in found.items())}")


if __name__ == "__main__":
    main()
