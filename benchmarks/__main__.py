"""Measures speed, memory and precision, prints Markdown tables and writes them to a folder.

python -m benchmarks                         # all that this machine can do, into benchmarks/out
python -m benchmarks speed memory --quick    # small pictures only: a minute
python -m benchmarks precision --pictures DIR --out docs

Ratios compare things measured one after the other in one run, so they hold on other machines too;
seconds do not. Close other programs first.
"""

from __future__ import annotations

import argparse
import logging
from datetime import datetime, timezone
from pathlib import Path

import torch

from .measure import machine
from .parts import PARTS, Plan, Table
from .report import write_chart, write_report

log = logging.getLogger("benchmarks")


def parse() -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The part peers needs the package spandrel: see benchmarks/peers.py.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="small pictures only")
    parser.add_argument("--pictures", type=Path, default=Path("samples"), help="for precision")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"))
    args = parser.parse_args()
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}: choose of {', '.join(PARTS)}")
    return args


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse()
    device = torch.device(args.device)
    plan = Plan(device, args.quick, args.pictures)
    tables: list[Table] = []
    for name in args.parts or PARTS:
        log.info("%s ...", name)
        try:
            found = PARTS[name](plan)
        except ImportError as error:
            log.warning("left out: %s (see benchmarks/peers.py)", error)
            continue
        for table in found:
            log.info("\n%s\n", table.markdown())
        tables += found
    args.out.mkdir(parents=True, exist_ok=True)
    day = datetime.now(timezone.utc).date()
    write_report(args.out / "performance.md", tables, f"Measured on {day}: {machine(device)}.")
    write_chart(args.out / "performance.png", tables)
    log.info("written: %s", args.out / "performance.md")


if __name__ == "__main__":
    main()
