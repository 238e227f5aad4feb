"""The house's rules: who may import whom, what is installed, and under which names."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image

from devudp_model.checkpoint import save_checkpoint
from devudp_model.network.generator import Generator

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

HOST_HAS = {"torch", "numpy", "pillow", "safetensors", "tqdm"}
"""What every ComfyUI installation brings along."""

THIRD_PARTY = {
    "devudp_model": {
        *("torch", "numpy", "PIL", "safetensors", "tqdm"),
        *("pyvips", "av", "gradio", "pillow_heif", "pillow_jxl", "rawpy", "psutil"),
        "imagecodecs",
        *("ray", "fsspec", "pyarrow"),
    },
    "nodes": {
        *("torch", "numpy", "PIL"),
        *("comfy", "comfy_api", "comfy_execution", "folder_paths", "server"),
    },
}
"""Top-level modules that a folder may import, beside the standard library. The second ones are
extras, imported where they are first needed; the nodes' others are the host's own."""

LAZY = {"pyvips", "av", "pillow_heif", "pillow_jxl", "imagecodecs", "rawpy", "psutil"}
LAZY |= {"ray", "fsspec", "pyarrow"}


class Import(NamedTuple):
    """One module that a file names: `from ..a.b import c` is (2, "a.b")."""

    file: Path
    line: int
    level: int
    module: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {'.' * self.level}{self.module}"


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(file: Path) -> Iterator[Import]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, 0, alias.name)
        elif isinstance(node, ast.ImportFrom):
            yield Import(file, node.lineno, node.level, node.module or "")


def top(found: Import) -> str:
    return found.module.split(".")[0]


def depth(found: Import) -> int:
    """How many folders above the file's own the import starts."""
    return found.level - 1


def inside(found: Import, folder: str) -> bool:
    """Whether a relative import stays in `folder`."""
    return depth(found) < len(found.file.relative_to(ROOT / folder).parts)


@pytest.mark.parametrize("folder", ["devudp_model", "nodes"])
def test_what_the_host_loads_imports_nothing_unusual(folder: str) -> None:
    """Relative imports and what the host has; so it works under any folder name."""
    allowed = THIRD_PARTY[folder] | set(sys.stdlib_module_names)
    wrong = [
        str(found)
        for file in sources(folder)
        for found in imports(file)
        if found.level == 0 and top(found) not in allowed
    ]
    assert not wrong


def test_extras_are_imported_when_they_are_needed() -> None:
    """Inside of functions, or for types only: they may be missing."""
    tops = [
        node.names[0].name if isinstance(node, ast.Import) else node.module or ""
        for file in sources("devudp_model")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not LAZY & {name.split(".")[0] for name in tops}


def test_the_model_never_looks_up() -> None:
    wrong = [
        str(found)
        for file in sources("devudp_model")
        for found in imports(file)
        if found.level > 0 and not inside(found, "devudp_model")
    ]
    assert not wrong


ROOMS = (
    *(
        "__init__",
        "__main__",
        "cli",
        "web",
        "cluster",
        "batch",
        "videos",
        "images",
        "restorer",
        "task_weights",
    ),
    *("checkpoint", "restoring", "engine", "network", "bands", "ops", "system"),
)
"""Folders and single files of devudp_model: each imports only from those behind it."""


def room(path: Path) -> str:
    """The folder of a module of devudp_model, or its name if it lies in none."""
    return path.with_suffix("").parts[0]


def arrows() -> set[tuple[Path, Path]]:
    """Every import of a module of devudp_model by another one, also for types only."""
    package = ROOT / "devudp_model"
    found = set[tuple[Path, Path]]()
    for file in sources("devudp_model"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            folder = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            inner = [folder / alias.name for alias in node.names] if folder.is_dir() else []
            targets = [each for each in inner if each.is_dir() or each.with_suffix(".py").exists()]
            for target in targets or [folder]:
                exact = target / "__init__.py" if target.is_dir() else target.with_suffix(".py")
                if exact != file:
                    found.add((file.relative_to(package), exact.relative_to(package)))
    return found


def circle_among(arrows: set[tuple[str, str]]) -> list[str]:
    """Names that import each other, round and round; empty if there are none."""
    behind = {name: {b for a, b in arrows if a == name} for pair in arrows for name in pair}
    while ends := [name for name, targets in behind.items() if not targets & behind.keys()]:
        for name in ends:
            del behind[name]
    return sorted(behind)


def test_rooms_import_only_what_is_below_them() -> None:
    assert {room(file.relative_to(ROOT / "devudp_model")) for file in sources("devudp_model")} <= {
        *ROOMS
    }, "a new room needs its place in ROOMS"
    upward = [
        f"{source} imports {target}"
        for source, target in sorted(arrows())
        if ROOMS.index(room(source)) > ROOMS.index(room(target))
    ]
    assert not upward


@pytest.mark.parametrize("what", ["rooms", "modules"])
def test_no_circle_of_imports(what: str) -> None:
    names = {(str(a), str(b)) for a, b in arrows()}
    if what == "rooms":
        names = {(room(a), room(b)) for a, b in arrows() if room(a) != room(b)}
    assert not circle_among(names)


def test_a_circle_is_found() -> None:
    chain = {("a", "b"), ("b", "c"), ("c", "d")}
    assert circle_among(chain) == []
    assert circle_among({*chain, ("c", "a")}) == ["a", "b", "c"]


def test_nodes_look_at_the_model_only() -> None:
    wrong = [
        str(found)
        for file in sources("nodes")
        for found in imports(file)
        if found.level > 0 and not inside(found, "nodes") and top(found) != "devudp_model"
    ]
    assert not wrong


def test_training_looks_at_the_model_only() -> None:
    """By its installed name: it is no neighbour there (`devudp_training`)."""
    forbidden = {"nodes", "comfy", "comfy_api", "folder_paths", "training", "devudp_training"}
    wrong = [
        str(found)
        for file in sources("training")
        for found in imports(file)
        if (found.level > 0 and not inside(found, "training"))
        or (found.level == 0 and top(found) in forbidden)
    ]
    assert not wrong


def test_the_door_imports_nothing_until_it_is_called() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    modules = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert set(modules) <= {"__future__", "typing"}
    assert not any(isinstance(node, ast.Import) for node in tree.body)


def test_nothing_unusual_is_installed_into_the_host() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.strip() and not line.startswith("#")] == []
    assert {Requirement(text).name for text in PROJECT["dependencies"]} <= HOST_HAS - {"torch"}


@pytest.mark.parametrize("extra", ["standalone", "train", "eval", "formats", "raw", "test"])
def test_extras_exist(extra: str) -> None:
    assert extra in PROJECT["optional-dependencies"]


def test_the_tests_need_no_second_torch() -> None:
    """lpips and others need torchvision, which brings a torch of its own along."""
    extras = PROJECT["optional-dependencies"]
    wanted, seen = ["test"], set()
    while wanted:
        for text in extras[wanted.pop()]:
            requirement = Requirement(text)
            seen.add(requirement.name)
            wanted += requirement.extras if requirement.name == "devudp" else []
    assert "torch" in seen
    assert not seen & {"torchvision", "lpips", "xformers"}


@pytest.mark.parametrize("file", sources("devudp_model") + sources("training") + sources("nodes"))
def test_syntax_of_the_oldest_python(file: Path) -> None:
    ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 10))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project under another name, one that is not even a Python name; weights made up."""
    folder = tmp_path_factory.mktemp("host") / "custom_nodes" / "ComfyUI-DEvUDP main"
    skip = shutil.ignore_patterns(".*", "tests", "demo", "runs", "*.safetensors", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=skip)
    (folder / "README.md").touch()
    (folder / "devudp_model" / "weights").mkdir(exist_ok=True)
    (folder / "devudp_model" / "weights" / "devudp.safetensors").touch()
    return folder


@pytest.mark.slow
def test_the_same_lines_work_under_another_folder_name(copy: Path) -> None:
    """Loaded as the host loads it: by path, the folder's name as the module's, not on sys.path."""
    code = f"""
import importlib, importlib.util, sys
name = {str(copy)!r}.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, {str(copy / "__init__.py")!r})
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
assert callable(module.comfy_entrypoint)
importlib.import_module(name + ".devudp_model.restoring.restoration")
model = importlib.import_module(name + ".devudp_model")
assert model.__version__ == {PROJECT["version"]!r}
for public in model.__all__:
    assert getattr(model, public) is getattr(model, public)
assert callable(model.restore)
assert model.restore.__module__ == name + ".devudp_model.restoring.restoration"
importlib.import_module(name + ".devudp_model.cli.main")
assert "devudp_model" not in sys.modules and "nodes" not in sys.modules
"""
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=copy.parent, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


PUBLIC = """
import sys
import devudp_model
assert not {"torch", "PIL", "numpy"} & set(sys.modules), "importing the package must stay quick"
assert set(devudp_model.__all__) <= set(dir(devudp_model))
from devudp_model import Options, __version__, bundled, load_checkpoint, read_image, restore
from devudp_model import write_image
import devudp_model.restoring.restoration, devudp_model.batch.restore_files
from devudp_model import restore as again
assert callable(restore) and restore is again is devudp_model.restoring.restoration.restore
try:
    devudp_model.sharpen
except AttributeError as error:
    assert "sharpen" in str(error)
else:
    raise AssertionError
print(__version__, devudp_model.__file__)
"""


@pytest.mark.slow
def test_public_names() -> None:
    """A submodule never takes the place of a function."""
    result = subprocess.run(
        [sys.executable, "-c", PUBLIC], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] == PROJECT["version"]


@pytest.mark.slow
def test_public_names_of_an_installed_package(copy: Path, tmp_path: Path) -> None:
    """From a wheel, without the clone beside it."""
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    result = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("devudp-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = f"import sys; sys.path.insert(0, {str(site)!r})\n{PUBLIC}"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    version, file = result.stdout.split()
    assert version == PROJECT["version"] and Path(file).is_relative_to(site)
    assert (site / "devudp_model" / "py.typed").exists()
    restore_from(site, tmp_path)


def restore_from(site: Path, folder: Path) -> None:
    """The command line of an installed package restores an image, far from the clone."""
    save_checkpoint(folder / "own.safetensors", Generator("devudp", 2, 1), {})
    Image.new("RGB", (40, 24), (90, 60, 30)).save(folder / "flat.png")
    noise = torch.randint(0, 255, (24, 40, 3), dtype=torch.uint8).numpy()
    Image.fromarray(noise).save(folder / "noise.png")
    words = ["restore", "flat.png", "noise.png", "--out", "restored", "--task", "joint"]
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\nfrom devudp_model.cli.main import main\n"
    )
    code += f"sys.exit(main({[*words, '--checkpoint', 'own.safetensors', '--device', 'cpu']}))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    with Image.open(folder / "restored/noise.png") as image:
        assert image.size == (40, 24) and image.tobytes() != noise.tobytes()


@pytest.mark.slow
def test_what_a_wheel_puts_into_site_packages(copy: Path, tmp_path: Path) -> None:
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    result = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("devudp-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {
        "devudp_model",
        "devudp_training",
    }
    expected = {p.relative_to(ROOT).as_posix() for p in sources("devudp_model")}
    expected |= {f"devudp_{p.relative_to(ROOT).as_posix()}" for p in sources("training")}
    expected |= {
        f"devudp_training/recipes/{p.name}" for p in (ROOT / "training/recipes").glob("*.toml")
    }
    expected |= {"devudp_model/weights/devudp.safetensors", "devudp_training/export/onnx_web.mjs"}
    assert expected <= set(names), "name every folder in pyproject's packages"


def test_every_command_that_is_installed_exists() -> None:
    places = {"devudp_model": "devudp_model", "devudp_training": "training"}
    for command, target in PROJECT["scripts"].items():
        module, function = target.split(":")
        package, *names = module.split(".")
        file = (ROOT / places[package]).joinpath(*names).with_suffix(".py")
        assert file.exists(), f"{command} needs {file}"
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, command
