"""The help of all command lines of the training."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.host.environment import ROOT
from training.evaluation.evaluate import main as evaluate
from training.train import COMMANDS, main

SETTING = "--data.black-level"

OWN = {
    "resume": "runs/mine/states/",
    "check-data": "--sheet FILE an image of crops as the training sees them",
    "frames": "--every N keep every N-th frame",
    "export": "--onnx also write an .onnx file",
    "onnx": "--agreement MP [MP ...] measure the agreement on images of so many megapixels",
    "lpips-weights": "FILE the .safetensors file to write",
    "benchmark": "--seconds N how long each is timed",
}


def help_of(command: object, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        command(arguments)  # pyright: ignore[reportCallIssue]
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert not said.err
    return " ".join(said.out.replace("│", " ").split())


@pytest.mark.parametrize("word", ["-h", "--help"])
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help(
    command: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = help_of(main, [command, word], capsys)
    assert said.startswith(f"usage: devudp-train {command}") and OWN[command] in said
    assert f"examples: devudp-train {command} " in said
    assert "Raises:" not in said and "Args:" not in said and SETTING not in said


def test_a_recipe_adds_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("check-data unpaired --help", "benchmark unpaired --help", "unpaired -h"):
        arguments: list[str] = [*words.split()]
        said = help_of(main, arguments, capsys)
        assert "examples:" in said and SETTING in said


def test_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    said = help_of(main, ["--help"], capsys)
    assert all(f"devudp-train {command} " in said for command in COMMANDS)
    assert "--pairs NAME DEGRADED REFERENCE two folders" in help_of(evaluate, ["--help"], capsys)


LOG = "from training.console import log_lines, logger\nlog_lines()\n" + (
    "for _ in range(2000): logger.info('x' * 100)\n"
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its pipes break with other errors")
@pytest.mark.parametrize("arguments", [["-m", "training.train", "unpaired", "--help"], ["-c", LOG]])
def test_nobody_reads_to_the_end(arguments: list[str]) -> None:
    """As with `devudp-train unpaired --help | head`."""
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == b"" and run.wait() == 0
