"""States: checksummed, complete or not there, the one before a damaged one."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from training.config import ConfigError
from training.run.records import claim_folder, lock
from training.run.state import (
    MAGIC,
    StateError,
    load_state,
    random_states,
    read_checked,
    save_state,
    set_random_states,
    state_path,
)


def save(run: Path, step: int, run_id: str = "mine") -> Path:
    path = state_path(run / "states", step)
    save_state(path, {"step": step, "run": run_id, "G": torch.arange(20.0) + step})
    return path


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "states").iterdir())


def test_the_last_two_are_kept_and_what_a_killed_save_left_is_removed(tmp_path: Path):
    (tmp_path / "states").mkdir()
    (tmp_path / "states/.devudp-abc.tmp").write_bytes(b"half")
    for step in range(1, 5):
        save(tmp_path, step)
    assert names(tmp_path) == ["state-00000003.pt", "state-00000004.pt"]
    assert load_state(tmp_path)[1]["step"] == 4


def test_after_going_back_the_later_states_are_given_up(tmp_path: Path):
    """Resumed from an earlier state, a run must not end up with the ones that it left behind."""
    for step in (4, 8):
        save(tmp_path, step)
    save_state(tmp_path / "states/best.pt", {"step": 2, "run": "mine"})
    save(tmp_path, 3)
    assert names(tmp_path) == ["best.pt", "state-00000003.pt"]
    save(tmp_path, 6)
    assert names(tmp_path) == ["best.pt", "state-00000003.pt", "state-00000006.pt"]


def test_a_flipped_bit_anywhere_is_found_and_the_state_before_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    whole = path.read_bytes()
    rng = random.Random(0)
    places = {*range(len(MAGIC) + 70), *rng.sample(range(len(whole)), 200), len(whole) - 1}
    for place in sorted(places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(StateError):
            read_checked(path)
    caplog.clear()
    found, state = load_state(tmp_path)
    assert found.name == "state-00000001.pt" and state["G"][0] == 1
    assert "state-00000002.pt" in caplog.messages[0]
    assert "The one before it is taken" in caplog.messages[0]


@pytest.mark.parametrize("length", [0, 5, len(MAGIC) + 30, len(MAGIC) + 66, 400, -1])
def test_a_truncated_state_is_refused(length: int, tmp_path: Path):
    path = save(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StateError, match="cannot be read"):
        load_state(path)
    with pytest.raises(StateError, match=r"every state .* is damaged"):
        load_state(tmp_path)


def test_something_is_appended(tmp_path: Path):
    path = save(tmp_path, 1)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(StateError, match="checksum differs"):
        load_state(path)


def test_a_state_of_another_run_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    save(tmp_path, 1, "mine")
    other = save(tmp_path, 2, "other")
    with pytest.raises(StateError, match="belongs to another run"):
        load_state(other, "mine")
    assert load_state(tmp_path, "mine")[1]["step"] == 1
    assert "belongs to another run. The one before it is taken." in caplog.messages[-1]
    assert load_state(tmp_path)[1]["step"] == 2  # export does not ask


@pytest.mark.parametrize("content", [{"step": -1}, {"step": True}, {"step": 1.0}, {}, [1]])
def test_what_is_no_state(content, tmp_path: Path):
    path = tmp_path / "state-00000001.pt"
    save_state(path, content)
    with pytest.raises(StateError, match=r"negative|no training state"):
        load_state(path)


def test_code_in_a_state_is_not_run(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    path = tmp_path / "state-00000001.pt"
    save_state(path, {"step": 1, "x": Evil()})
    with pytest.raises(StateError, match="cannot be read"):
        load_state(path)
    assert not (tmp_path / "touched").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_a_named_pipe_does_not_make_it_wait(tmp_path: Path):
    os.mkfifo(tmp_path / "state-00000001.pt")
    with pytest.raises(StateError, match="not a regular file"):
        read_checked(tmp_path / "state-00000001.pt")


def test_full_disk_leaves_the_last_state_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(tmp_path, 1)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StateError, match=r"No space left.*state-00000001.pt, is intact"):
        save(tmp_path, 2)
    assert names(tmp_path) == ["state-00000001.pt"] and load_state(tmp_path)[1]["step"] == 1
    state_path(tmp_path / "states", 2).write_bytes(b"damaged")
    with pytest.raises(StateError, match=r"state-00000001.pt, is intact"):
        save(tmp_path, 3)


def test_no_state_to_resume_from(tmp_path: Path):
    with pytest.raises(ConfigError, match="no state in"):
        load_state(tmp_path)


def test_the_best_state_counts_where_there_is_no_other(tmp_path: Path):
    """Its run was killed before it saved one."""
    save_state(tmp_path / "states/best.pt", {"step": 2, "run": "mine"})
    assert load_state(tmp_path, "mine")[1]["step"] == 2
    with pytest.raises(ConfigError, match="already holds a run"):
        claim_folder(tmp_path)
    save(tmp_path, 1)
    assert load_state(tmp_path)[1]["step"] == 1


def test_what_a_fault_left_does_not_block_a_new_start(tmp_path: Path):
    save_state(tmp_path / "states/fault-00000000.pt", {"step": 0})
    claim_folder(tmp_path)


def test_one_run_at_a_time(tmp_path: Path):
    held = lock(tmp_path / "run")
    with pytest.raises(ConfigError, match="another process is training"):
        lock(tmp_path / "run")
    held.release()
    lock(tmp_path / "run").release()


def test_all_random_numbers_continue():
    states = random_states()
    first = torch.rand(3).tolist(), random.random(), np.random.rand()
    set_random_states(states)
    assert (torch.rand(3).tolist(), random.random(), np.random.rand()) == first
