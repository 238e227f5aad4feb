"""Addresses in place of paths, with fsspec's store in memory; no worker runs elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest

from devudp_model.batch import restore_files
from devudp_model.batch.plan import find_images, jobs_for
from devudp_model.cli import main as cli
from devudp_model.cluster import items
from devudp_model.cluster.items import Item, find_in_store, items_of, without_existing
from devudp_model.cluster.stores import (
    StoreError,
    fetch,
    is_address,
    is_safe,
    is_stand_in,
    opened,
    stand_in,
    text_of,
)
from devudp_model.cluster.worker import LEFT, Orders, Row, Worker
from devudp_model.restorer import Restorer
from devudp_model.system.version import version
from tests.model.cli_files import draw, names


@pytest.fixture
def store() -> Iterator[Any]:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield memory
    memory.store.clear()


def make_worker(weights: Path, task: str = "joint") -> Worker:
    return Worker(Orders(partial(Restorer, weights, task, device="cpu"), None, 1, version(), {}))


def rows_of(worker: Worker, wanted: list[Item]) -> list[Row]:
    part = {"items": json.dumps([asdict(item) for item in wanted])}
    return [Row(**json.loads(row["row"])) for row in worker(part)]


@pytest.mark.parametrize("text", ["s3://bucket", "gs://b/a b/ü.jpg", "memory://x/y.png"])
def test_an_address_becomes_a_path_and_back(text: str) -> None:
    assert is_address(text) and is_stand_in(stand_in(text)) and text_of(stand_in(text)) == text


@pytest.mark.parametrize("text", ["photos", "C:\\photos", "a/b://c", "/x", "://x", "1://x"])
def test_what_is_no_address(text: str) -> None:
    assert not is_address(text) and text_of(Path(text)) == str(Path(text).absolute())


@pytest.mark.parametrize("name", ["../a.jpg", "a/../../b.jpg", "a//b.jpg", "./a.jpg", ""])
def test_names_that_would_leave_the_folder(name: str) -> None:
    assert not is_safe(name) and is_safe("a/b.jpg")


def test_a_key_never_writes_outside_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write to the bucket must not write to the disk of those who read it."""
    keys = ["../../evil.png", "a.png", "b//c.png"]
    monkeypatch.setattr(items, "list_files", lambda *_: keys)
    found, problems = find_in_store(stand_in("s3://in"), tmp_path, recursive=True)
    jobs, _ = jobs_for(found, tmp_path)
    assert [job.target for job in jobs] == [tmp_path / "a.png"]
    assert len(problems) == 2 and all("rename it" in reason for reason in problems.values())


def test_images_of_a_store_are_named_as_those_of_a_folder(
    store: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = ["a.jpg", "a.bmp", "b/c.PNG", "b/C.png", ".hidden.png", "b/clip.mp4", "note.txt"]
    for name in files:
        draw(tmp_path / "in" / name if name[-1] in "gGp" else tmp_path / "x.png")
        store.pipe_file(f"/in/{name}", b"x")
    (tmp_path / "in/b/clip.mp4").unlink(missing_ok=True)
    out = stand_in("memory://out")
    found, problems = find_in_store(stand_in("memory://in"), out, recursive=True)
    assert not problems
    jobs, _ = jobs_for(found, out, format="png", sheets=True)
    on_disk, _ = find_images([tmp_path / "in"], tmp_path / "o", recursive=True)
    here, _ = jobs_for(on_disk, tmp_path / "o", format="png", sheets=True)
    assert [item.target.removeprefix("memory://out/") for item in items_of(jobs)] == [
        job.target.relative_to(tmp_path / "o").as_posix() for job in here
    ]
    assert items_of(jobs)[0].sheet.startswith("memory://out/")
    flat, _ = find_in_store(stand_in("memory://in"), out, recursive=False)
    assert sorted(path.name for path in flat) == ["a.bmp", "a.jpg"]
    assert "1 videos skipped. Of a store, only images" in caplog.text
    _, problems = find_in_store(stand_in("memory://in/b/clip.mp4"), out, recursive=False)
    assert "copy videos to a disk" in next(iter(problems.values()))


def test_nothing_there(store: Any, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"memory://absent is not there"):
        find_in_store(stand_in("memory://absent"), tmp_path, recursive=False)
    store.pipe_file("/in/note.txt", b"x")
    found, problems = find_in_store(stand_in("memory://in"), tmp_path, recursive=False)
    assert not found and "No images in it" in next(iter(problems.values()))


def test_earlier_results_in_the_folder_are_no_images(store: Any) -> None:
    for name in ("a.png", "out/a.png"):
        store.pipe_file(f"/in/{name}", b"x")
    found, _ = find_in_store(stand_in("memory://in"), stand_in("memory://in/out"), recursive=True)
    assert [path.name for path in found] == ["a.png"] and len(found) == 1


def test_unknown_and_uninstalled_stores_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nosuch://x.*package of fsspec"):
        opened("nosuch://x")
    with pytest.raises(StoreError, match=r"memory://no/where is not there"):
        fetch("memory://no/where", tmp_path / "a")


def test_what_is_there_is_looked_up_once(store: Any, tmp_path: Path) -> None:
    wanted = [Item(f"memory://in/{n}.png", f"memory://out/{n}.png", "png") for n in "abc"]
    store.pipe_file("/out/b.png", b"x")
    out = stand_in("memory://out")
    how = {"overwrite": False, "skip_existing": True}
    assert without_existing(wanted, out, **how) == ([wanted[0], wanted[2]], [wanted[1]], {})
    todo, there, refused = without_existing(wanted, out, overwrite=False, skip_existing=False)
    assert len(todo) == 2 and not there and list(refused) == ["memory://in/b.png"]
    assert "memory://out/b.png exists already. Add --skip-existing" in refused["memory://in/b.png"]
    assert without_existing(wanted, out, overwrite=True, skip_existing=False) == (wanted, [], {})


def test_a_sheet_that_is_there_is_kept(tmp_path: Path) -> None:
    sheet = draw(tmp_path / "a.compare.jpg")
    item = Item("/in/a.png", str(tmp_path / "a.png"), "png", str(sheet))
    todo, _, _ = without_existing([item], tmp_path, overwrite=False, skip_existing=True)
    assert todo == [Item(item.source, item.target, "png", "")]
    _, _, refused = without_existing([item], tmp_path, overwrite=False, skip_existing=False)
    assert "a.compare.jpg exists already" in refused["/in/a.png"]


def test_a_worker_writes_what_one_process_writes(
    store: Any, tmp_path: Path, weights: Path, devudp: Any
) -> None:
    """From and to a store; a damaged file fails alone, by its own name."""
    for number, name in enumerate(("a.png", "b.jpg", "c.tif")):
        path = draw(tmp_path / "in" / name, (40, 30), seed=number)
        store.pipe_file(f"/in/{name}", path.read_bytes())
    store.pipe_file("/in/d.png", b"damaged")
    assert devudp(tmp_path / "in", "--compare") == 0
    found, _ = find_in_store(stand_in("memory://in"), stand_in("memory://out"), recursive=False)
    jobs, _ = jobs_for(found, stand_in("memory://out"), sheets=True)
    rows = rows_of(make_worker(weights), items_of(jobs))
    assert [row.status for row in rows] == ["restored"] * 3 + ["failed"]
    assert rows[0].output == "memory://out/a.png" and 0 < rows[0].seconds < 60
    assert rows[3].message.startswith("memory://in/d.png is not an image")
    assert rows[3].output is None and rows[3].worker
    there = {Path(name).name: store.cat_file(name) for name in store.find("/out")}
    assert there == {
        name: (tmp_path / "out" / name).read_bytes() for name in names(tmp_path / "out")
    }


def test_what_auto_finds_is_in_the_row(tmp_path: Path, weights: Path) -> None:
    """An image that needs nothing is copied, byte for byte."""
    from PIL import Image

    source = tmp_path / "flat.png"
    Image.new("RGB", (40, 24), (90, 90, 90)).save(source)
    item = Item(str(source), str(tmp_path / "out/flat.png"), "png")
    [row] = rows_of(make_worker(weights, "auto"), [item])
    assert row.status == "unchanged" and row.auto and row.auto["task"] is None
    assert (tmp_path / "out/flat.png").read_bytes() == source.read_bytes()


def test_a_worker_replaces_what_a_dead_one_has_left(tmp_path: Path, weights: Path) -> None:
    item = Item(str(draw(tmp_path / "a.png")), str(tmp_path / "out/a.png"), "png")
    worker = make_worker(weights)
    [first] = rows_of(worker, [item])
    once = (tmp_path / "out/a.png").read_bytes()
    [second] = rows_of(worker, [item])
    assert first.status == second.status == "restored"
    assert (tmp_path / "out/a.png").read_bytes() == once


def test_a_full_disk_leaves_the_rest(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read ahead, but neither restored nor said to be."""

    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "out/x"))

    monkeypatch.setattr(restore_files, "write_image", full)
    wanted = [
        Item(str(draw(tmp_path / f"{n}.png")), str(tmp_path / f"out/{n}.png"), "png")
        for n in range(12)
    ]
    statuses = [row.status for row in rows_of(make_worker(weights), wanted)]
    assert statuses[0] == "failed" and statuses[-1] == "left" and "restored" not in statuses


def test_what_is_converted_is_a_message(tmp_path: Path, weights: Path) -> None:
    from PIL import Image

    Image.new("RGBA", (40, 24), (90, 60, 30, 100)).save(tmp_path / "a.png")
    item = Item(str(tmp_path / "a.png"), str(tmp_path / "out/a.jpg"), "jpeg")
    [row] = rows_of(make_worker(weights), [item])
    print(row)
    assert row.message and str(tmp_path) not in row.message


def test_another_version_does_not_begin(weights: Path) -> None:
    orders = Orders(partial(Restorer, weights, "joint"), None, 1, "0.0.1", {})
    [row] = rows_of(Worker(orders), [Item("/a.png", "/b.png", "png")])
    assert row.status == LEFT and "Install the same version" in row.message


def test_addresses_need_the_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        cli.main(["restore", "s3://b/photos", "--out", "out"])
    assert error.value.code == 2 and "need --cluster" in capsys.readouterr().err
