"""Every part of the benchmark runs, with a narrow network and tiny images."""

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import __main__, measure, parts
from benchmarks.folders import make_folder, restore_video
from benchmarks.networks import textbook, time_of_convolutions
from benchmarks.parts import PARTS
from benchmarks.plan import Plan
from benchmarks.report import write_report
from benchmarks.tables import Part, Table, load_part
from devudp_model import read_image
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PLAN = Plan(torch.device("cpu"), "tiny", ROOT / "samples")


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


@pytest.mark.parametrize(
    "name",
    [
        "speed",
        "speed-large",
        "precision",
        "folders",
        "ways",
        "versions",
        pytest.param("frames", marks=LINUX),
    ],
)
def test_a_part_makes_tables(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "LONG_ENOUGH", 0.01)
    for table in PARTS[name](PLAN):
        assert table.rows and all(len(row) == len(table.header) for row in table.rows)
        assert not table.chart or table.chart in table.header
        assert table.markdown().count("\n|") == len(table.rows) + 2  # header and rule


@LINUX
def test_frames_of_a_video_are_restored_and_not_left_as_they_are(tmp_path: Path) -> None:
    """`auto` once left these as they are, and the benchmark timed the copying of files."""
    video = make_folder(tmp_path / "1", 1, (64, 64))
    restore_video(video, "fp32", PLAN.device)
    before, after = (read_image(f / "0000.png").pixels for f in (video, tmp_path / "1-restored"))
    assert (before - after).abs().mean() > 0.01


@LINUX
def test_bounded_memory_is_kept_and_changes_no_bit() -> None:
    """In a process of its own, the network of the paper's width. Unbounded: above 200 MB."""
    plan = Plan(torch.device("cpu"), "quick", ROOT / "samples")
    found = parts.one(plan, (600, 840), "bf16", "--memory", 160e6, "--check")
    assert found["peak"] <= 160e6
    assert found["difference"] == 0
    assert parts.one(plan, (600, 840), "bf16")["peak"] > 160e6


def test_the_textbook_version_is_the_same_network() -> None:
    net, image = PLAN.net(), torch.rand(1, 3, 48, 40)
    untouched = Options("deblur", exposure=1.0, precision="fp32")  # the network's very image
    expected = restore(image, net, untouched)
    torch.testing.assert_close(textbook(net, torch.float32)(image), expected, atol=1e-4, rtol=0)
    assert time_of_convolutions(8, 16, 16, torch.float32, PLAN.device) > 0


def test_parts_are_kept_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table("Speed", ["image", "precision", "seconds"], [["a", "fp32", 1.5]], "Note.")
    Part("Measured here.", [table]).save(tmp_path / "parts" / "speed.json")
    assert load_part(tmp_path / "parts" / "speed.json").tables == [table]
    command = ["benchmarks", "--out", str(tmp_path / "parts"), "--report", str(tmp_path / "docs")]
    monkeypatch.setattr(sys, "argv", command)
    (tmp_path / "docs").mkdir()
    empty = "# Performance\n\n<!-- numbers: begin -->\nold\n<!-- numbers: end -->\n\nThe end.\n"
    (tmp_path / "docs" / "performance.md").write_text(empty, encoding="utf-8")
    for _ in range(2):  # the second time it replaces the numbers only
        __main__.main()
    page = (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page.count("| a       | fp32        |       1.5 |") == 1
    assert page.count("Measured here.") == 1 and "old" not in page
    assert page.startswith("# Performance") and page.endswith("The end.\n")


def test_a_page_without_a_place_for_the_numbers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="needs the lines"):
        write_report(page, [])
    assert page.read_text(encoding="utf-8") == "mine"
