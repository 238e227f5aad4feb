"""devudp-evaluate never mixes the results of two runs in one folder."""

import json
from pathlib import Path

import pytest

from tests.training.training_run import make_images
from training.evaluation.evaluate import main

NO_LPIPS = ["--no-lpips"]


def results_of(out: Path) -> dict[str, dict]:
    content = json.loads((out / "results.json").read_text())
    return {f"{r['set']}/{r['method']}": r for r in content["results"]}


def test_a_second_run_is_not_mixed_with_the_first(
    weights: str, pairs: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    out = tmp_path / "out"
    command = ["--weights", weights, "--out", str(out), *NO_LPIPS]
    main([*command, *pairs])
    make_images(tmp_path / "other", 2, seed=9)
    for path in list((tmp_path / "other").iterdir()):
        path.rename(path.with_stem(f"other{path.stem}"))
    other = ["--pairs", "mine", str(tmp_path / "other"), str(tmp_path / "other")]
    with pytest.raises(SystemExit) as ended:
        main([*command, *other])
    assert ended.value.code == 1 and "holds the results of an earlier run" in caplog.messages[-1]
    assert len(results_of(out)["mine/joint"]["images"]) == 3  # untouched
    main([*command, *other, "--task", "--overwrite"])
    found = results_of(out)
    assert list(found) == ["mine/input", "mine/gamma 0.26"]
    assert list(found["mine/input"]["images"]) == ["other000", "other001"]
    left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert left == [f"mine/{folder}/other00{k}.png"
                    for folder in ("gamma 0.26", "input", "reference") for k in (0, 1)]  # fmt: skip
    assert not (out / "mine/joint.jpg").exists()


def test_overwrite_removes_the_sets_of_the_earlier_run_and_nothing_else(
    pairs: list[str], tmp_path: Path
):
    out = tmp_path / "out"
    main([*pairs, "--task", "--out", str(out), *NO_LPIPS])
    (out / "notes.txt").write_text("mine")
    content = json.loads((out / "results.json").read_text())
    content["sets"] += ["../gt", "..", "."]  # names that would lead out of the folder
    (out / "results.json").write_text(json.dumps(content))
    other = ["--pairs", "other", *pairs[2:]]
    main([*other, "--task", "--out", str(out), "--overwrite", *NO_LPIPS])
    assert sorted(path.name for path in out.iterdir()) == [
        "notes.txt", "other", "results.json", "table.md"]  # fmt: skip
    assert len(list((tmp_path / "gt").iterdir())) == 3


@pytest.mark.parametrize("extra", [[], ["--overwrite"]])
def test_a_folder_that_it_did_not_write_is_left_alone(
    extra: list[str], pairs: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    make_images(tmp_path / "out/mine/input", 1)
    with pytest.raises(SystemExit):
        main([*pairs, "--task", "--out", str(tmp_path / "out"), *extra, *NO_LPIPS])
    assert "was not written by devudp-evaluate" in caplog.messages[-1]
    (tmp_path / "out/mine").rename(tmp_path / "out/else")
    (tmp_path / "out/results.json").write_text("[1, 2]")
    with pytest.raises(SystemExit):
        main([*pairs, "--task", "--out", str(tmp_path / "out"), "--overwrite", *NO_LPIPS])
    assert "was not written by devudp-evaluate" in caplog.messages[-1]
    assert (tmp_path / "out/results.json").read_text() == "[1, 2]"


def test_sets_are_kept_when_a_later_one_fails(pairs: list[str], tmp_path: Path):
    make_images(tmp_path / "small", 3, size=(40, 40))
    wrong = ["--pairs", "wrong", str(tmp_path / "small"), str(tmp_path / "gt")]
    with pytest.raises(SystemExit):
        main([*pairs, *wrong, "--task", "--out", str(tmp_path / "out"), *NO_LPIPS])
    assert list(results_of(tmp_path / "out")) == ["mine/input", "mine/gamma 0.26"]
    assert not (tmp_path / "out/table.md").exists()
