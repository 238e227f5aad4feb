"""`devudp restore --cluster`: its options, and what is told of its work.

Nothing of torch is imported here before it is needed.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..cluster.stores import check_writable, is_stand_in, text_of
from ..system.untrusted import MEMORY_VARIABLE, printable
from .restoring import make_restorer, plan_files, prepare_folder

if TYPE_CHECKING:
    from ..cluster.items import Item, Problems
    from ..cluster.run import Pool
    from ..cluster.worker import Orders, Row

log = logging.getLogger("devudp")

TABLE = "devudp-results.jsonl"

SHOWN = 20
"""Failures that are printed; the table has all."""

STATUSES = {"unchanged": "left as they are", "skipped": "were there already"}
"""The counts that are printed beside that of the restored, in words."""


def add_cluster_arguments(
    parser: argparse.ArgumentParser, count: Callable[[str], int], path: Callable[[str], Path]
) -> None:
    """Adds the options.

    Args:
        count, path: the types of a number from 1 on, and of a path that may be an address.
    """
    add = parser.add_argument
    add(
        "--cluster",
        action="store_true",
        help="share the files out to workers with Ray: on the cluster that the environment "
        "variable RAY_ADDRESS names, else on this machine; PATH and DIR may be addresses "
        'such as s3://bucket/photos; needs the extra "cluster"',
    )
    add(
        "--workers",
        type=count,
        metavar="N",
        help="with --cluster: how many; default: one for each GPU, or as many as the processors "
        "are enough for",
    )
    add(
        "--threads",
        type=count,
        metavar="N",
        help="with --cluster: processors for each worker; default: 8, or what there is for each",
    )
    add(
        "--table",
        type=path,
        metavar="FILE",
        help="with --cluster: what became of each file, as JSON lines (.jsonl) or Parquet "
        f"(.parquet); default: {TABLE} in the folder for the results",
    )


def problem_with(args: argparse.Namespace) -> str | None:
    """Returns why arguments do not go together, or None."""
    if not args.cluster:
        for name in ("workers", "threads", "table"):
            if getattr(args, name) is not None:
                return f"--{name} is for --cluster, which is not given"
        if any(map(is_stand_in, (*args.paths, args.out))):
            return "addresses such as s3://... need --cluster"
        return None
    if args.shard.count > 1:
        return "--shard and --cluster both share the files out: give one of them"
    if args.statistics == "shared":
        return (
            "--statistics shared does not go with --cluster, whose workers do not see the whole "
            "folder: leave --cluster out"
        )
    if args.device not in (None, "cpu", "cuda"):
        return f"--device {args.device} does not go with --cluster: write cpu or cuda, or leave it"
    if args.table and args.table.suffix not in (".jsonl", ".parquet"):
        return f"--table {args.table.name}: the name has to end in .jsonl or .parquet"
    return None


def run_on_cluster(args: argparse.Namespace) -> int:
    """Restores with many workers; returns the exit status."""
    from ..cluster.items import items_of, without_existing
    from ..cluster.run import connected

    jobs, videos, unnamed = plan_files(args)
    problems = {text_of(path): reason for path, reason in unnamed.items()}
    todo, there, refused = without_existing(
        items_of([*jobs, *videos]),
        args.out,
        overwrite=args.overwrite,
        skip_existing=args.skip_existing,
    )
    problems.update(refused)
    if not todo:
        return report_rows(args, settled(there, problems), len(there) + len(problems))
    if is_stand_in(args.out):
        check_writable(text_of(args.out))
    else:
        prepare_folder(args.out)
    with connected() as ray:
        return report_rows(args, rows(ray, args, todo, there, problems), len(todo))


def rows(
    ray: object, args: argparse.Namespace, todo: list[Item], there: list[Item], problems: Problems
) -> Generator[Row]:
    """Gives what became of each file."""
    from ..cluster.run import choose_pool, restore_all

    pool = choose_pool(ray, args.workers, args.threads, args.device)
    each = "1 processor" if pool.threads == 1 else f"{pool.threads} processors"
    kind = "a GPU each" if pool.gpu else f"{each} each"
    log.info("%d files; %d workers with %s.", len(todo), pool.workers, kind)
    yield from settled(there, problems)
    yield from restore_all(ray, todo, orders(args, pool), pool)


def settled(there: Iterable[Item], problems: Problems) -> Generator[Row]:
    """Gives the rows of files for which nothing is to be done."""
    from ..cluster.worker import FAILED, SKIPPED, Row

    for source, reason in problems.items():
        yield Row(source, None, FAILED, None, reason)
    for item in there:
        yield Row(item.source, item.target, SKIPPED)


def orders(args: argparse.Namespace, pool: Pool) -> Orders:
    """Returns what the workers are told."""
    from ..cluster.worker import Orders
    from ..system.version import version

    own = copy.copy(args)
    own.device = "cuda" if pool.gpu else "cpu"
    own.checkpoint = args.checkpoint and args.checkpoint.absolute()  # they are in other folders
    mask = args.mask and args.mask.absolute()
    environment = {MEMORY_VARIABLE: str(args.file_memory)} if args.file_memory else {}
    return Orders(partial(make_restorer, own), mask, pool.threads, version(), environment)


def report_rows(args: argparse.Namespace, rows: Generator[Row], total: int) -> int:
    """Writes the table and says how it went; returns the exit status.

    The table is complete also if the work ends before its time.
    """
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from ..cluster.table import table

    tally, ended = Tally(), None
    path = args.table or args.out / TABLE
    bar = tqdm(total=total, unit="file", disable=None)
    with table(path) as add, logging_redirect_tqdm(), bar:
        try:
            for row in rows:
                add(row)
                tally.add(row)
                if args.json:
                    print_json(row)
                bar.update()
                if row.status == "left":
                    break
        except (KeyboardInterrupt, ValueError, OSError) as error:
            ended = error
        finally:
            rows.close()
    if ended is not None:
        log.info(
            "What is known of %d files is in %s. The same command with --skip-existing does the "
            "rest.",
            *(sum(tally.counts.values()), text_of(path)),
        )
        raise ended
    if not args.json:
        tally.print(args.out, path)
    return 1 if tally.counts["failed"] or tally.counts["left"] else 0


class Tally:
    """Counts what became of files; holds the first failures."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.failures: list[str] = []
        self.reason = "every other file would fail, too."

    def add(self, row: Row) -> None:
        """Counts a file."""
        self.counts[row.status] += 1
        if row.status == "failed":
            if len(self.failures) < SHOWN:
                name = "" if row.input in row.message else f"{row.input}: "
                self.failures.append(f"  {printable(name + row.message)}")
        elif row.status == "left":
            self.reason = row.message or self.reason
        elif row.message:
            log.warning("%s: %s", printable(row.input), row.message)

    def print(self, out: Path, table: Path) -> None:
        """Prints the counts to standard output, failures to standard error."""
        others = (f"{self.counts[key]} {words}" for key, words in STATUSES.items()
                  if self.counts[key])  # fmt: skip
        done = f"{self.counts['restored']} restored into {printable(text_of(out))}"
        print(f"{', '.join((done, *others))}. Table: {printable(text_of(table))}")
        failed = self.counts["failed"]
        if failed:
            print(f"{failed} failed:", *self.failures, sep="\n", file=sys.stderr)
        if failed > SHOWN:
            print(f"  ... and {failed - SHOWN} more, see the table", file=sys.stderr)
        if self.counts["left"]:
            print(
                f"Stopped: {printable(self.reason)} The same command with --skip-existing does the "
                "rest.",
                file=sys.stderr,
            )


def print_json(row: Row) -> None:
    """Prints what `--json` does without a cluster."""
    failure = row.message if row.status == "failed" else None
    auto = {"auto": row.auto} if row.auto else {}
    print(json.dumps({"file": row.input, "result": row.output, "error": failure, **auto}))
