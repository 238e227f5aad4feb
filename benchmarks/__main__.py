"""Measures speed, memory and precision: Markdown tables and a chart.

python -m benchmarks                             # all parts, half an hour on two cores
python -m benchmarks speed precision             # some parts, one after the other
python -m benchmarks precision --images DIR      # with images of your own
python -m benchmarks --effort quick              # small images only: a few minutes
python -m benchmarks --report docs               # measures nothing: writes docs/performance.md

Each part's tables are kept in benchmarks/out as they are measured, so an interrupted run
continues with the missing parts; the report is made from all parts that are there.
Ratios compare things measured one after the other in one run, so they hold on other machines too;
seconds do not. Close other programs first.
"""

from __future__ import annotations

import argparse
import logging
import time
from datetime import datetime, timezone
from pathlib import Path

import torch

from .measure import machine, make_parser
from .parts import PARTS
from .plan import EFFORTS, Plan
from .report import write_chart, write_report
from .tables import Part, load_part

log = logging.getLogger("benchmarks")


def parse() -> argparse.Namespace:
    parser = make_parser("benchmarks", __doc__)
    parser.epilog = "The part peers needs the package spandrel: see benchmarks/peers.py."
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    add("--effort", choices=EFFORTS, default="full", help="sizes and repetitions; default: full")
    add("--images", type=Path, default=Path("samples"), metavar="DIR",
        help="what the part precision restores; default: %(default)s")  # fmt: skip
    add("--before", type=Path, metavar="DIR",
        help="a checkout of another version, which folders and versions compare with")  # fmt: skip
    add("--onnx", type=Path, nargs="+", default=[], metavar="FILE",
        help="files of devudp-train onnx, which the part versions runs beside")  # fmt: skip
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", metavar="NAME",
        help="cpu, cuda, ...; default: %(default)s")  # fmt: skip
    add("--out", type=Path, default=Path("benchmarks/out"), metavar="DIR",
        help="where the parts' tables are kept; default: %(default)s")  # fmt: skip
    add("--report", type=Path, metavar="DIR",
        help="whose performance.md gets the numbers; measures nothing")  # fmt: skip
    args = parser.parse_args()
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    return args


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse()
    if args.report is None:
        paths = args.images, args.before, tuple(args.onnx)
        plan = Plan(torch.device(args.device), args.effort, *paths)
        for name in args.parts or PARTS:
            run_part(name, plan, args.out / f"{name}.json")
    if args.report is not None:
        write(args.report, args.out)


def run_part(name: str, plan: Plan, path: Path) -> None:
    """Measures a part, prints its tables and keeps them."""
    log.info("%s ...", name)
    start = time.monotonic()
    try:
        tables = PARTS[name](plan)
    except ImportError as error:
        log.warning("left out: %s (see benchmarks/peers.py)", error)
        return
    for table in tables:
        log.info("\n%s\n", table.markdown())
    day = datetime.now(timezone.utc).date()
    Part(f"Measured on {day}: {machine(plan.device)}.", tables).save(path)
    log.info("%s: %.0f s", name, time.monotonic() - start)


def write(folder: Path, parts: Path) -> None:
    """The report of all parts that have been measured."""
    found = [
        load_part(parts / f"{name}.json") for name in PARTS if (parts / f"{name}.json").exists()
    ]
    write_report(folder / "performance.md", found)
    write_chart(folder / "performance.png", [table for part in found for table in part.tables])
    log.info("written: %s", folder / "performance.md")


if __name__ == "__main__":
    main()
