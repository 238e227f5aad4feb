"""The number of CPU threads is chosen when a run starts, written down, and kept."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from tests.training.training_run import unpaired
from training.config.recipes import load_recipe
from training.run import threads
from training.run.threads import free_share, free_threads, with_threads
from training.train import main


def test_more_threads_than_processors_do_not_all_run():
    count = 4 * (os.cpu_count() or 1)
    assert 0 < free_share(count, 0.2) <= 0.35


@pytest.mark.parametrize(
    ("share", "of", "chosen"),
    [
        (1.0, 2, 2),
        (0.96, 2, 2),
        (0.75, 2, 1),  # one busy program
        (0.5, 2, 1),
        (0.1, 2, 1),
        (0.97, 16, 15),
        (0.5, 16, 8),
    ],
)
def test_as_many_as_are_free(share: float, of: int, chosen: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "free_share", lambda count: share)
    assert free_threads(of) == chosen


def test_what_the_user_or_several_processes_ask_for_stays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "free_threads", lambda count: 7)
    config = load_recipe("unpaired")
    speed = dataclasses.replace(config.speed, device="cpu")
    config = dataclasses.replace(config, speed=speed)
    assert with_threads(config).speed == dataclasses.replace(speed, threads=7)
    named = dataclasses.replace(config, speed=dataclasses.replace(speed, threads=3))
    assert with_threads(named) == named
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert with_threads(config) == config


@pytest.mark.slow
def test_written_down_and_kept_when_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "free_threads", lambda count: 2)
    run = tmp_path / "run"
    arguments = [*unpaired(tmp_path), "--speed.threads", "0", "--record.save-every", "1"]
    try:
        main([*arguments, "--schedule.length", "2", "--out", str(run)])
        assert load_recipe(run / "config.toml").speed.threads == 2
        monkeypatch.setattr(threads, "free_threads", lambda count: 1)
        torch.set_num_threads(1)
        main(["resume", str(run), "--schedule.length", "3"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert load_recipe(run / "config.toml").speed.threads == 2
