"""`devudp restore --shard K/N`: processes that share the images and know nothing of each other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from devudp_model.batch.shard import Shard
from devudp_model.cli import main as cli
from tests.model.cli_files import draw, names, pixels_of

ROOT = Path(__file__).parents[2]

Devudp = Callable[..., int]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 11])
def test_all_parts_together_are_everything_once(count: int) -> None:
    items = list(range(10))
    parts = [Shard(number, count).of(items) for number in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0/8", "from 1/8 to 8/8"),
        ("9/8", "from 1/8 to 8/8"),
        ("1/0", "at least one part"),
        ("x", "write it as 2/8"),
        ("2", "write it as 2/8"),
        ("-1/8", "write it as 2/8"),
        ("1/8/2", "write it as 2/8"),
        ("\u0661/8", "write it as 2/8"),
        ("", "write it as 2/8"),
    ],
)
def test_no_such_part(text: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        cli.main(["restore", "in", "--out", "out", f"--shard={text}"])
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert reason in message and repr(text) in message


def test_parts_are_named_as_in_one_run(
    tmp_path: Path, devudp: Devudp, caplog: pytest.LogCaptureFixture
) -> None:
    """Names depend on all files: `a.png` beside `a.jpg`, although another part has that one."""
    for number, name in enumerate(("a.jpg", "a.png", "b.png", "c.png", "d.png")):
        draw(tmp_path / "in" / name, seed=number)
    png = ("--format", "png")
    assert devudp(tmp_path / "in", "--out", tmp_path / "one", *png) == 0
    caplog.set_level("INFO")
    for part in ("2/3", "1/3", "3/3"):
        assert devudp(tmp_path / "in", "--shard", part, *png) == 0
    assert names(tmp_path / "out") == names(tmp_path / "one")
    assert "a_jpg.png" in names(tmp_path / "out")
    said = [record.getMessage() for record in caplog.records if "Part" in record.getMessage()]
    assert said == [
        "Part 2/3: 2 of 5 files.",
        "Part 1/3: 2 of 5 files.",
        "Part 3/3: 1 of 5 files.",
    ]


def test_a_part_is_resumed_and_a_damaged_file_fails_alone(
    tmp_path: Path, devudp: Devudp, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        draw(tmp_path / f"in/{number}.png", seed=number)
    (tmp_path / "in/2.png").write_bytes(b"damaged")
    assert devudp(tmp_path / "in", "--shard", "2/2") == 0
    assert devudp(tmp_path / "in", "--shard", "1/2", "--json") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[0] == "{"]
    assert [Path(line["file"]).name for line in lines] == ["0.png", "2.png", "4.png"]
    (tmp_path / "out/4.png").unlink()
    draw(tmp_path / "in/2.png", seed=2)
    assert devudp(tmp_path / "in", "--shard", "1/2", "--skip-existing") == 0
    assert "2 restored" in capsys.readouterr().out
    assert names(tmp_path / "out") == [f"{number}.png" for number in range(5)]


def test_a_part_with_nothing_to_do(
    tmp_path: Path, devudp: Devudp, capsys: pytest.CaptureFixture[str]
) -> None:
    assert devudp(draw(tmp_path / "a.png"), "--shard", "2/2") == 0
    assert capsys.readouterr().out.startswith("0 restored")


def test_a_disk_that_is_not_there_is_no_part_with_nothing_to_do(
    tmp_path: Path, devudp: Devudp, capsys: pytest.CaptureFixture[str]
) -> None:
    assert devudp(tmp_path / "absent", "--shard", "2/2") == 1
    assert "absent is not there. With --shard" in capsys.readouterr().err


def test_results_beside_the_images_are_refused(
    tmp_path: Path, devudp: Devudp, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part that starts later would take them for images, and name its own results otherwise."""
    draw(tmp_path / "in/a.jpg")
    beside = (tmp_path / "in", "--out", tmp_path / "in", "--format", "png")
    assert devudp(*beside, "--shard", "1/2") == 1
    assert "beside the images" in capsys.readouterr().err
    assert names(tmp_path / "in") == ["a.jpg"]
    assert devudp(*beside) == 0


def test_shared_statistics_are_those_of_the_whole_folder(tmp_path: Path, devudp: Devudp) -> None:
    """The sample is of images as large as the folder's first one, which another part may have."""
    for number, size in enumerate([(24, 24), (30, 20), (24, 24), (30, 20), (24, 24)]):
        frame = draw(tmp_path / f"in/{number}.png", size, seed=number)
        Image.fromarray(pixels_of(frame) // (number + 1)).save(frame)
    shared = (tmp_path / "in", "--statistics", "shared")
    assert devudp(*shared, "--out", tmp_path / "one") == 0
    for part in ("1/2", "2/2"):
        assert devudp(*shared, "--shard", part) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


@pytest.mark.slow
def test_two_parts_in_two_processes(tmp_path: Path, weights: Path) -> None:
    """At the same time, into one folder: the same files, byte for byte, as from one process."""
    for number in range(5):
        draw(tmp_path / f"in/{number % 2}/{number}.png", (40, 30), seed=number)
    common = [sys.executable, "-m", "devudp_model.cli", "restore", str(tmp_path / "in")]
    common += ["--recursive", "--compare", "--checkpoint", str(weights), "--device", "cpu"]
    runs = {"one": [[]], "parts": [["--shard", "1/2"], ["--shard", "2/2"]]}
    for out, parts in runs.items():
        started = [
            subprocess.Popen([*common, *part, "--out", str(tmp_path / out)], cwd=ROOT)
            for part in parts
        ]
        assert [each.wait(timeout=300) for each in started] == [0] * len(parts)
    assert len(contents(tmp_path / "one")) == 10
    assert contents(tmp_path / "parts") == contents(tmp_path / "one")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}
