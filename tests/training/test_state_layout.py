"""States that somebody made: a right checksum, and yet not what the run would have saved."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.training_run import unpaired
from training.method.optimizer import MuonAdam, make_adam
from training.run.state import list_states, read_checked, write_checked
from training.run.state_layout import LayoutError, check_fits, check_layout
from training.train import main

State = dict[str, Any]


def stepped(muon: bool = False) -> torch.optim.Optimizer:
    """An optimizer after a step."""
    weights = [torch.nn.Parameter(torch.rand(5, 4, 3, 3)), torch.nn.Parameter(torch.rand(5))]
    optimizer = (
        MuonAdam(weights, 1e-3, (0.5, 0.9), 3.0) if muon else make_adam(weights, 1e-3, (0.5, 0.9))
    )
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    return optimizer


def make_state(muon: bool = False) -> State:
    networks = {name: {"a.weight": torch.rand(3, 2)} for name in ("G", "D", "ema")}
    return {
        "step": 2,
        **networks,
        "G_inv": None,
        "opt_G": stepped(muon).state_dict(),
        "opt_D": stepped().state_dict(),
        "sums": {"D": torch.tensor(1.0)},
        "counts": {"D": 2},
        "processes": [{"random": {}, "pool": {"images": [torch.rand(3, 8, 8)] * 2, "rng": 0}}],
    }


def fresh(muon: bool = False) -> State:
    """The state of a run that has not begun."""
    own = make_state(muon)
    for optimizer in (own["opt_D"], own["opt_G"]["adam"] if muon else own["opt_G"]):
        optimizer["state"] = {}
    own["sums"], own["counts"] = {}, {}
    own["processes"][0]["pool"]["images"] = []
    return own


@pytest.mark.parametrize("muon", [False, True])
def test_what_a_run_saved_is_taken(muon: bool) -> None:
    check_layout(make_state(muon), fresh(muon))
    for optimizer in (stepped(muon), stepped()):
        check_fits(optimizer)


def test_other_devices_and_versions_of_pytorch() -> None:
    state = make_state()
    [group] = state["opt_G"]["param_groups"]
    group["fused"], group["newer"] = True, "x"
    del group["maximize"]
    check_layout(state, fresh())
    own = fresh()
    own["opt_D"]["param_groups"][0]["fused"] = True  # on a GPU, from a state of a CPU
    check_layout(make_state(), own)


def test_a_run_that_had_no_average_yet() -> None:
    state = make_state()
    state["ema"] = None
    check_layout(state, fresh())


def put(*keys: Any, value: Any) -> Callable[[State], None]:
    def change(state: State) -> None:
        inside: Any = state
        for key in keys[:-1]:
            inside = inside[key]
        inside[keys[-1]] = value

    return change


def drop(*keys: Any) -> Callable[[State], None]:
    def change(state: State) -> None:
        inside: Any = state
        for key in keys[:-1]:
            inside = inside[key]
        del inside[keys[-1]]

    return change


WRONG = {
    "a part is missing": drop("sums"),
    "a weight is missing": drop("G", "a.weight"),
    "a weight too many": put("G", "b", value=torch.zeros(1)),
    "another shape": put("D", "a.weight", value=torch.zeros(3, 3)),
    "another type": put("D", "a.weight", value=torch.zeros(3, 2, dtype=torch.float64)),
    "no tensor": put("ema", "a.weight", value=[1.0]),
    "a weight of nan": put("D", "a.weight", value=torch.full((3, 2), math.nan)),
    "an infinite moment": put(
        "opt_G", "state", 0, "exp_avg", value=torch.full((5, 4, 3, 3), math.inf)
    ),
    "a rate of nan": put("opt_D", "param_groups", 0, "lr", value=math.nan),
    "no network": put("G", value=3),
    "no optimizer": put("opt_G", value=[]),
    "no moments": put("opt_G", "state", value=None),
    "no rate": drop("opt_D", "param_groups", 0, "lr"),
    "words for a rate": put("opt_D", "param_groups", 0, "betas", value=("a", "b")),
    "one group too many": put("opt_D", "param_groups", value=[{}, {}]),
    "half of Adam": drop("opt_D", "state", 0, "exp_avg"),
    "moments of whole numbers": put("opt_D", "state", 0, "exp_avg", value=torch.zeros(3).int()),
    "a loss without its count": put("counts", value={}),
    "a loss that is a text": put("sums", "D", value="x"),
    "a count of zero": put("counts", "D", value=0),
    "no process": put("processes", value=[]),
    "an odd process": put("processes", 0, value=3),
    "a pool of two sizes": put("processes", 0, "pool", "images", 0, value=torch.zeros(3, 4, 4)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_laid_out_otherwise_is_refused(name: str) -> None:
    state = copy.deepcopy(make_state())
    WRONG[name](state)
    with pytest.raises(LayoutError):
        check_layout(state, fresh())


def test_averages_of_another_shape_than_the_weights() -> None:
    optimizer = stepped()
    weight = optimizer.param_groups[0]["params"][0]
    optimizer.state[weight]["exp_avg_sq"] = torch.zeros(5, 4, 3)
    with pytest.raises(LayoutError, match="shape"):
        check_fits(optimizer)


@pytest.mark.slow
def test_it_is_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    main([*unpaired(tmp_path), "--schedule.length", "1", "--out", str(run)])
    [path] = list_states(run / "states")
    state = read_checked(path)
    state["D"].popitem()
    write_checked(path, state)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with pytest.raises(SystemExit):
        main(["resume", str(run), "--schedule.length", "2"])
    assert "does not hold what a state of this run holds" in caplog.messages[-1]
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
