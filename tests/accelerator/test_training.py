"""A step of every recipe on an accelerator, with all that comes after it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from tests.training.training_run import NARROW, TINY, make_both, staged, unpaired
from training.config.recipes import load_recipe, parse_overrides, recipe_names
from training.data import synthesis
from training.data.dataset import UnpairedImages
from training.run.distributed import make_accelerator
from training.run.state import load_state
from training.run.trainer import Trainer
from training.run.validation import Validation

pytestmark = pytest.mark.slow  # they take seconds together

STEPS = 2


def arguments_for(recipe: str, folder: Path) -> list[str]:
    if recipe == "unpaired":
        return unpaired(folder)
    if recipe.startswith("paper-"):
        return [recipe, "--data.layout", "folders", *make_both(folder), *TINY, *NARROW]
    return staged(recipe, folder, 0.005)


def train(recipe: str, folder: Path) -> Trainer:
    name, *changes = arguments_for(recipe, folder)
    config = parse_overrides(load_recipe(name), changes)
    trainer = Trainer(config, make_accelerator(config), UnpairedImages(config))
    for _, loaded in zip(range(STEPS), trainer.loader(), strict=False):
        trainer.advance(loaded)
    return trainer


@pytest.mark.parametrize("recipe", recipe_names())
def test_steps(
    recipe: str, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = train(recipe, tmp_path)
    monkeypatch.setattr(Accelerator, "device", property(lambda self: device))
    monkeypatch.setitem(synthesis.POSES_AT_ONCE, device.type, synthesis.POSES_AT_ONCE["cuda"])
    there = train(recipe, tmp_path)
    weights = there.G.state_dict()
    assert all(value.device == device for value in weights.values())
    for name, value in here.G.state_dict().items():
        torch.testing.assert_close(weights[name].cpu(), value, atol=2e-3, rtol=1e-2)
    losses = there.losses.take(lambda total: total)
    assert losses == pytest.approx(here.losses.take(lambda total: total), rel=0.02, abs=1e-3)

    there.save(tmp_path / "state.pt", run="run")
    assert there.step == STEPS
    there.load(*load_state(tmp_path / "state.pt", "run"))
    for loaded in there.loader():
        there.advance(loaded)
        break
    assert there.step == STEPS + 1
    if there.config.validation.every:
        held_out = there.images.domains.held_out
        validation = Validation(there.config, held_out, there.nets.lpips)  # pyright: ignore
        found = validation.measure(there.restored_by, device)
        assert found and all(value == value for value in found.values())
