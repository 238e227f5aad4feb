"""The comparison: a method in a process of its own, and the page that is made of results."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import comparison
from benchmarks.compared_methods import METHODS
from benchmarks.comparison_page import page

SETS = {"low light", "dark and blurred", "blurred"}


def row(psnr: float, lpips: float, seconds: float, installed: float) -> dict[str, float]:
    costs = {"seconds": seconds, "peak": 1e9, "installed": installed}
    return {"n": 2, "psnr": psnr, "ssim": 0.5, "lpips": lpips, **costs}


def test_the_page_says_first_where_others_are_better() -> None:
    rows = {
        "input": {"n": 2, "psnr": 9.0, "ssim": 0.2, "lpips": 0.6},
        "DEvUDP, auto": row(20.0, 0.30, 2.0, 1e9),
        "gamma 0.26": row(15.0, 0.40, 0.02, 5e7),
        "CLAHE (OpenCV)": row(14.0, 0.40, 0.02, 1e9),
        "MAXIM enhancement": row(23.0, 0.35, 20.0, 2e9),
    }
    text = page({"sets": {"low light": rows}, "machine": "a machine"})
    before, table = text.split("## Low light, 2 images")
    assert "- **low light**. Better: MAXIM enhancement in PSNR (23.00 against 20.00)." in before
    assert "Quicker: gamma 0.26, CLAHE (OpenCV). Smaller to install: gamma 0.26." in before
    lines = [line for line in table.split("\n") if line.startswith("| ")]
    assert lines[2].startswith("| MAXIM enhancement | network | **23.00** |") and "10 x" in lines[2]
    assert lines[3].startswith("| DEvUDP, auto | network | 20.00 |") and "**0.300**" in lines[3]
    assert "| gamma 0.26 | classical |" in text and "Measured on: a machine." in text


def test_every_method_is_meant_for_a_set() -> None:
    assert all(method.sets and set(method.sets) <= SETS for method in METHODS)
    assert len({method.name for method in METHODS}) == len(METHODS)


def test_names_can_stand_in_a_list() -> None:
    assert not [m.name for m in METHODS if "," in m.name and not m.name.startswith("DEvUDP")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_method_is_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for side in ("low", "high"):
        (tmp_path / side).mkdir()
        pixels = rng.integers(0, 255, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / side / "a.png")

    class Lpips:
        def of_images(self, a: object, b: object) -> float:
            return 0.25

    monkeypatch.setattr(comparison, "load_lpips", lambda _: Lpips())
    monkeypatch.setattr(comparison, "SAMPLES", ())
    words = ["--set", "low light", str(tmp_path / "low"), str(tmp_path / "high")]
    words += ["--only", "gamma 0.26", "CLAHE (scikit", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["comparison", *words])
    comparison.main()
    found = json.loads((tmp_path / "out/comparison.json").read_text(encoding="utf-8"))
    rows = found["sets"]["low light"]
    assert set(rows) == {"input", "gamma 0.26", "CLAHE (scikit-image)"}
    assert rows["gamma 0.26"]["lpips"] == 0.25
    expected = np.round(
        255 * (np.asarray(Image.open(tmp_path / "low/a.png")) / 255).astype(np.float32) ** 0.26
    )
    made = np.asarray(Image.open(tmp_path / "out/compared/low-light/gamma 0.26/a.png"))
    assert np.abs(made - expected).max() <= 1
    small, large = rows["gamma 0.26"], rows["CLAHE (scikit-image)"]
    assert large["installed"] > small["installed"] > 1e6 and 2e8 > small["peak"] > 1e7
    monkeypatch.setattr(subprocess, "run", None)
    comparison.main()  # all is there already
