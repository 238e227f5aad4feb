"""devudp-evaluate --untuned: the photographs that nobody tunes on, degraded by the evaluation."""

import json
import logging
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devudp_model.ops.metrics import psnr
from tests.training.training_run import ROOT, make_images
from training.config import ConfigError
from training.data.layouts import Pair
from training.data.manifest import Entry, read_manifest, sha256_of, write_manifest
from training.evaluation import untuned
from training.evaluation.evaluate import main
from training.evaluation.tables import Result
from training.evaluation.untuned import (
    DAMAGES,
    LIST,
    NO_DAMAGE,
    STRENGTHS,
    UntunedSet,
    set_name,
    together,
    untuned_sets,
)

TASKS = ["low-light", "deblur", "joint"]


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five made images, listed as the untuned set, among others."""
    folder = tmp_path / "photographs"
    make_images(folder, 6, seed=1)
    files = sorted(folder.iterdir())[:5]
    table = tmp_path / "untuned.tsv"
    write_manifest([Entry(path.name, sha256_of(path)) for path in files], table)
    monkeypatch.setattr(untuned, "LIST", table)
    return folder


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def degraded(sets: list[UntunedSet]) -> dict[str, np.ndarray]:
    return {f"{s.name}/{pair.name}": s.read_pair(pair)[0] for s in sets for pair in s.pairs}


def test_the_shipped_list():
    entries = read_manifest(LIST)
    names = {entry.file for entry in entries}
    assert len(entries) == len(names) == 60 and len({e.sha256 for e in entries}) == 60
    assert all(len(e.sha256) == 64 and min(e.width, e.height) >= 256 for e in entries)
    assert len({name.partition("_")[0] for name in names}) > 30  # of many origins
    assert set(DAMAGES) == set(TASKS) and all(len(x) == len(STRENGTHS) for x in DAMAGES.values())


def test_the_documentation_states_the_strengths():
    text = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    for task, damages in DAMAGES.items():
        varied = [k for k in range(3) if damages[0][k] != NO_DAMAGE[k]]
        cells = " | ".join(", ".join(f"{d[k]:g}" for k in varied) for d in damages)
        assert any(row.startswith(f"| {set_name(task)}: ") and row.endswith(f" | {cells} |")
                   for row in text.splitlines())  # fmt: skip


def test_rows_of_each_task_and_strength(weights: str, photographs: Path, tmp_path: Path):
    """Each task on what it has to undo alone; other methods on all of it."""
    out = tmp_path / "out"
    main(["--weights", weights, "--task", "low-light", "deblur", "--gamma", "0.5",
          "--untuned", str(photographs), "--out", str(out), "--no-lpips"])  # fmt: skip
    content = json.loads((out / "results.json").read_text())
    rows = [(r["set"], r["method"], r["n"]) for r in content["results"]]
    for task in ("low-light", "deblur"):
        for k in (*STRENGTHS, None):
            n = 5 if k else 15
            of_set = [row[1:] for row in rows if row[0] == set_name(task, k)]
            assert of_set == [("input", n), ("gamma 0.5", n), (task, n)]
    assert len(rows) == 2 * 4 * 3
    means = {(r["set"], r["method"]): r["mean"]["psnr"] for r in content["results"]}
    for method in ("input", "deblur"):
        parts = [means[set_name("deblur", k), method] for k in STRENGTHS]
        assert means[set_name("deblur"), method] == pytest.approx(np.mean(parts))
    table = (out / "table.md").read_text()
    assert "| untuned low light 2 | 5 | low-light |" in table
    assert "| untuned deblur | 15 | deblur |" in table
    assert np.array_equal(pixels(out / "untuned deblur 1/reference/000.png"),
                          pixels(photographs / "000.png"))  # fmt: skip


def test_next_to_other_sets(weights: str, pairs: list[str], photographs: Path, tmp_path: Path):
    out = tmp_path / "out"
    main(["--weights", weights, "--task", "joint", *pairs, "--untuned", str(photographs),
          "--untuned-images", "2", "--untuned-strength", "3", "--out", str(out),
          "--no-lpips", "--gamma", "0"])  # fmt: skip
    lines = (out / "table.md").read_text().splitlines()[2:]
    rows = [line.split(" | ")[:3] for line in lines if line.startswith("|")]
    assert rows == [["| mine", "3", "input"], ["| mine", "3", "joint"],
                    ["| untuned joint 3", "2", "input"], ["| untuned joint 3", "2", "joint"],
                    ]  # fmt: skip


def test_every_image_is_degraded_in_its_own_way_always_the_same(photographs: Path):
    """Whatever else is degraded, and however many threads there are."""
    sets = untuned_sets(photographs, TASKS)
    found, threads = degraded(sets), torch.get_num_threads()
    for count in (1, 3):
        torch.set_num_threads(count)
        try:
            again = degraded(sets)
            assert torch.get_num_threads() == count
        finally:
            torch.set_num_threads(threads)
        assert all(np.array_equal(again[name], found[name]) for name in found)
    few = degraded(untuned_sets(photographs, ["deblur"], images=2, strengths=[2]))
    assert list(few) == ["untuned deblur 2/000", "untuned deblur 2/002"]
    assert all(np.array_equal(few[name], found[name]) for name in few)


def test_no_two_photographs_share_path_and_noise(photographs: Path):
    """Nor do two strengths of one: what is degraded is named in the seed."""
    path = photographs / "000.png"
    twins = [Pair("a", path, path), Pair("b", path, path)]
    for task in TASKS:
        damage = DAMAGES[task][1]
        sets = [UntunedSet(name, twins, task=task, damage=damage) for name in ("one", "two")]
        for one, other in combinations(degraded(sets).values(), 2):
            assert (one != other).mean() > 0.3


def test_strengths_rise(photographs: Path):
    for task in TASKS:
        means = []
        for one in untuned_sets(photographs, [task]):
            both = [one.read_pair(pair) for pair in one.pairs]
            as_tensors = [[torch.from_numpy(x.copy()).permute(2, 0, 1) for x in y] for y in both]
            means.append(np.mean([psnr(a, b) for a, b in as_tensors]))
        assert means[0] > means[1] > means[2]


def test_blurred_ones_keep_their_brightness(photographs: Path):
    one = untuned_sets(photographs, ["deblur"], strengths=[1])[0]
    for pair in one.pairs:
        blurred, good = one.read_pair(pair)
        assert blurred.mean() == pytest.approx(good.mean(), abs=12)
        assert blurred.shape == good.shape and blurred.dtype == np.uint8


def test_which_sets_there_are(photographs: Path):
    assert len(untuned_sets(photographs, TASKS)) == 9
    assert {s.task for s in untuned_sets(photographs, ["joint"])} == {"joint"}
    assert len(untuned_sets(photographs, ["auto"], strengths=[1, 2])) == 6
    assert untuned_sets(photographs, []) == []


def test_photographs_must_be_the_listed_ones(photographs: Path):
    (photographs / "001.png").unlink()
    make_images(photographs / "other", 1, seed=9)
    (photographs / "other/000.png").replace(photographs / "003.png")
    with pytest.raises(ConfigError) as error:
        untuned_sets(photographs, TASKS)
    text = str(error.value)
    assert "of 5 photographs" in text and "1 missing (first: 001.png)" in text
    assert "1 not the listed ones (other SHA-256) (first: 003.png)" in text
    assert str(photographs) in text and "untuned.tsv" in text


def test_a_wrong_folder_ends_the_command(
    weights: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.ERROR), pytest.raises(SystemExit) as error:
        main(["--weights", weights, "--untuned", str(tmp_path), "--out", str(tmp_path / "out")])
    assert error.value.code == 1 and "60 missing" in caplog.text
    assert not (tmp_path / "out").exists()


def test_one_strength_has_no_row_for_all(photographs: Path):
    values = {"a": {"psnr": 1.0, "ssim": 0.5, "mae": 2.0, "lpips": None}}
    sets = untuned_sets(photographs, ["joint"], strengths=[2])
    assert together([Result("untuned joint 2", "input", values)], sets) == []
