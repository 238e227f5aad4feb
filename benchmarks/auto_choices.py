"""What task `auto` chooses for images whose needs are known: a confusion matrix.

python -m benchmarks.auto_choices nothing=GOOD deblur=BLURRY "low light=DARK" joint=DARK_AND_BLURRY

Each argument names what a folder's images need, and the folder. An image that needs nothing but
would be changed is restored, and the PSNR between the two is printed.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from devudp_model.images.reading import read_image
from devudp_model.ops.dtypes import from_unit
from devudp_model.ops.metrics import psnr
from devudp_model.restorer import Restorer
from devudp_model.restoring.auto import choose

NOTHING = "nothing"
CHOICES = (NOTHING, "deblur", "low light", "joint")
SUFFIXES = {".png", ".jpg", ".jpeg"}


def main() -> None:
    if not sys.argv[1:] or not all("=" in argument for argument in sys.argv[1:]):
        sys.exit(__doc__)
    print(f"| needs | images | {' | '.join(CHOICES)} | right |\n|{' --- |' * (len(CHOICES) + 3)}")
    changed: list[str] = []
    restorer = Restorer(device="cpu")
    for argument in sys.argv[1:]:
        needs, folder = argument.split("=", 1)
        counts: Counter[str] = Counter()
        for path in sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES):
            image = read_image(path).pixels
            choice = choose(image)
            counts[choice.task or NOTHING] += 1
            if needs == NOTHING and choice.task:
                decibels = change(image, restorer(image))
                changed.append(f"{path.name}: {choice.reason}: {decibels:.1f} dB")
        total = sum(counts.values())
        cells = [str(counts[task]) for task in CHOICES]
        right = counts[needs] / max(total, 1)
        print(f"| {needs} | {total} | {' | '.join(cells)} | {right:.0%} |", flush=True)
    print("\n".join(["", *changed]))


def change(image: Tensor, restored: Tensor) -> float:
    """PSNR between an image and what is made of it."""
    return psnr(*(from_unit(x[0], torch.uint8) for x in (restored, image)))


if __name__ == "__main__":
    main()
