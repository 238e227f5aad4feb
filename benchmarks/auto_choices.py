"""Counts what task `auto` chooses for images whose needs are known: a confusion matrix.

python -m benchmarks.auto_choices nothing=GOOD deblur=BLURRY "low light=DARK" joint=DARK_AND_BLURRY
python -m benchmarks.auto_choices deblur=paused:GOOD joint=dark-paused:GOOD --held-out
python -m benchmarks.auto_choices nothing=GOOD --only training/recipes/untuned.tsv

Each argument names what a folder's images need, and the folder. `KIND:` before it makes the images
worse first, in one of the ways of benchmarks/shaken.py. `--held-out` takes one in six images, those
that `benchmarks.blur_weights` does not fit to. `--without` and `--only` take a table of names,
`--seeds` makes several of each. An image that needs nothing but would be changed is restored, and
the PSNR between the two is printed. "Found": the task has deblurring or brightening where it is
needed, whatever else it has.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from devudp_model.images.reading import read_image
from devudp_model.ops.dtypes import from_unit, to_unit
from devudp_model.ops.metrics import psnr
from devudp_model.restorer import Restorer
from devudp_model.restoring.auto import choose
from training.data.domains import excluded_names

from .measure import make_parser
from .shaken import KINDS, held_out, made_worse, photographs

NOTHING = "nothing"
CHOICES = (NOTHING, "deblur", "low light", "joint")
BESIDE = {"deblur": ("joint",), "low light": ("joint",)}
"""Tasks that do what is needed, too."""


def parse() -> argparse.Namespace:
    parser = make_parser("benchmarks.auto_choices", __doc__)
    parser.add_argument("needs", nargs="+", metavar="NEEDS=[KIND:]FOLDER")
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--without", default="", metavar="TABLE")
    parser.add_argument("--only", metavar="TABLE")
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--unrestored", action="store_true", help="only names and reasons")
    args = parser.parse_args()
    if not all("=" in argument for argument in args.needs):
        parser.error("give NEEDS=FOLDER")
    return args


def chosen_files(folder: Path, args: argparse.Namespace) -> list[Path]:
    """Returns the images of a folder that the options leave."""
    files = photographs(folder, args.without)
    if args.only:
        names = excluded_names(args.only)
        files = [path for path in files if path.name in names]
    return held_out(files) if args.held_out else files


def images_of(kind: str, files: list[Path], seeds: int) -> Iterator[tuple[str, Tensor]]:
    """Names and images, made worse if there is a kind."""
    for number, path in enumerate(files):
        image = read_image(path).pixels
        if not kind:
            yield path.name, image
        for seed in range(seeds if kind else 0):
            unit = to_unit(image[:, :3]).expand(-1, 3, -1, -1)
            yield f"{path.name} ({kind} {seed})", made_worse(unit, kind, 10_000 * seed + number)


def main() -> None:
    args = parse()
    heads = [*CHOICES, "right", "found"]
    print(f"| needs | of | images | {' | '.join(heads)} |\n|{' --- |' * (len(heads) + 3)}")
    wrong: list[str] = []
    restorer = Restorer(device="cpu")
    for argument in args.needs:
        needs, place = argument.split("=", 1)
        kind, folder = place.split(":", 1) if place.split(":")[0] in KINDS else ("", place)
        counts: Counter[str] = Counter()
        files = chosen_files(Path(folder), args)
        for name, image in images_of(kind, files, args.seeds):
            choice = choose(image)
            counts[choice.task or NOTHING] += 1
            if needs == NOTHING and choice.task and not args.unrestored:
                wrong.append(f"{name}: {choice.reason}: {change(image, restorer(image)):.1f} dB")
            elif (choice.task or NOTHING) != needs:
                wrong.append(f"{name}: {choice.reason}")
        total = max(sum(counts.values()), 1)
        cells = [str(counts[task]) for task in CHOICES]
        found = sum(counts[task] for task in {needs, *BESIDE.get(needs, ())}) / total
        cells += [f"{counts[needs] / total:.1%}", f"{found:.1%}"]
        print(f"| {needs} | {place} | {total} | {' | '.join(cells)} |", flush=True)
    print("\n".join(["", *wrong]))


def change(image: Tensor, restored: Tensor) -> float:
    """PSNR between an image and what is made of it."""
    return psnr(*(from_unit(x[0], torch.uint8) for x in (restored, image)))


if __name__ == "__main__":
    main()
