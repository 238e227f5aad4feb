"""What task `auto` chooses for images of which it is known what they need: a confusion table.

python -m benchmarks.auto_choices nothing=GOOD deblur=BLURRY "low light=DARK" joint=DARK_AND_BLURRY

Each argument is what a folder's images need, and the folder. Nothing is restored. Of what needs
nothing and is changed all the same, it also says how strongly.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from devudp_model.auto import choose
from devudp_model.files.images import read_image

NOTHING = "nothing"
CHOICES = (NOTHING, "deblur", "low light", "joint")
SUFFIXES = {".png", ".jpg", ".jpeg"}


def main() -> None:
    if not sys.argv[1:] or not all("=" in argument for argument in sys.argv[1:]):
        sys.exit(__doc__)
    print(f"| needs | images | {' | '.join(CHOICES)} | right |\n|{' --- |' * (len(CHOICES) + 3)}")
    changed: list[str] = []
    for argument in sys.argv[1:]:
        needs, folder = argument.split("=", 1)
        counts: Counter[str] = Counter()
        for path in sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES):
            choice = choose(read_image(path).pixels)
            counts[choice.task or NOTHING] += 1
            if needs == NOTHING and choice.task:
                changed.append(f"{path.name}: {choice.reason}")
        total = sum(counts.values())
        cells = [str(counts[task]) for task in CHOICES]
        right = counts[needs] / max(total, 1)
        print(f"| {needs} | {total} | {' | '.join(cells)} | {right:.0%} |", flush=True)
    print("\n".join(["", *changed]))


if __name__ == "__main__":
    main()
