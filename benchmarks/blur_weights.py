"""Fits the weights by which `auto` tells blur (WEIGHTS in devudp_model/restoring/blur.py).

python -m benchmarks.blur_weights SHARP ... --without training/recipes/untuned.tsv

Each folder has sharp photographs. One in six is held out; of the others, every second one is shaken
as well (benchmarks/shaken.py). A logistic regression on log steepness and direction: both classes
weigh the same. Prints the weights, and how many it gets right at the threshold that `auto` uses.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from devudp_model.images.reading import read_image
from devudp_model.ops.dtypes import to_unit
from devudp_model.restoring.auto import BLURRED, MIN_SHARE
from devudp_model.restoring.first_look import Look, look_at

from .measure import make_parser
from .shaken import held_out, made_worse, photographs, shaken_ones

RIDGE = 1e-4
"""Keeps the weights finite where classes can be told apart without a fault."""

STEPS = 40
"""Of Newton's method, which converges in about ten."""


def main() -> None:
    parser = make_parser("benchmarks.blur_weights", __doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="SHARP")
    parser.add_argument("--without", default="", metavar="TABLE", help="names to leave out")
    args = parser.parse_args()
    folders = [photographs(folder, args.without) for folder in args.folders]
    test = [path for files in folders for path in held_out(files)]
    train = [path for files in folders for path in files if path not in set(test)]
    good, bad = measured(train), measured_shaken(train[::2])
    weights = fit(good, bad)
    print("WEIGHTS =", tuple(round(v, 2) for v in weights.tolist()))
    print("| photographs | sharp | left alone | shaken | found |\n|" + " --- |" * 5)
    threshold = BLURRED[0] + MIN_SHARE * (BLURRED[1] - BLURRED[0])
    for name, one, other in (
        ("fitted", good, bad),
        ("held out", measured(test), measured_shaken(test)),
    ):
        left, found = (float((x @ weights < threshold).double().mean()) for x in (one, other))
        print(f"| {name} | {len(one)} | {left:.1%} | {len(other)} | {1 - found:.1%} |")


def parts_of(look: Look) -> list[float]:
    """Returns what `blur_score` weighs."""
    return [math.log(min(max(look.steepness, 0.05), 1.2)), min(look.direction, 2.0), 1.0]


def unit(path: Path) -> Tensor:
    """1,3,H,W in [0, 1]."""
    return to_unit(read_image(path).pixels[:, :3]).expand(-1, 3, -1, -1)


def measured(files: list[Path]) -> Tensor:
    """Files,3 of `parts_of`."""
    return torch.tensor([parts_of(look_at(unit(path))) for path in files], dtype=torch.float64)


def measured_shaken(files: list[Path]) -> Tensor:
    """Returns the same of what shaking makes of them."""
    looks = (look_at(made_worse(unit(path), kind, seed)) for path, kind, seed in shaken_ones(files))
    return torch.tensor([parts_of(look) for look in looks], dtype=torch.float64)


def fit(good: Tensor, bad: Tensor) -> Tensor:
    """The weights of a logistic regression, classes weighted to the same sum; Newton's method."""
    x = torch.cat([good, bad])
    y = torch.cat([torch.zeros(len(good)), torch.ones(len(bad))]).double()
    share = torch.where(y > 0, 0.5 / len(bad), 0.5 / len(good))
    ridge = torch.diag(torch.tensor([RIDGE, RIDGE, 0.0], dtype=torch.float64))
    weights = torch.zeros(x.shape[1], dtype=torch.float64)
    for _ in range(STEPS):
        odds = torch.sigmoid(x @ weights)
        slope = x.T @ (share * (odds - y)) + ridge @ weights
        curve = (x.T * (share * odds * (1 - odds))) @ x + ridge
        weights -= torch.linalg.solve(curve, slope)
    return weights


if __name__ == "__main__":
    main()
