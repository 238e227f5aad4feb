"""Tables of README and model card: made from one file, and current."""

import json
from pathlib import Path

import pytest

from tests.training.training_run import ROOT
from tools import publish
from tools.publish import BLOCK, DOCUMENTS, OPENING, RESULTS, fill, main


def result(set: str, method: str, psnr: float | None, lpips: float | None) -> dict:
    mean = {"psnr": psnr, "ssim": 0.5, "mae": 1.0, "lpips": lpips}
    return {"set": set, "method": method, "n": 7, "mean": mean}


CONTENT = {
    "weights": {
        "joint": {"file": "devudp.safetensors", "sha256": "ab"},
        "deblur": {"file": "devudp-dt.safetensors", "sha256": "cd"},
        "low-light": {"file": "devudp.safetensors", "sha256": "ab"},
    },
    "results": [
        result("dark", "input", 9.614, 0.5764),
        result("dark", "joint", 21.456, 0.425),
        result("dark", "deblur", 21.459, 0.6),
        result("sharp", "input", None, 0.0),
        result("sharp", "deblur", 34.3, 0.01),
    ],
}


def block(name: str, table: str = "old\n") -> str:
    return f"before\n\n<!-- results:{name} -->\n{table}<!-- /results -->\nafter\n"


def test_tables():
    assert fill(block("all"), CONTENT) == block("all", (
        "| set | n | input | joint | deblur |\n"
        "|---|---|---|---|---|\n"
        "| dark | 7 | 9.61 / 0.500 / 1.00 / 0.576 | **21.46 / 0.500 / 1.00 / 0.425** "
        "| 21.46 / 0.500 / 1.00 / 0.600 |\n"
        "| sharp | 7 | - / 0.500 / 1.00 / 0.000 |  | 34.30 / 0.500 / 1.00 / 0.010 |\n"
        "\n8-bit RGB, nothing cropped or aligned. PSNR over all values. SSIM by an 11x11 Gaussian "
        "window, of each channel, without borders. MAE of 255. LPIPS 0.1 with AlexNet.\n"
    ))  # fmt: skip
    assert "| dark | 7 | 9.61 | **21.46** | **21.46** |" in fill(block("psnr"), CONTENT)
    assert "| dark | 7 | 0.576 | **0.425** | 0.600 |" in fill(block("lpips"), CONTENT)
    weights = fill(block("weights"), CONTENT)
    assert "| devudp.safetensors | `joint`, `low-light` | `ab` |" in weights
    two = block("psnr") + block("ssim")
    assert fill(fill(two, CONTENT), CONTENT) == fill(two, CONTENT)
    assert fill(two, CONTENT).count("after") == 2


def test_mistakes():
    with pytest.raises(ValueError, match="no table 'nothing': known are all, psnr"):
        fill(block("nothing"), CONTENT)
    with pytest.raises(ValueError, match="has no '<!-- /results -->'"):
        fill(block("all") + "<!-- results:all -->\n", CONTENT)


def test_results_by_another_protocol_are_no_table_of_these():
    other = {**CONTENT, "protocol": {"name": "pyiqa", "text": ""}}
    with pytest.raises(ValueError, match="by the protocol pyiqa"):
        fill(block("all"), other)
    assert "LPIPS 0.1 with AlexNet." in fill(block("lpips"), CONTENT)
    assert "LPIPS" not in fill(block("psnr"), CONTENT)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publish, "DOCUMENTS", (Path("a.md"), Path("b.md")))
    Path("a.md").write_text(block("psnr"))
    Path("b.md").write_text("no tables\n")
    with pytest.raises(SystemExit, match=r"Error: a\.md: "):
        main([])  # no results
    Path("docs").mkdir()
    RESULTS.write_text(json.dumps(CONTENT))
    with pytest.raises(SystemExit, match=r"a\.md is not current"):
        main(["--check"])
    assert Path("a.md").read_text() == block("psnr")
    main([])
    assert Path("a.md").read_text() == fill(block("psnr"), CONTENT)
    assert Path("b.md").read_text() == "no tables\n"
    main(["--check"])


@pytest.mark.parametrize("document", [path.as_posix() for path in DOCUMENTS])
def test_the_shipped_tables_are_current(document: str):
    """Of those that have any; if this fails, run python -m tools.publish."""
    text = (ROOT / document).read_text(encoding="utf-8")
    assert len(OPENING.findall(text)) == len(BLOCK.findall(text))
    if OPENING.search(text):
        assert fill(text, json.loads((ROOT / RESULTS).read_text(encoding="utf-8"))) == text
