"""Mutation tests: is a change of the code noticed?

    python -m tools.mutation                                 all modules of pyproject.toml
    python -m tools.mutation training/method/step.py         one of them

cosmic-ray says which changes there are. Each runs in a forked process of its own, with the changed
source in its memory only: the working tree is never touched, and torch is imported once. That needs
`fork`, so it does not run on Windows. Results: tools/mutation.md.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import gc
import importlib
import importlib.machinery
import importlib.util
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import psutil
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutation"]
OWN = ("devudp_model", "training", "nodes", "tests", "tools", "benchmarks", "conftest")
SKIPPED = ("Shift", "Bit", "NoOp", "VariableReplacer", "VariableInserter")
"""Bit operators raise TypeError on nearly everything here: easily noticed, they would only flatter.
The variable operators need names to work with."""

MEMORY = 8 * 2**30
"""Bytes that a mutant may allocate."""

IDLE_SECONDS = 60
"""A mutant that uses no processor time for this long waits for something that never comes."""


class Mutant(NamedTuple):
    operator: str
    line: int
    source: str


def meaning(source: str) -> str:
    """Returns what runs: no annotations (nobody reads them while it runs), no docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [n for n in body if not is_text(n)]  # pyright: ignore
    return ast.dump(tree)


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def mutants(source: str, number: int, seed: int) -> tuple[list[Mutant], int]:
    """At most `number` that mean something else, drawn at random; and how many there are to try."""
    from cosmic_ray.ast import ast_nodes, get_ast  # pyright: ignore[reportMissingImports]
    from cosmic_ray.mutating import mutate_code  # pyright: ignore[reportMissingImports]
    from cosmic_ray.plugins import get_operator, operator_names  # pyright: ignore

    tree = get_ast(source)
    places = []
    for name in operator_names():
        if any(word in name for word in SKIPPED):
            continue
        spots = [s for n in ast_nodes(tree) for s in get_operator(name)().mutation_positions(n)]
        places += [(name, k, start[0]) for k, (start, _) in enumerate(spots)]
    random.Random(seed).shuffle(places)
    found: dict[str, Mutant] = {meaning(source): Mutant("", 0, source)}
    tried = 0
    for name, occurrence, line in places:
        if len(found) > number:
            break
        tried += 1
        changed = mutate_code(source, get_operator(name)(), occurrence)
        with contextlib.suppress(SyntaxError):
            found.setdefault(meaning(changed), Mutant(name.split("/")[-1], line, changed))
    kept = sorted(list(found.values())[1:], key=lambda mutant: mutant.line)
    return kept, round(len(places) * len(kept) / max(tried, 1))


class Changed(importlib.machinery.SourceFileLoader):
    """Loads a module from a text instead of its file."""

    source = ""

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds one module before anyone else does."""

    def __init__(self, name: str, path: Path, source: str):
        self.name, self.path, self.source = name, path, source

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if name != self.name:
            return None
        loader = Changed(name, str(self.path))
        loader.source = self.source
        return importlib.util.spec_from_file_location(name, self.path, loader=loader)


def run_tests(module: str, source: str, tests: list[str], cpu_seconds: int) -> tuple[str, float]:
    """In a forked process: "survived", "killed" or "timeout", and the CPU time it took (s)."""
    before = os.times()
    pid = os.fork()
    if pid == 0:
        os._exit(child(module, source, tests, cpu_seconds))
    process, now, spent, deadline = psutil.Process(pid), 0.0, -1.0, 0.0
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        with contextlib.suppress(psutil.Error):  # it just ended
            now = sum(process.cpu_times()[:2])
        if now != spent:
            spent, deadline = now, time.monotonic() + IDLE_SECONDS
        elif time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    if status == 0:
        return "survived", used
    limited = (signal.SIGXCPU, signal.SIGKILL)
    return "timeout" if os.WTERMSIG(status) in limited else "killed", used


def child(module: str, source: str, tests: list[str], cpu_seconds: int) -> int:
    """Runs the tests on the changed source, in silence: the forked process."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    name = ".".join(Path(module).with_suffix("").parts)
    sys.meta_path.insert(0, Finder(name, ROOT / module, source))  # pyright: ignore
    options = ["-x", "-q", "-m", "not slow and not comfyui"]
    for plugin in ("cacheprovider", "unraisableexception"):  # the latter collects garbage
        options += ["-p", f"no:{plugin}"]
    code = int(pytest.main([*options, *tests]))
    if seen := os.environ.get("SEEN_MODULES"):
        Path(seen).write_text("\n".join(sys.modules), encoding="utf-8")
    return code


def import_once(module: str, source: str, tests: list[str]) -> float:
    """Imports here what the tests need of others; returns the CPU time that the tests take (s)."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEEN_MODULES"] = str(Path(folder) / "modules")
        outcome, _ = run_tests(module, source, tests, 900)
        names = Path(os.environ.pop("SEEN_MODULES")).read_text(encoding="utf-8").split()
    if outcome != "survived":
        raise SystemExit(f"The tests of {module} fail without any change: {' '.join(tests)}")
    for name in names:
        if not name.startswith(("test", *OWN)) and name != "__main__":
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    gc.freeze()  # nothing of this is garbage in a fork
    return run_tests(module, source, tests, 900)[1]


def difference(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join("    " + x for x in lines if not x.startswith(("---", "+++", "@@")))


def test_module(module: str, sample: int, seed: int) -> Iterator[str]:
    """Lines of the report: survivors, then the score."""
    source = (ROOT / module).read_text(encoding="utf-8")
    tests = SETTINGS["modules"][module]
    usual = import_once(module, source, tests)
    chosen, possible = mutants(source, sample, seed)
    counts: dict[str, int] = dict.fromkeys(("killed", "timeout", "survived"), 0)
    for mutant in chosen:
        outcome, _ = run_tests(module, mutant.source, tests, round(4 * usual) + 10)
        counts[outcome] += 1
        if outcome == "survived":
            yield f"{module}:{mutant.line}, {mutant.operator}\n{difference(source, mutant.source)}"
    share = 1 - counts["survived"] / max(len(chosen), 1)
    yield f"{module}: {len(chosen)} of about {possible} mutants, {counts}, {share:.1%} noticed\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutation",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="example: python -m tools.mutation training/method/step.py",
    )
    add = parser.add_argument
    add("modules", nargs="*", default=list(SETTINGS["modules"]), metavar="FILE",
        help="what to change; default: all files that pyproject.toml names")  # fmt: skip
    add("--sample", type=int, default=SETTINGS["sample"], metavar="N",
        help="changes of each file, drawn at random; default: %(default)s")  # fmt: skip
    add("--seed", type=int, default=SETTINGS["seed"], help="of the draw; default: %(default)s")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    for module in chosen.modules:
        for text in test_module(module, chosen.sample, chosen.seed):
            print(text, flush=True)


if __name__ == "__main__":
    main()
