"""A run that was killed and resumed ends with the very bytes of one that was not."""

import json
import math
from pathlib import Path

import pytest
import torch

from tests.training.training_run import kill_after, launch, log_of, same, staged, unpaired
from training.config.recipes import load_recipe
from training.run.state import BEST, list_states, load_state, read_checked, write_checked
from training.train import main

pytestmark = pytest.mark.slow

STEPS = 8
EXTRA = [
    *["--ema", "0.9", "--pool", "3", "--data.noise", "0.1", "--schedule.length", str(STEPS)],
    *["--schedule.halve-every", "3", "--schedule.warm-up", "2", "--schedule.freeze-norm", "5"],
    *["--record.log-every", "1", "--record.save-every", "2"],
]


def same_ends(straight: Path, broken: Path) -> None:
    """The same states, logs and exported files. Only a run's own id differs."""
    states = [load_state(run)[1] for run in (straight, broken)]
    ids = [state.pop("run") for state in states]
    assert ids[0] != ids[1]
    same(states[0], states[1])
    assert log_of(straight) == log_of(broken)  # no line lost, none twice
    exported = [
        {path.name: path.read_bytes() for path in run.glob("devudp*.safetensors")}
        for run in (straight, broken)
    ]
    assert len(exported[0]) == 2 and exported[0] == exported[1]
    cards = [(run / f"{path.stem}.md").read_bytes() for run in (straight, broken)
             for path in run.glob("devudp*.safetensors")]  # fmt: skip
    assert len(set(cards)) == 2


def kill_and_resume(arguments: list[str], broken: Path, step: int) -> int:
    """Returns the step of the state that it went on from."""
    kill_after(launch(*arguments, "--out", str(broken)), step)
    reached = load_state(broken)[1]["step"]
    main(["resume", str(broken)])
    return reached


@pytest.mark.parametrize("options", [[], ["--model.variant", "devudp-dt", "--schedule.muon", "3"]])
def test_killed_and_resumed_is_bit_equal_to_straight(options: list[str], tmp_path: Path):
    arguments = [*unpaired(tmp_path), *EXTRA, *options]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    main([*arguments, "--out", str(straight)])
    assert 0 < kill_and_resume(arguments, broken, 5) < STEPS
    same_ends(straight, broken)


@pytest.mark.parametrize("recipe", ["devudp-dt", "devudp"])
def test_killed_in_the_second_stage(recipe: str, tmp_path: Path):
    """The shipped checkpoints' recipes with their stages cut short: the exported bytes."""
    arguments = [
        *staged(recipe, tmp_path, {"devudp-dt": 0.0025, "devudp": 0.004}[recipe]),
        "--record.log-every",
        "1",
    ]
    arguments += ["--record.save-every", "2"]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    main([*arguments, "--out", str(straight)])
    stages = [line["stage"] for line in log_of(straight) if "stage" in line]
    first, second = (stages.count(stage.name) for stage in load_recipe(recipe).stages[:2])
    reached = kill_and_resume(arguments, broken, first + 4)
    assert first < reached < first + second  # in the second stage indeed
    same_ends(straight, broken)
    best = [read_checked(run / "states" / BEST) for run in (straight, broken)]
    assert best[0]["validation"] == best[1]["validation"]
    same(best[0]["G"], best[1]["G"])
    legs = json.loads((broken / "run.json").read_text())["legs"]
    assert [leg["from_step"] for leg in legs] == [0, reached]


def test_resumed_without_a_kill_in_the_same_process(tmp_path: Path):
    arguments = [*unpaired(tmp_path), "--record.log-every", "1"]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    lengths = ["--schedule.length", "2"], ["--schedule.length", "4"]
    main([*arguments, *lengths[1], "--out", str(straight)])
    main([*arguments, *lengths[0], "--out", str(broken)])
    main(["resume", str(broken), *lengths[1]])
    same_ends(straight, broken)
    legs = json.loads((broken / "run.json").read_text())["legs"]
    assert [leg["changed"] for leg in legs] == [{}, {"schedule.length": "2 -> 4"}]
    assert load_recipe(broken / "config.toml").schedule.length == 4


def test_damage_in_the_newest_state_is_said_and_the_one_before_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    arguments = [*unpaired(tmp_path), "--schedule.length", "4", "--record.save-every", "2",
                 "--record.log-every", "1"]  # fmt: skip
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    main([*arguments, "--out", str(straight)])
    main([*arguments, "--out", str(broken)])
    newest = broken / "states/state-00000004.pt"
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    newest.write_bytes(damaged)
    main(["resume", str(broken)])
    assert any("The one before it is taken" in message for message in caplog.messages)
    same_ends(straight, broken)


def test_a_state_of_another_run_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    runs = [tmp_path / name for name in ("one", "two")]
    arguments = [*unpaired(tmp_path), "--schedule.length", "1"]
    for run in runs:
        main([*arguments, "--out", str(run)])
    foreign = (runs[0] / "states/state-00000001.pt").read_bytes()
    (runs[1] / "states/state-00000001.pt").write_bytes(foreign)
    with pytest.raises(SystemExit):
        main(["resume", str(runs[1]), "--schedule.length", "2"])
    assert "of another run" in caplog.messages[-1]


def test_going_back_to_an_earlier_state(tmp_path: Path):
    """What came after it is given up: log lines and states."""
    run = tmp_path / "run"
    main([*unpaired(tmp_path), "--schedule.length", "6", "--record.save-every", "2",
          "--record.log-every", "1", "--out", str(run)])  # fmt: skip
    before = log_of(run)
    main(["resume", str(run / "states/state-00000004.pt"), "--schedule.length", "5"])
    assert [path.name for path in list_states(run / "states")] == [
        "state-00000004.pt", "state-00000005.pt"]  # fmt: skip
    assert log_of(run) == before[:5]


def test_other_images_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    out = tmp_path / "run"
    main([*unpaired(tmp_path), "--out", str(out), "--schedule.length", "1"])
    next((tmp_path / "sharp").iterdir()).unlink()
    main(["resume", str(out), "--schedule.length", "2"])
    assert any("images differ" in message for message in caplog.messages)


def test_a_state_that_somebody_made_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Its checksum is right. It is said in one line, and nothing changes."""
    run = tmp_path / "run"
    main([*unpaired(tmp_path), "--schedule.length", "1", "--pool", "2", "--out", str(run)])
    [path] = list_states(run / "states")
    for change in (
        lambda state: state["D"].popitem(),
        lambda state: next(iter(state["G"].values())).fill_(math.nan),
        lambda state: state["opt_G"]["state"][0].update(exp_avg_sq=torch.zeros(2)),
        lambda state: state["opt_D"]["state"][0]["exp_avg"].fill_(math.inf),
        lambda state: state.update(sums={"D": torch.zeros(())}, counts={"D": 1, "G": 1}),
        lambda state: state["processes"][0]["pool"]["images"].append(torch.zeros(3, 4, 4)),
        lambda state: state.update(processes=[]),
    ):
        state = read_checked(path)
        change(state)
        whole = path.read_bytes()
        write_checked(path, state)
        before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
        with pytest.raises(SystemExit):
            main(["resume", str(run), "--schedule.length", "2"])
        said = caplog.messages[-1]
        assert "does not hold what a state of this run holds" in said and "\n" not in said
        assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
        path.write_bytes(whole)
