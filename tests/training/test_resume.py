"""A run that was killed and resumed ends with the very weights of one that was not."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.training.training_run import (
    TINY,
    launch,
    make_sides,
    random_lpips_weights,
    recipe_and_sides,
)
from training.config import ConfigError
from training.run.state import find_state, load_state, random_states, save_state, set_random_states
from training.settings import load_recipe
from training.train import main

pytestmark = pytest.mark.slow

STEPS = 8
EXTRA = [
    *["--batch", "2", "--ema", "0.9", "--pool", "3", "--data.noise", "0.1"],
    *["--schedule.length", str(STEPS), "--schedule.halve-every", "3"],
    *["--schedule.freeze-norm", "5", "--record.log-every", "1", "--record.save-every", "2"],
]


def same(a: object, b: object, where: str = "") -> None:
    """Asserts that two nested states are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor) and torch.equal(a, b), where
    elif isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys(), where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert isinstance(b, (list, tuple)) and len(a) == len(b), where
        for number, pair in enumerate(zip(a, b, strict=True)):
            same(*pair, f"{where}.{number}")
    else:
        assert a == b, where


def kill_after(process, step: int) -> None:
    """Kills a run as soon as it reports this step (it saves every second one)."""
    assert process.stdout
    for line in process.stdout:
        if line.startswith(f"step {step} "):
            process.kill()
            break
    assert process.wait(60) != 0


@pytest.mark.parametrize("recipe", ["unpaired", "devudp", "devudp-dt-cameras", "devudp-dt"])
def test_killed_and_resumed_is_bit_equal_to_straight(recipe: str, tmp_path: Path):
    arguments = [*recipe_and_sides(recipe, tmp_path), *TINY, *EXTRA]
    if load_recipe(recipe).loss.lpips:
        save_file(random_lpips_weights(), tmp_path / "lpips.safetensors")
        arguments += ["--loss.lpips", "0.3", "--model.lpips", str(tmp_path / "lpips.safetensors")]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    main([*arguments, "--out", str(straight)])
    kill_after(launch(*arguments, "--out", str(broken)), step=5)
    reached = load_state(find_state(broken))["step"]
    assert 0 < reached < STEPS
    main(["resume", str(broken)])
    name = f"states/state-{STEPS:08d}.pt"
    same(load_state(straight / name), load_state(broken / name))
    logs = [(run / "log.jsonl").read_text().splitlines() for run in (straight, broken)]
    losses = [[{k: v for k, v in json.loads(line).items() if "per" not in k} for line in log]
              for log in logs]  # fmt: skip
    assert losses[0] == losses[1]  # no line lost, none twice


def test_a_finished_run_can_be_prolonged(tmp_path: Path):
    out = tmp_path / "run"
    main(["unpaired", "--out", str(out), *make_sides(tmp_path), *TINY, "--schedule.length", "2"])
    main(["resume", str(out), "--schedule.length", "3"])
    assert load_state(find_state(out))["step"] == 3


def test_a_run_can_go_on_with_what_coarser_scales_leave(tmp_path: Path):
    """It changes G's inputs, not its shape; a width would."""
    out = tmp_path / "run"
    sides = make_sides(tmp_path)[:2]
    length = ["--schedule.length", "1", "--model.no-coarse"]
    main(["devudp-dt", "--out", str(out), *sides, *TINY, *length])
    main(["resume", str(out), "--schedule.length", "2", "--model.coarse"])
    assert load_state(find_state(out))["step"] == 2
    with pytest.raises(SystemExit):
        main(["resume", str(out), "--schedule.length", "3", "--model.width", "8"])


def test_the_optimizer_stays_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    out = tmp_path / "run"
    sides = make_sides(tmp_path)[:2]
    main(["devudp-dt", "--out", str(out), *sides, *TINY, "--schedule.length", "1"])
    with pytest.raises(SystemExit):
        main(["resume", str(out), "--schedule.length", "2", "--schedule.muon", "0"])
    assert "is a state of Muon" in caplog.text
    assert load_state(find_state(out))["step"] == 1


def test_other_pictures_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    out = tmp_path / "run"
    main(["unpaired", "--out", str(out), *make_sides(tmp_path), *TINY, "--schedule.length", "1"])
    next((tmp_path / "sharp").iterdir()).unlink()
    main(["resume", str(out), "--schedule.length", "2"])
    assert any("pictures differ" in message for message in caplog.messages)


def test_all_random_numbers_continue():
    import random

    import numpy as np

    states = random_states()
    first = torch.rand(3).tolist(), random.random(), np.random.rand()
    set_random_states(states)
    assert (torch.rand(3).tolist(), random.random(), np.random.rand()) == first


def test_a_damaged_state_is_refused(tmp_path: Path):
    path = tmp_path / "states/state-00000001.pt"
    save_state(path, {"step": 1})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(OSError, match="cannot be read as a training state"):
        load_state(path)


def test_code_in_a_state_is_not_run(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"format": 1, "x": Evil()}, tmp_path / "state-00000001.pt")
    with pytest.raises(OSError, match="cannot be read"):
        load_state(tmp_path / "state-00000001.pt")
    assert not (tmp_path / "touched").exists()


def test_what_a_killed_save_left_is_removed(tmp_path: Path):
    (tmp_path / ".devudp-abc.tmp").write_bytes(b"half")
    for step in range(1, 5):
        save_state(tmp_path / f"state-{step:08d}.pt", {"step": step})
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["state-00000003.pt", "state-00000004.pt"]


def test_no_state_to_resume_from(tmp_path: Path):
    with pytest.raises(ConfigError, match="no state in"):
        find_state(tmp_path)
