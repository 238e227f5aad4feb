"""Shares files out to workers by Ray Data, which also starts dead workers again elsewhere."""

# pyright: reportMissingImports=false
# ray is optional: the extra "cluster".

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from ..system.untrusted import printable
from .items import Item
from .worker import Orders, Row, Worker

ADDRESS = "RAY_ADDRESS"
"""The environment variable by which Ray finds a cluster."""

MAX_THREADS = 8
"""For a worker, unless it is said: more of them wait for each other."""

PARTS_EACH, MAX_PART = 8, 16
"""Parts for each worker at least, so that none waits for the last one for long, and the most files
in a part: all of them are done again if its worker dies."""


class ClusterError(ValueError):
    """Why the work could not be shared out; the message says what to do."""


@dataclass(frozen=True)
class Pool:
    """The workers.

    Attributes:
        workers: how many.
        threads: of the processor, for each.
        gpu: each has a GPU.
    """

    workers: int
    threads: int
    gpu: bool


@contextmanager
def connected() -> Iterator[Any]:
    """Gives `ray`, connected to the cluster of `RAY_ADDRESS`.

    Without it, one is started here for as long as the block lasts; only this machine can reach it.

    Raises:
        ClusterError: the extra is not installed, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # no warning about that
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # 20: a quarter of an hour
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ClusterError(
            f"--cluster needs Ray ({error}). Install it with pip install 'devudp[cluster]', in a "
            "clone pip install '.[cluster]', on all machines."
        ) from error
    begun = not ray.is_initialized()
    if begun:
        connect(ray)
    try:
        quieten(ray)
        yield ray
    finally:
        if begun:
            ray.shutdown()


def connect(ray: Any) -> None:
    """Connects to the cluster that is named, or starts one."""
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    named = os.environ.get(ADDRESS)
    if not named:  # "auto" would find one that another program has started for itself
        ray.init(address="local", _node_ip_address="127.0.0.1", include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=named, **quiet)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {named} ({ADDRESS}): {line_of(error, 0)} Check it with "
            f"`ray status`, or unset {ADDRESS} to work on this machine alone."
        ) from error


def quieten(ray: Any) -> None:
    """Leaves the terminal to this program: Ray tells everything in its own files, too."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for handler in logging.getLogger("ray.data").handlers:
        own = type(handler).__module__.startswith("ray.")  # not one that others put there
        if own and isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)


def choose_pool(ray: Any, workers: int | None, threads: int | None, device: str | None) -> Pool:
    """Decides how many workers there are, and with what.

    Args:
        workers, threads: as asked for; None for what the cluster has.
        device: "cpu" or "cuda"; None for GPUs if there are any.

    Raises:
        ClusterError: the cluster does not have that.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if device == "cuda" and not gpus:
        raise ClusterError("no machine of the cluster has a GPU: leave --device out, or name cpu")
    if gpus and device != "cpu":
        return Pool(min(workers or gpus, gpus), threads or 1, True)
    cores = [int(node.get("CPU", 0)) for node in nodes]
    most = max(cores, default=0)
    if threads is None:
        even = max(sum(cores) // workers, 1) if workers else MAX_THREADS
        threads = max(min(even, most), 1)
        while workers and threads > 1 and sum(count // threads for count in cores) < workers:
            threads -= 1
    fitting = sum(count // threads for count in cores)
    if not fitting:
        raise ClusterError(
            f"no machine of the cluster has {threads} processors (the largest has {most}): ask for "
            "fewer with --threads"
        )
    return Pool(min(workers or fitting, fitting), threads, False)


def parts_of(items: Sequence[Item], workers: int) -> list[dict[str, str]]:
    """Divides files into what a worker is given at once; see `Worker.__call__`."""
    size = min(max(len(items) // (workers * PARTS_EACH), 1), MAX_PART)
    return [
        {"items": json.dumps([asdict(item) for item in items[i : i + size]])}
        for i in range(0, len(items), size)
    ]


def restore_all(ray: Any, items: Sequence[Item], orders: Orders, pool: Pool) -> Iterator[Row]:
    """Has files restored; gives what became of each once, as soon as it is known, in any order.

    When a worker or a machine dies, Ray may give rows of its part twice, or not at all: what is
    known already is not given again, and what is still unknown at the end is done again.

    Raises:
        ClusterError: workers could not begin, or Ray gave up.
    """
    unknown = {item.source: item for item in items}
    while unknown:
        before = len(unknown)
        for row in rows_of(ray, list(unknown.values()), orders, pool):
            if unknown.pop(row.input, None) is not None:
                yield row
        if len(unknown) == before:
            raise ClusterError(
                f"the workers gave no result for {before} files. What is written stays; "
                "--skip-existing goes on."
            )


def rows_of(ray: Any, items: Sequence[Item], orders: Orders, pool: Pool) -> Iterator[Row]:
    """Has Ray restore files; gives its rows.

    Only paths go out and only rows come back, so that memory does not grow with the images; a part
    whose worker died, or whose machine is gone, is done again by another.

    Raises:
        ClusterError: workers could not begin, or Ray gave up.
    """
    parts = parts_of(items, pool.workers)
    resources = {"num_gpus": 1} if pool.gpu else {"num_cpus": pool.threads}
    dataset = ray.data.from_items(parts, override_num_blocks=len(parts)).flat_map(
        Worker,
        fn_constructor_kwargs={"orders": orders},
        compute=ray.data.ActorPoolStrategy(size=min(pool.workers, len(parts))),
        **resources,
    )
    try:
        # Not iter_rows: it waits for the next part before it gives one.
        for batch in dataset.iter_batches(
            batch_size=None, prefetch_batches=0, batch_format="pyarrow"
        ):
            for text in batch["row"].to_pylist():
                yield Row(**json.loads(text))
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"the workers failed: {line_of(error, -1)} All machines need the same devudp, and have "
            "to see the files under the same paths. What is written stays; --skip-existing goes on."
        ) from error


def line_of(error: BaseException, index: int) -> str:
    """Returns a line of an error, as a sentence; the last one (-1) ends a traceback in it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[index].rstrip(".:") if lines else type(error).__name__) + "."
