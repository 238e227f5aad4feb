"""The precision `auto`: the fastest of which the checkpoint says that no difference can be seen."""

from pathlib import Path

import pytest
import torch

from devudp_model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from devudp_model.engine import precision
from devudp_model.engine.network import Network
from devudp_model.engine.precision import Difference, Measured, choose_dtype, to_json
from tests.model.checkpoint_files import make_generator

FAINT, VISIBLE = Difference(0.05, 0.9, 1.9), Difference(0.4, 3.5, 50.0)


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_auto_is_fp32_unless_a_faster_type_was_measured(device: str) -> None:
    measured: Measured = {"bf16": VISIBLE, "fp16": VISIBLE}
    for known in (None, {}, measured):
        assert choose_dtype("auto", torch.device(device), known) == torch.float32
        assert choose_dtype("bf16", torch.device(device), known) == torch.bfloat16


@pytest.mark.parametrize(
    ("found", "small"),
    [
        (Difference(0.0, 1.0, 2.0), True),
        (Difference(0.0, 1.01, 1.5), False),  # too many values
        (Difference(0.0, 0.5, 2.01), False),  # a single one
    ],
)
def test_auto_goes_by_the_limits(found: Difference, small: bool) -> None:
    wanted = torch.float16 if small else torch.float32
    assert choose_dtype("auto", torch.device("cuda"), {"fp16": found}) == wanted


def test_auto_takes_the_fastest_of_the_types_that_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def auto(device: str, measured: Measured) -> torch.dtype:
        return choose_dtype("auto", torch.device(device), measured)

    assert auto("cuda", {"bf16": FAINT, "fp16": FAINT}) == torch.float16
    assert auto("cuda", {"bf16": FAINT, "fp16": VISIBLE}) == torch.bfloat16
    for has_it, wanted in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(precision, "has_bf16_instructions", lambda has_it=has_it: has_it)
        assert auto("cpu", {"bf16": FAINT, "fp16": FAINT}) == wanted
        assert auto("cpu", {"bf16": VISIBLE, "fp16": FAINT}) == torch.float32  # fp16 is slow there


def test_images_smaller_than_half_are_never_computed_in_bf16() -> None:
    """There it makes the largest errors, which are enlarged."""
    for dtype, wanted in ((torch.bfloat16, torch.float32), (torch.float16, torch.float16)):
        network = Network(make_generator("devudp-dt"), dtype)
        assert network.for_smaller_images(2) is network
        for scale in (4, 8):
            assert network.for_smaller_images(scale).dtype == wanted
            assert (network.for_smaller_images(scale) is network) == (dtype == wanted)


def test_what_16_bits_change_is_read_and_goes_with_the_folded_network(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    measured: Measured = {"bf16": Difference(0.05, 0.6, 1.5)}
    save_checkpoint(path, make_generator("devudp-dt"), {"precision": to_json(measured)})
    for fold in (True, False):
        assert load_checkpoint(path, fold=fold).measured == measured
    save_checkpoint(path, make_generator(), {})
    assert load_checkpoint(path).measured == {}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"bf16": 3}',
        '{"bf16": {"mean": 0.1}}',
        '{"fp16": {"mean": 0.1, "common": -1, "largest": 1}}',
        '{"fp16": {"mean": 0.1, "common": NaN, "largest": 1}}',
    ],
)
def test_damaged_numbers_of_the_precision_are_refused(text: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "g.safetensors", make_generator(), {"precision": text})
    with pytest.raises(CheckpointError, match="precision"):
        load_checkpoint(tmp_path / "g.safetensors")
