"""A minute of attacks, and the cases in which earlier ones found a fault."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.fuzz import checkpoints, harness, images
from tests.fuzz.image_files import ImageFile, check_encodable

CASES = Path(__file__).parent / "cases"

CASES_EACH = {
    "images": 150, "names": 60, "checkpoints": 40, "states": 12, "settings": 30, "nodes": 60,
    "signals": 10,
}  # fmt: skip
"""A minute together; the same ones on every machine. `make fuzz` goes on from there."""

MAX_SECONDS = 150
"""For each, where other work holds it up."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the harness watches pipes")
@pytest.mark.parametrize("name", CASES_EACH)
def test_a_sample_of_attacks(name: str) -> None:
    if name not in harness.attacks():
        pytest.skip("this system has no fork")
    tally = harness.run(name, 0, CASES_EACH[name], MAX_SECONDS)
    assert tally.attacked > 3
    assert not tally.faults, "\n".join(f"seed {seed}: {fault}" for seed, fault in tally.faults)


def test_what_tiff_cannot_hold_is_not_tried_in_memory() -> None:
    more = {"save_all": True, "append_images": [Image.new("L", (9, 9))] * 2}
    check_encodable(Image.new("L", (9, 9)), "TIFF", {"compression": "jpeg", **more})
    with pytest.raises(OSError, match="encoder error"):
        check_encodable(Image.new("1", (9, 9)), "TIFF", {"compression": "jpeg", **more})


@pytest.mark.parametrize("path", sorted((CASES / "images").glob("*.*")), ids=lambda p: p.name)
@pytest.mark.parametrize("format", sorted(set(images.FORMATS)))
def test_image_files_that_found_a_fault(path: Path, format: str, tmp_path: Path) -> None:
    content = path.read_bytes()
    given = ImageFile(path.name, content, sound=False, cut=False, mode="", whole=content)
    assert images.attack_file(given, format, random.Random(0), tmp_path)


@pytest.mark.parametrize("path", sorted((CASES / "checkpoints").glob("*.*")), ids=lambda p: p.name)
def test_checkpoints_that_found_a_fault(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints.tensor_files, "SAFE_PICKLES", "2.0")
    (tmp_path / path.name).write_bytes(path.read_bytes())
    assert checkpoints.load(tmp_path / path.name, tmp_path / "trace") == "refused"
