"""What docs/threat-model.md promises of all that ComfyUI loads: nothing in a file is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.torch_version import TorchVersion

from devudp_model.network import tensor_files
from devudp_model.network.tensor_files import CheckpointError, read_tensors

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("version", ["2.5.1", "2.6.0", "2.9.1+cu128", "2.10.0a0"])
def test_pth_files_are_refused_where_they_could_run_code(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the file was opened"))
    (tmp_path / "g.pth").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"refused: torch 2.*\.safetensors.*2\.10"):
        read_tensors(tmp_path / "g.pth")


def test_pth_files_are_read_from_torch_2_10_on(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.10.0+cpu"))
    torch.save({"a": torch.ones(2)}, tmp_path / "g.pth")
    assert tensor_files.read_pickle(tmp_path / "g.pth")["a"].tolist() == [1, 1]


PROGRAMS = {"subprocess", "multiprocessing", "pty", "torch.multiprocessing"}
NETWORK = {
    "socket", "socketserver", "ssl", "asyncio", "urllib", "http", "ftplib", "smtplib", "xmlrpc",
    "webbrowser", "requests", "httpx", "aiohttp", "torch.distributed", "torch.hub",
}  # fmt: skip
CODE = {"pickle", "marshal", "shelve", "dill", "joblib", "ctypes", "cffi", "runpy", "code"}
FORBIDDEN_MODULES = PROGRAMS | NETWORK | CODE
EXCEPTIONS = {
    "devudp_model/network/tensor_files.py": {"pickle"},  # for `pickle.UnpicklingError`, see below
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
FORBIDDEN_ATTRIBUTES = re.compile(
    r"os\.(system|popen|fork\w*|exec\w+|spawn\w+|posix_spawn\w*|startfile)"
    r"|torch\.(hub|package|jit\.load|ops\.load_library|utils\.cpp_extension|distributed)\b"
)


def loaded_by_the_host() -> list[Path]:
    folders = (ROOT / "devudp_model", ROOT / "nodes")
    return [ROOT / "__init__.py", *(path for f in folders for path in sorted(f.rglob("*.py")))]


def violations(source: str, allowed: set[str]) -> Iterator[str]:
    """What starts programs, opens connections, or makes code from text or from files."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            heads = {".".join(parts[: i + 1]) for i in range(len(parts))}
            yield from (heads & FORBIDDEN_MODULES) - allowed
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from {node.func.id} & FORBIDDEN_CALLS
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if FORBIDDEN_ATTRIBUTES.match(text) or (
                text.startswith("pickle.") and text != "pickle.UnpicklingError"
            ):
                yield text
        if isinstance(node, ast.Call):
            yield from unsafe_reading(node)


def unsafe_reading(call: ast.Call) -> Iterator[str]:
    """`torch.load` without weights_only=True, `numpy.load` that may unpickle."""
    name, given = ast.unparse(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
    if name == "torch.load" and given.get("weights_only") != "True":
        yield ast.unparse(call)
    if name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
        yield ast.unparse(call)


@pytest.mark.parametrize("path", loaded_by_the_host(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_programs_no_network_no_code_from_files(path: Path) -> None:
    allowed = EXCEPTIONS.get(path.relative_to(ROOT).as_posix(), set())
    assert not list(violations(path.read_text(encoding="utf-8"), allowed))


def test_training_reads_no_code_from_files_either() -> None:
    for path in sorted((ROOT / "training").rglob("*.py")):
        calls = (n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call))
        assert not [fault for call in calls for fault in unsafe_reading(call)], path


@pytest.mark.parametrize(
    "source",
    ["import subprocess", "from urllib.request import urlopen", "import torch.distributed as dist",
     "from torch import hub", "eval('1')", "import os\nos.system('x')", "os.execv('a', [])",
     "import pickle\npickle.loads(x)", "torch.load(path)", "torch.load(path, weights_only=False)",
     "np.load(path, allow_pickle=True)", "torch.hub.load('x')"],
)  # fmt: skip
def test_the_check_finds_it(source: str) -> None:
    assert list(violations(source, {"pickle"}))
