"""A new row in the table of tasks is all that validation and export need."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from devudp_model.restoring.tasks import ROWS
from tests.training.training_run import ROOT, make_images, unpaired
from training.run.validation import STRENGTHS

ADD = """
import sys
from devudp_model.restoring import tasks
from devudp_model.restoring.tasks import TaskSpec
tasks.ROWS = (*tasks.ROWS, {row})
tasks.TASK_SPECS[tasks.ROWS[-1].name] = tasks.ROWS[-1]
tasks.TASKS = tuple(tasks.TASK_SPECS)
from training.train import main
main(sys.argv[1:])
"""
"""As if the row stood in the file, which other modules import afterwards."""


def documented_row() -> str:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"```python\n(TaskSpec\(.*?\))\n?,?\n```", page, re.S)
    assert 'name="denoise"' in row
    return row


def run(*arguments: str) -> str:
    command = [sys.executable, "-c", ADD.format(row=documented_row()), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_task_has_images_to_be_measured_on():
    assert all(frozenset(spec.removes) in STRENGTHS for spec in ROWS)


@pytest.mark.slow
def test_the_documented_task_is_trained_validated_and_exported(tmp_path: Path):
    out = tmp_path / "run"
    said = run(*unpaired(tmp_path), "--out", str(out), "--schedule.length", "1",
               "--data.held-out", "1", "--validation.every", "1",
               "--validation.tasks", "denoise")  # fmt: skip
    assert "bf16 differs from fp32" in said
    assert "validation denoise psnr" in (out / "log.jsonl").read_text()
    run("export", str(out), "--out", str(tmp_path / "mine.safetensors"))
    make_images(tmp_path / "noisy", 1, size=(40, 36))
    said = run("export", str(tmp_path / "mine.safetensors"), "--images", str(tmp_path / "noisy"))
    assert "bf16 differs from fp32" in said
