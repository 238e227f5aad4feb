"""The command line itself: `devudp info`, help, choices, and how soon it starts."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest

from devudp_model.checkpoint import bundled
from devudp_model.cli import arguments
from devudp_model.cli import main as cli
from devudp_model.engine.precision import PRECISIONS
from devudp_model.images import formats
from devudp_model.images.reading import READABLE
from devudp_model.restoring.auto import AUTO
from devudp_model.restoring.options import STATISTICS
from devudp_model.restoring.tasks import TASKS
from devudp_model.system.version import version
from tests.model.cli_files import draw

ROOT = Path(__file__).parents[2]


def test_info(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(weights)]) == 0
    out = capsys.readouterr().out
    for fact in ("variant        devudp", "width          4", "recipe         none", "sha256"):
        assert fact in out
    assert cli.main(["info", str(weights), "absent.safetensors"]) == 1
    assert "no file absent.safetensors" in capsys.readouterr().err


def test_info_of_the_bundled_weights(capsys: pytest.CaptureFixture[str]) -> None:
    if not bundled("devudp").exists():
        pytest.skip("weights are not in this checkout")
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "6,949,251" in out and "6,957,699" in out


@pytest.mark.slow
def test_output_that_nobody_reads_is_no_fault(weights: Path) -> None:
    command = [sys.executable, "-m", "devudp_model.cli", "info", *[str(weights)] * 300]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


def test_without_a_terminal(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a service, or of Windows' pythonw: there is nobody to show a bar to."""
    source = draw(tmp_path / "a.png")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    words = ["restore", str(source), "--out", str(tmp_path / "out"), "--task", "joint"]
    assert cli.main([*words, "--checkpoint", str(weights), "--device", "cpu"]) == 0
    assert (tmp_path / "out/a.png").exists()
    for stream in (sys.stdout, sys.stderr):
        stream.close()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"devudp {version()}\n"


def test_choices_are_those_of_the_library() -> None:
    words = [task.replace("-", " ") for task in arguments.TASK_WORDS]
    assert words == [AUTO, *TASKS] and arguments.AUTO == AUTO
    assert arguments.PRECISIONS == PRECISIONS
    assert set(get_args(STATISTICS) or STATISTICS) == {"each image", "shared"}
    assert set(arguments.FORMATS) - {"same"} == set(formats.WRITABLE)


def test_help_names_all_kinds_of_images(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["restore", "--help"])
    listed = re.search(r"image files \((.*?)\)", capsys.readouterr().out.upper(), re.I)
    assert listed and set(re.findall(r"[A-Z]+", listed[1])) >= {*READABLE, "AVIF", "HEIC", "RAW"}


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("512m", 512 * 10**6), ("1.5GiB", 3 * 2**29), ("2000000", 2 * 10**6)],
)
def test_memory_sizes(text: str, size: int) -> None:
    assert arguments.memory_size(text) == size


@pytest.mark.slow
def test_help_needs_no_torch() -> None:
    code = "import sys; from devudp_model.cli.main import main\ntry: main(['restore', '--help'])\n"
    code += "except SystemExit: assert not {'torch', 'PIL', 'numpy'} & set(sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "examples:" in result.stdout and "--skip-existing" in result.stdout


@pytest.mark.slow
def test_start_is_quick(tmp_path: Path, weights: Path) -> None:
    """Processor time of all but torch's own import, for one 256x256 image."""
    source = draw(tmp_path / "a.png", (256, 256))
    code = (
        "import sys, time, torch; start = time.process_time()\n"
        "from devudp_model.cli.main import main; status = main(sys.argv[1:])\n"
        "print('seconds', time.process_time() - start)\n"
        "assert 'torch._dynamo' not in sys.modules, 'the compiler is imported'; sys.exit(status)"
    )
    arguments = ["restore", str(source), "--out", str(tmp_path / "out"), "--device", "cpu"]
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--checkpoint", str(weights)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split("seconds")[1]) < 2, time.perf_counter() - start
