"""What a public project promises beside its code: workflows, documents, licences, safety."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from PIL import Image

from devudp_model.restoring.auto import AUTO
from devudp_model.restoring.tasks import TASKS
from tests.host.server import git, packed_files
from tools import make_api, make_architecture

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
IN_A_CLONE = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asks git")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


PROJECT = tomllib.loads(read("pyproject.toml"))["project"]


def workflow(name: str) -> dict[Any, Any]:
    return yaml.safe_load(read(f".github/workflows/{name}.yml"))


def script(name: str) -> Any:
    """A script of the repository, as a module."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Workflows


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_actions_are_pinned_and_permissions_are_few(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: *(.+)", text)
    assert used
    for action in used:
        assert action == "./.github/workflows/test.yml" or PINNED.fullmatch(action), action
        assert action.startswith(("./", "actions/")), "nobody but GitHub itself"
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    assert text.count("persist-credentials: false") == text.count("actions/checkout@")


def test_the_tests_run_wherever_the_project_claims_to_work() -> None:
    matrix = workflow("test")["jobs"]["test"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    claimed = {c.split(" :: ")[2] for c in PROJECT["classifiers"] if ":: Python :: 3." in c}
    assert set(matrix["python"]) == claimed == {"3.10", "3.11", "3.12", "3.13"}


def test_the_workflow_runs_the_readmes_commands() -> None:
    lines = {line.split(" # ")[0].strip() for line in read("README.md").splitlines()}
    text = read(".github/workflows/test.yml")
    assert {"make test", "make check"} <= lines
    assert "run: make test" in text and "run: make check" in text
    windows = [line for line in lines if line.startswith(".venv\\Scripts\\python -m p")]
    assert len(windows) == 2  # pip, pytest
    assert all(line in text for line in windows)


def test_the_oldest_torch_is_the_one_that_is_tested() -> None:
    (torch_,) = (
        r for r in map(Requirement, PROJECT["optional-dependencies"]["standalone"])
        if r.name == "torch"
    )  # fmt: skip
    (minimum,) = (s.version for s in torch_.specifier)
    jobs = workflow("test")["jobs"]["torch"]["strategy"]["matrix"]["include"]
    pins = {job["which"]: job["torch"] for job in jobs}
    assert pins == {"Minimum": f"torch=={minimum}.0", "Newest": "torch", "PyPI's": "torch"}


def test_the_oldest_and_the_newest_comfyui_are_tested() -> None:
    job = workflow("test")["jobs"]["comfyui"]
    tags = {row["which"]: row["tag"] for row in job["strategy"]["matrix"]["include"]}
    wanted = tomllib.loads(read("pyproject.toml"))["tool"]["comfy"]["requires-comfyui"]
    assert tags == {"Oldest": f"v{wanted.removeprefix('>=')}", "Newest": ""}
    last = job["steps"][-1]
    assert last["run"] == "make test-host" and last["env"]["COMFYUI_TREE"] == ".cache/ComfyUI"
    assert "\ntest-host:" in read("Makefile")


def test_nothing_is_published_before_the_tests_and_the_token_goes_to_one_command() -> None:
    jobs = workflow("publish")["jobs"]
    assert jobs["test"]["uses"] == "./.github/workflows/test.yml"
    assert set(jobs["publish"]["needs"]) == {"version", "test"}
    assert "release.py check" in jobs["version"]["steps"][-1]["run"]
    assert not any("if" in step for job in jobs.values() for step in job.get("steps", []))
    with_token = [s for s in jobs["publish"]["steps"] if "secrets." in json.dumps(s)]
    assert len(with_token) == 1 and "uses" not in with_token[0]
    assert read(".github/workflows/publish.yml").count("secrets.") == 1


def test_what_is_installed_without_hashes_is_trusted_with_nothing() -> None:
    """`pip install` of the newest packages, as users do it, runs whatever is in them."""
    text = read(".github/workflows/test.yml")
    assert "--require-hashes" not in text, "then it may be trusted with more"
    assert "secrets" not in text and "upload-artifact" not in text and "id-token" not in text
    assert all("permissions" not in job for job in workflow("test")["jobs"].values())
    published = read(".github/workflows/publish.yml")
    assert "cache" not in published and "download-artifact" not in published
    assert "secrets: inherit" not in published
    assert published.count('pip" install') == 1, "with hashes: see the next test"


@pytest.mark.parametrize("name", ["publish", "audit"])
def test_tools_are_installed_with_hashes(name: str) -> None:
    text = read(f".github/requirements/{name}.txt")
    packages = re.findall(
        r"^[\w.-]+==\S+ \\(?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+", text, re.M
    )
    assert len(packages) == len(re.findall(r"^[\w.-]+==", text, re.M)) > 10
    wanted = [w for w in read(f".github/requirements/{name}.in").split("\n") if w[:1] not in "#"]
    assert all(f"\n{tool}==" in text for tool in wanted)
    assert re.search(rf"--require-hashes .*-r \.github/requirements/{name}\.txt",
                     read(f".github/workflows/{name}.yml").replace("\\\n", ""), re.S)  # fmt: skip


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/tags/v9.9.9", "refs/tags/0.6.1", ""])
def test_a_branch_or_another_tag_is_not_published(ref: str) -> None:
    release = script(".github/scripts/release.py")
    with pytest.raises(SystemExit, match=r"only refs/tags/v"):
        release.check(ref)
    release.check(f"refs/tags/v{PROJECT['version']}")


def test_what_the_registry_is_told() -> None:
    release = script(".github/scripts/release.py")
    text = release.with_address(read("pyproject.toml"), "https://example.org", "a/b", "0" * 40)
    content = tomllib.loads(text)
    assert content["project"]["urls"]["Repository"] == "https://example.org/a/b"
    comfy = content["tool"]["comfy"]
    assert comfy["Icon"].endswith(f"/a/b/{'0' * 40}/assets/icon.png")
    assert content["project"]["version"] == PROJECT["version"]


def test_pre_commit_runs_what_make_check_runs() -> None:
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    recipe = (
        read("Makefile").split("\ncheck:")[1].split("\n\n")[0].replace("$(RUN)", ".venv/bin/python")
    )
    assert [hook["entry"] for hook in hooks] == [line.strip() for line in recipe.splitlines()[1:]]


def test_issue_forms_know_the_tasks() -> None:
    form = yaml.safe_load(read(".github/ISSUE_TEMPLATE/image.yml"))
    (task,) = (part for part in form["body"] if part.get("id") == "task")
    assert {AUTO, *TASKS} <= set(task["attributes"]["options"])


@pytest.mark.parametrize("name", ["bug", "image"])
def test_issue_forms_show_todays_version(name: str) -> None:
    assert f"DEvUDP {PROJECT['version']}" in read(f".github/ISSUE_TEMPLATE/{name}.yml")


# Code


def test_docstrings_begin_with_a_verb() -> None:
    """Or name the thing: no "What", "How", "Whether", which leave open what is done about it."""
    folders = ("devudp_model", "training", "nodes", "benchmarks", "tools", ".github")
    vague = re.compile(r"(What|Where|Which|How|Whether|Of)\b")
    found = [
        f"{path.relative_to(ROOT)}: {doc.splitlines()[0]}"
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and vague.match(doc := ast.get_docstring(node) or "")
    ]
    assert not found


# Tests


def test_what_starts_a_process_is_marked_slow() -> None:
    """`make test-fast` promises it."""
    for path in [*ROOT.glob("tests/*.py"), *ROOT.glob("tests/[mt]*/*.py")]:
        text = path.read_text(encoding="utf-8")
        if not re.search("subprocess|launch", text):
            continue
        body = ast.parse(text).body
        if "pytestmark = pytest.mark.slow" in map(ast.unparse, body):
            continue
        for node in body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                marks = [ast.unparse(mark) for mark in node.decorator_list]
                if names & {"subprocess", "launch"}:
                    assert "pytest.mark.slow" in marks, f"{path.name}: {node.name}"


# Documents


@IN_A_CLONE
def test_every_line_of_comfyignore_names_something() -> None:
    patterns = [line for line in read(".comfyignore").splitlines() if line[:1] not in ("", "#")]
    for pattern in patterns:
        assert (ROOT / pattern.strip("/")).exists(), pattern
    packed = {path.as_posix() for path in packed_files()}
    assert not [p for p in packed for i in patterns if f"/{p}".startswith(i)]
    tops = {name.split("/")[0] for name in git("ls-files")}
    hidden = {top for top in tops if top.startswith(".")}
    assert hidden <= {pattern.strip("/") for pattern in patterns}


@IN_A_CLONE
def test_licences_of_photographs_travel_with_the_archive() -> None:
    packed = {path.as_posix() for path in packed_files()}
    assert {"LICENSE", "samples/README.md"} <= packed
    for sample in (ROOT / "samples").glob("*.jpg"):
        row = next(line for line in read("samples/README.md").splitlines() if sample.name in line)
        assert re.search("CC0|public domain", row)


def test_versions_and_dates() -> None:
    found = re.findall(r"^## (.+)$", read("CHANGELOG.md"), re.M)
    releases = [re.fullmatch(r"(\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)", line) for line in found]
    assert all(releases), found
    versions = [(tuple(map(int, r[1].split("."))), r[2]) for r in releases if r]
    assert versions == sorted(versions, reverse=True)
    citation = yaml.safe_load(read("CITATION.cff"))
    assert releases[0] and citation["version"] == PROJECT["version"] == releases[0][1]
    assert citation["date-released"] == releases[0][2]


def test_the_package_is_typed_as_its_classifiers_say() -> None:
    typed = (ROOT / "devudp_model" / "py.typed").exists()
    assert typed == ("Typing :: Typed" in PROJECT["classifiers"])


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", *(f"docs/{n}.md" for n in (
    "architecture", "threat-model", "api"))])  # fmt: skip
def test_documents_name_files_that_exist(name: str) -> None:
    text = re.sub(r"```.*?```", "", read(name), flags=re.S)
    folder = (ROOT / name).parent
    links = [t.split("#")[0] for t in re.findall(r"\]\(([^)]+)\)", text) if "://" not in t]
    assert all((folder / link).exists() for link in links if link), links
    for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.\w+)`", text):
        roots = (ROOT, ROOT / "devudp_model", ROOT / "nodes")
        assert any((root / path).exists() for root in roots), path


def test_api_page_is_current() -> None:
    assert read("docs/api.md") == make_api.page(), "run python -m tools.make_api"


@pytest.mark.slow
def test_figure_is_current() -> None:
    """What its boxes and its table say is the generator's."""
    with Image.open(ROOT / "docs" / "architecture.png") as image:
        said = image.info["Description"]
    expected = make_architecture.described(make_architecture.labels(), make_architecture.variants())
    assert said == expected, "run python -m tools.make_architecture"
