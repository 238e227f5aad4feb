"""The benchmark of GPUs runs, as far as that can be without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import gpu, measure
from devudp_model.restoring.tasks import TASK_SPECS
from tests.accelerator.conftest import photos, small_generator
from tests.accelerator.counts import counting


@pytest.fixture
def plan(device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gpu.Plan:
    monkeypatch.setattr(measure, "LONG_ENOUGH", 0.0)
    monkeypatch.setattr(gpu, "matrix_rate", lambda dtype, device: 1e9)  # 8192 x 8192 there
    pixels = (photos(1, 3, 40, 44)[0] * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "photo.png")

    def load(task: str):
        return small_generator(TASK_SPECS[task].variant)

    return gpu.Plan(device, (48, 64), (1, 2), tmp_path, load)


def test_without_cuda_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="finds no CUDA"):
        gpu.main(["--page", str(tmp_path / "page.md")])
    assert not (tmp_path / "page.md").exists()


@pytest.mark.slow
def test_the_tables(plan: gpu.Plan, coarser: None) -> None:
    table = gpu.speed(plan)
    assert [row[:2] for row in table.rows] == [[t, n] for t in gpu.TASKS for n in ("1", "2")]
    for _, batch, milliseconds, rate, share, peak, operations in table.rows:
        assert milliseconds > 0 and rate > 0 and str(share).endswith(" %")  # pyright: ignore
        assert 0.01 < float(peak) < 10 and int(operations) > 100
        assert batch in ("1", "2")
    for row in gpu.differences(plan).rows:
        mean, most, largest = (float(cell) for cell in row[2:5])
        assert 0 <= mean <= most <= largest < 32 and mean < 1  # bf16, random weights, darkened


def test_the_work_counts_coarser_scales(plan: gpu.Plan, coarser: None) -> None:
    joint, deblur = (gpu.work_of(task, plan.load(task), (160, 160)) for task in gpu.TASKS)
    assert deblur / joint == pytest.approx(1 + 1 / 4 + 1 / 16 + 1 / 64, rel=1e-6)


def test_operations_are_those_of_the_device(plan: gpu.Plan) -> None:
    x = torch.ones(3, device=plan.device)

    def run() -> None:
        torch.empty(3, device=plan.device).copy_(x + 1)[1:].sum()

    with counting() as counts:
        run()
    assert gpu.operations_of(run) == counts.operations == 4


def test_other_networks_that_fail_are_named(plan: gpu.Plan) -> None:
    class Broken(nn.Conv2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("out of memory")

    networks = {"plain": lambda: nn.Conv2d(3, 3, 3), "broken": lambda: Broken(3, 3, 3)}
    rows = gpu.others(plan, networks).rows
    assert [row[0] for row in rows] == ["DEvUDP, joint", "plain", "broken"]
    assert isinstance(rows[1][2], float) and rows[2][2] == "out of memory"


def test_the_page(plan: gpu.Plan, tmp_path: Path) -> None:
    """The project's own page has the place; what stands there is replaced, nothing else."""
    own = (Path(gpu.ROOT) / "docs" / "performance.md").read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(own, encoding="utf-8")
    table = gpu.Table("On a GPU: 1x1", ["task", "images"], [["joint", "1"]])
    for _ in range(2):
        gpu.write(page, plan.device, [table, table])
    text = page.read_text(encoding="utf-8")
    assert text.count("On a GPU: 1x1") == 2 and "make-believe accelerator" in text
    before, after = own.split(gpu.MARKS[0])[0], own.split(gpu.MARKS[1])[1]
    assert text.startswith(before) and text.endswith(after)
