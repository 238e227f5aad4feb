"""`devudp restore --cluster`: many workers, of which some die, write what one process writes."""

# pyright: reportMissingImports=false
# ray is optional: the extra "cluster".

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from devudp_model.checkpoint import save_checkpoint
from devudp_model.cli import cluster as cluster_cli
from devudp_model.cli import main as cli
from devudp_model.cluster import run
from devudp_model.cluster.items import Item
from devudp_model.cluster.run import ClusterError, Pool, choose_pool, parts_of
from devudp_model.cluster.table import table
from devudp_model.cluster.worker import Row
from devudp_model.network.generator import Generator
from tests.model.cli_files import draw, names

Devudp = Callable[..., int]

ON_RAY = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux", reason="Ray has several machines in one on Linux only"
    ),
]

TABLE = cluster_cli.TABLE


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder) if name != TABLE}


def table_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# Without Ray


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--cluster", "--shard", "1/2"], "both share the files out"),
        (["--cluster", "--statistics", "shared"], "leave --cluster out"),
        (["--cluster", "--device", "cuda:1"], "write cpu or cuda"),
        (["--cluster", "--table", "a.csv"], "end in .jsonl or .parquet"),
        (["--workers", "2"], "--workers is for --cluster"),
        (["--threads", "2"], "--threads is for --cluster"),
        (["--table", "a.jsonl"], "--table is for --cluster"),
        (["--cluster", "--workers", "0"], "not an integer from 1 on"),
    ],
)
def test_what_does_not_go_together(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        cli.main(["restore", "in", "--out", "out", *words])
    assert error.value.code == 2 and reason in capsys.readouterr().err


def test_each_file_has_one_row_whatever_ray_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a part whose worker died may come twice, or never."""
    items = [Item(name, name + ".out") for name in "abcd"]
    asked = []

    def rows_of(_ray: Any, some: list[Item], *_: Any) -> Iterator[Row]:
        asked.append([item.source for item in some])
        names = "aab" if len(asked) == 1 else "bdc"
        yield from (Row(name, None, "restored") for name in names)

    monkeypatch.setattr(run, "rows_of", rows_of)
    nothing: Any = None
    rows = list(run.restore_all(nothing, items, nothing, nothing))
    assert [row.input for row in rows] == ["a", "b", "d", "c"]
    assert asked == [["a", "b", "c", "d"], ["c", "d"]]
    monkeypatch.setattr(run, "rows_of", lambda *_: iter(()))
    with pytest.raises(ClusterError, match="no result for 4 files"):
        list(run.restore_all(nothing, items, nothing, nothing))


def test_the_extra_is_not_installed(
    tmp_path: Path,
    devudp: Devudp,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert devudp(draw(tmp_path / "a.png"), "--cluster") == 1
    assert "pip install 'devudp[cluster]'" in capsys.readouterr().err


def nodes(*resources: dict[str, float]) -> SimpleNamespace:
    return SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": r} for r in resources])


@pytest.mark.parametrize(
    ("resources", "asked", "pool"),
    [
        ([{"CPU": 2}], (None, None, None), Pool(1, 2, False)),
        ([{"CPU": 2}], (2, None, None), Pool(2, 1, False)),
        ([{"CPU": 64}, {"CPU": 20}, {}], (None, None, None), Pool(10, 8, False)),
        ([{"CPU": 64}, {"CPU": 20}], (4, None, None), Pool(4, 20, False)),
        ([{"CPU": 4}, {"CPU": 4}], (3, 4, None), Pool(2, 4, False)),
        ([{"CPU": 64, "GPU": 8}, {"CPU": 64, "GPU": 8}], (None, None, None), Pool(16, 1, True)),
        ([{"CPU": 64, "GPU": 8}], (3, None, "cuda"), Pool(3, 1, True)),
        ([{"CPU": 16, "GPU": 1}], (None, None, "cpu"), Pool(2, 8, False)),
    ],
)
def test_workers_are_what_the_machines_have(
    resources: list[dict[str, float]],
    asked: tuple[int | None, int | None, str | None],
    pool: Pool,
) -> None:
    assert choose_pool(nodes(*resources), *asked) == pool


def test_workers_that_no_machine_has() -> None:
    with pytest.raises(ClusterError, match=r"has 9 processors \(the largest has 8"):
        choose_pool(nodes({"CPU": 8}), None, 9, None)
    with pytest.raises(ClusterError, match="no machine of the cluster has a GPU"):
        choose_pool(nodes({"CPU": 8}), None, None, "cuda")


@pytest.mark.parametrize(("count", "workers"), [(1, 8), (300, 3), (10_000, 2)])
def test_parts_hold_every_file_once(count: int, workers: int) -> None:
    wanted = [Item(str(number), "x") for number in range(count)]
    parts = [json.loads(part["items"]) for part in parts_of(wanted, workers)]
    assert [item["source"] for part in parts for item in part] == [w.source for w in wanted]
    assert max(map(len, parts)) <= run.MAX_PART
    assert len(parts) >= min(count, workers * run.PARTS_EACH)


ROWS = [
    Row("/in/a.png", "/out/a.png", "restored", {"task": "deblur"}, "", 1.5, "x:1"),
    Row("/in/\udcff.png", None, "failed", None, "Not an image.", 0.25, "x:2"),
]


def test_the_table_as_json_lines(tmp_path: Path) -> None:
    with table(tmp_path / "new/t.jsonl") as made:
        for row in ROWS:
            made(row)
    assert [Row(**line) for line in table_of(tmp_path / "new/t.jsonl")] == ROWS


def test_the_table_as_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason='needs the extra "cluster"')
    monkeypatch.setattr("devudp_model.cluster.table.ROWS_AT_ONCE", 1)
    with table(tmp_path / "t.parquet") as made:
        for row in ROWS:
            made(row)
    lines = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert [line["status"] for line in lines] == ["restored", "failed"]
    assert json.loads(lines[0]["auto"]) == {"task": "deblur"} and lines[1]["output"] is None
    assert lines[1]["input"] == "/in/\\udcff.png" and lines[0]["seconds"] == 1.5


def test_an_interrupted_run_leaves_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def rows() -> Iterator[Row]:
        yield ROWS[0]
        raise KeyboardInterrupt

    args = argparse.Namespace(out=tmp_path, table=None, json=True)
    caplog.set_level("INFO")
    with pytest.raises(KeyboardInterrupt):
        cluster_cli.report_rows(args, rows(), 2)  # pyright: ignore[reportArgumentType]
    assert len(table_of(tmp_path / TABLE)) == 1
    assert "1 files" in caplog.text and "--skip-existing does the rest" in caplog.text
    assert json.loads(capsys.readouterr().out)["result"] == "/out/a.png"


# With Ray


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Three machines with a processor each, in this one; and a store."""
    ray = pytest.importorskip("ray", reason='needs the extra "cluster"')
    server = pytest.importorskip("moto.server", reason="needs moto, the tests' store")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        store = server.ThreadedMotoServer("127.0.0.1", 0)
        store.start()
        host, port = store.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        soon = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
        soon |= {"enable_worker_prestart": False, "prestart_worker_first_driver": False}
        one = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={**one, "_system_config": soon})
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
        patch.setenv("RAY_ADDRESS", str(cluster.address))
        yield cluster
        with contextlib.suppress(Exception):
            ray.shutdown()
        cluster.shutdown()
        store.stop()


@pytest.mark.usefixtures("machines")
class TestStore:
    pytestmark = ON_RAY

    def test_from_a_store_to_a_store(self, tmp_path: Path, devudp: Devudp) -> None:
        """The same names and bytes as in folders; the second time there is nothing to do."""
        import fsspec

        store = fsspec.filesystem("s3")
        store.mkdir("photos")
        for number in range(6):
            path = draw(tmp_path / f"in/{number % 2}/{number}.png", (40, 30), seed=number)
            store.put_file(str(path), f"photos/in/{number % 2}/{number}.png")
        assert devudp(tmp_path / "in", "--recursive") == 0
        words = ["s3://photos/in", "--out", "s3://photos/out", "--recursive", "--cluster"]
        assert devudp(*words, "--workers", 1) == 0
        found = {name.removeprefix("photos/out/"): name for name in store.find("photos/out")}
        lines = [json.loads(line) for line in store.cat_file(found.pop(TABLE)).splitlines()]
        assert [line["status"] for line in lines] == ["restored"] * 6
        assert {n: store.cat_file(p) for n, p in found.items()} == contents(tmp_path / "out")
        assert devudp(*words, "--skip-existing", "--table", "s3://photos/t.jsonl") == 0
        lines = [json.loads(line) for line in store.cat_file("photos/t.jsonl").splitlines()]
        assert [line["status"] for line in lines] == ["skipped"] * 6
        assert devudp(*words) == 1


def kill_worker() -> bool:
    """Kills a process that restores, if there is one."""
    import psutil

    for process in psutil.process_iter(["name", "cmdline"]):
        if "ray::MapWorker" in " ".join(process.info["cmdline"] or [])[:40]:
            process.kill()
            return True
    return False


class TestDeath:
    pytestmark = ON_RAY

    def test_workers_and_a_machine_die(
        self, tmp_path: Path, machines: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        torch.manual_seed(0)
        generator = Generator("devudp", width=1, depth=1)
        torch.nn.init.normal_(generator.head.weight, std=0.1)
        weights = tmp_path / "narrow.safetensors"
        save_checkpoint(weights, generator, {"recipe": "none"}, dtype=torch.float32)
        for number in range(300):
            draw(tmp_path / f"in/{number:03}.png", (40, 30), seed=number)
        damaged = [tmp_path / "in/100.png", tmp_path / "in/200.png"]
        for path in damaged:
            path.write_bytes(b"damaged")
        words = ["restore", str(tmp_path / "in"), "--task", "joint", "--checkpoint", str(weights)]
        assert cli.main([*words, "--out", str(tmp_path / "one"), "--device", "cpu"]) == 1

        done = []

        def die() -> None:
            """Twice a worker, then a machine, each after so many results."""
            for results in (30, 90, 150):
                while len(names(tmp_path / "out")) < results:
                    time.sleep(0.01)
                if results < 150:
                    while not kill_worker():
                        time.sleep(0.01)
                else:
                    machines.remove_node(list(machines.worker_nodes)[-1], allow_graceful=False)
                done.append(results)

        killer = threading.Thread(target=die, daemon=True)
        (tmp_path / "out").mkdir()
        killer.start()
        capsys.readouterr()
        assert (
            cli.main([*words, "--out", str(tmp_path / "out"), "--cluster", "--workers", "3"]) == 1
        )
        killer.join(timeout=60)
        assert done == [30, 90, 150]
        assert "2 failed" in capsys.readouterr().err  # Ray tells on stdout of what died meanwhile
        assert contents(tmp_path / "out") == contents(tmp_path / "one")
        lines = table_of(tmp_path / "out" / TABLE)
        statuses = Counter(line["status"] for line in lines)
        assert statuses == {"restored": 298, "failed": 2}
        assert sorted(line["input"] for line in lines) == sorted(
            str(path) for path in (tmp_path / "in").iterdir()
        )
        failed = {line["input"] for line in lines if line["status"] == "failed"}
        assert failed == set(map(str, damaged))
