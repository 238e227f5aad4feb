"""Damaged runs: resumed to the end that the last good state leads to, or refused; no code runs."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import random
import shutil
import tempfile
import unittest.mock
from pathlib import Path
from typing import Any

import torch

from tests.fuzz.checkpoints import Evil, odd_place
from tests.fuzz.harness import Fault, call
from tests.fuzz.names import contents
from tests.training.training_run import unpaired
from training.run.state import MAGIC, list_states, read_checked
from training.train import main

STEPS = 2
"""Of the run; the states of one and of two steps are there. Resumed, it takes one more."""

RECORDS = ("config.toml", "run.json", "log.jsonl", "data.txt")


@functools.cache
def setting() -> tuple[Path, bytes]:
    """A folder with a run, another run, and what the run has to end with."""
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="fuzz-states-"))
    arguments = [*unpaired(root), "--record.save-every", "1", "--record.log-every", "1"]
    arguments += ["--ema", "0.9", "--pool", "2"]
    for name, seed, steps in (("run", 1, STEPS), ("other", 2, STEPS), ("straight", 1, STEPS + 1)):
        more = ["--seed", str(seed), "--schedule.length", str(steps), "--out", str(root / name)]
        status, said = train([*arguments, *more])
        if status:
            raise Fault(f"the undisturbed run failed: {said[-1500:]}")
    return root, fingerprint(root / "straight")


def train(arguments: list[str]) -> tuple[int, str]:
    """``devudp-train`` in this process: its status, and all that it says."""
    # The curve and the export take most of the time and have tests of their own.
    with (
        unittest.mock.patch("training.run.loop.draw_curve"),
        unittest.mock.patch("training.run.loop.export_run", return_value=[]),
    ):
        return call(functools.partial(main, arguments))


def fingerprint(run: Path) -> bytes:
    """Of a finished run's last state, without the run's id."""
    state = read_checked(list_states(run / "states")[-1])
    digest = hashlib.sha256(str(state["step"]).encode())
    for name in ("G", "G_inv", "D", "ema"):
        for key, value in sorted(state[name].items()):
            digest.update(key.encode() + value.numpy().tobytes())
    return digest.digest()


def encode(content: Any, *, old: bool = False) -> bytes:
    """A state's file, its checksum right whatever is in it."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    return seal(file.getvalue())


def seal(data: bytes) -> bytes:
    return MAGIC + b" " + hashlib.sha256(data).hexdigest().encode() + b"\n" + data


def attack(seed: int, folder: Path) -> str:
    """Damages a run, then resumes it."""
    rng = random.Random(seed)
    root, end = setting()
    run, trace = folder / "run", folder / "trace"
    shutil.copytree(root / "run", run)
    states = list_states(run / "states")
    kinds = [spoil(rng, path, root, trace) for path in states[-rng.choice((1, 1, 1, 2)) :]]
    if rng.random() < 0.2:
        kinds.append(spoil_record(rng, run / rng.choice(RECORDS)))
    named = rng.choice((run, run, run, rng.choice(states)))
    before = contents(run)
    status, said = train(["resume", str(named), "--schedule.length", str(STEPS + 1)])
    if trace.exists():
        raise Fault(f"{kinds}: code in the file was run")
    if "Traceback" in said:
        raise Fault(f"{kinds}: {said[-1500:]}")
    if status:
        return check_refused(kinds, status, said, before, contents(run))
    if "crafted" not in kinds and "record" not in kinds:
        if fingerprint(run) != end:
            raise Fault(f"{kinds}: it ended with other weights, without a word")
        if named == run and kinds[-1] == "damaged" and "The one before it is taken" not in said:
            raise Fault(f"{kinds}: the damage was not said: {said[-500:]}")
    return "resumed"


def check_refused(
    kinds: list[str],
    status: int,
    said: str,
    before: dict[Path, bytes | str],
    after: dict[Path, bytes | str],
) -> str:
    """Raises Fault unless a refusal is called for and changed nothing."""
    if status not in (1, 2):
        raise Fault(f"{kinds}: status {status}")
    if set(kinds) == {"none"}:
        raise Fault(f"a sound state is refused: {said[-1500:]}")
    if "Error: " not in said or len(said.strip()) < 40:
        raise Fault(f"{kinds}: an unclear message: {said[-1500:]}")
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    if {path.name for path in changed} - {".lock"}:
        raise Fault(f"{kinds}: refused, but changed {sorted(p.name for p in changed)}: {said}")
    return "refused"


def spoil(rng: random.Random, path: Path, root: Path, trace: Path) -> str:
    """Damages a state: "none", "gone", "crafted" (with a right checksum) or "damaged"."""
    whole = path.read_bytes()
    kind = rng.choice(("none", "bit", "bit", "bit", "bytes", "cut", "longer", "other run",
                       "place", "zeros", "crafted", "crafted", "crafted", "code"))  # fmt: skip
    damaged = bytearray(whole)
    if kind in ("bit", "bytes"):
        reach = rng.choice((100, len(damaged), len(damaged)))
        for _ in range(1 if kind == "bit" else 40):
            damaged[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del damaged[rng.randrange(len(damaged)) :]
    elif kind == "longer":
        damaged += rng.randbytes(rng.choice((1, 5000)))
    elif kind == "zeros":  # as a file system may leave it after a crash
        start = rng.randrange(len(damaged))
        damaged[start : start + 4096] = bytes(len(damaged[start : start + 4096]))
    elif kind == "other run":
        damaged[:] = (root / "other/states/state-00000002.pt").read_bytes()
    if kind in ("crafted", "code"):
        path.write_bytes(crafted(rng, path, trace if kind == "code" else None))
        return "crafted"
    if kind == "place":
        path.unlink()
        odd_place(rng, path)
        if not os.path.lexists(path):
            return "gone"
    elif bytes(damaged) != whole:
        path.write_bytes(damaged)
    return "none" if kind != "place" and bytes(damaged) == whole else "damaged"


def crafted(rng: random.Random, path: Path, trace: Path | None) -> bytes:
    """A state with a right checksum, whose content is not what it has to be."""
    if rng.random() < 0.15:
        return seal(rng.randbytes(rng.choice((0, 10, 3000))))
    content = read_checked(path)
    if trace is not None:
        content[rng.choice(list(content))] = Evil(trace)
    for _ in range(rng.choice((1, 1, 3))):
        spoil_content(rng, content)
    return encode(rng.choice((content, content, content, [content])), old=rng.random() < 0.3)


def spoil_content(rng: random.Random, content: dict[str, Any]) -> None:
    """Something else at a random place in the nested content."""
    inside: Any = content
    while True:
        keys = list(inside) if isinstance(inside, dict) else range(len(inside))
        if not keys:
            return
        key = rng.choice(list(keys))
        found = inside[key]
        deeper = isinstance(found, (dict, list)) and len(found) > 0
        if not deeper or rng.random() < 0.2:
            break
        inside = found
    kind = rng.choice(("gone", "other", "other", "added"))
    if kind == "gone":
        del inside[key]
    elif kind == "added" and isinstance(inside, dict):
        inside["added"] = torch.zeros(3)
    elif isinstance(found, torch.Tensor):
        inside[key] = other_tensor(rng, found)
    else:
        inside[key] = rng.choice((None, -1, 10**12, 0.5, float("nan"), "x", [], {}, True,
                                  torch.zeros(2)))  # fmt: skip


def other_tensor(rng: random.Random, tensor: torch.Tensor) -> Any:
    """Another shape, kind of number or value."""
    kind = rng.choice(("shape", "dtype", "value", "expanded", "none"))
    if kind == "shape":
        return torch.zeros([side + rng.choice((0, 1)) for side in tensor.shape] or [2])
    if kind == "dtype":
        return tensor.to(rng.choice((torch.float64, torch.int64, torch.bool, torch.complex64)))
    if kind == "value" and tensor.is_floating_point():
        return torch.full_like(tensor, rng.choice((float("nan"), float("inf"), 1e30)))
    if kind == "expanded":
        return torch.zeros(1).expand(10**5, 10**5)
    return None


def spoil_record(rng: random.Random, path: Path) -> str:
    """Damages one of the files beside the states."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(("bytes", "cut", "gone", "pipe", "json", "lines"))
    if kind == "bytes":
        for _ in range(rng.choice((1, 20))):
            content[rng.randrange(len(content))] = rng.randrange(256)
    elif kind == "cut":
        del content[rng.randrange(len(content)) :]
    elif kind == "json":
        content[:] = rng.choice((b"[]", b"3", b"null", b'{"id": 3}', b'"x"', b"{}"))
    elif kind == "lines":
        content += rng.choice((b"\n3\n", b"\n[]\n", b'\n{"step": "x"}\n', b"\n{}\n", b"\0" * 500))
    path.unlink()
    if kind == "pipe" and hasattr(os, "mkfifo"):
        os.mkfifo(path)
    elif kind != "gone":
        path.write_bytes(content)
    return "record"
