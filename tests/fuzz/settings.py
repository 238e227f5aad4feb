"""Settings of a training: refused before anything is written, or trained with to the end."""

from __future__ import annotations

import dataclasses
import functools
import math
import random
import tempfile
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

from tests.fuzz.harness import Fault
from tests.fuzz.names import contents
from tests.fuzz.states import train
from tests.training.training_run import make_both
from training.config import Config
from training.config.check import RANGES, settings_of
from training.config.recipes import load_recipe, recipe_names, to_toml

SMALL = {
    "model.width": 4, "model.depth": 1, "model.G_inv_width": 4, "model.D_width": 4, "batch": 2,
    "data.crop": 32, "data.short_side": (36, 48), "data.cache_gb": 0.01, "data.held_out": 2,
    "data.blur_length": (2.0, 5.0), "speed.device": "cpu", "speed.threads": 1, "speed.workers": 0,
    "speed.compile": False, "record.tensorboard": False, "schedule.unit": "steps",
    "schedule.length": 2, "loss.lpips": 0.0, "data.frames_share": 0.0, "validation.every": 0,
    "validation.images": 2, "pool": 3,
}  # fmt: skip
"""Over the recipe's own, so that a step takes no time; then the attack's over these."""

LARGEST = {"batch": 8, "data.crop": 96, "model.width": 16, "model.depth": 3, "model.D_width": 16,
           "model.G_inv_width": 16, "schedule.length": 4, "pool": 20, "data.blur_length": 60,
           "data.reblur_length": 60, "data.short_side": 200, "loss.reblur_scales": 6,
           "speed.workers": 0, "speed.threads": 2, "validation.images": 4, "data.held_out": 6,
           "data.highlights": 50, "data.directions": 20}  # fmt: skip
"""More than this is not trained with: it would take hours, as it should."""

ODD = (
    "nan", "inf", "-inf", "-1", "0", "1e300", "-0.0", "1e-300", "true", "x", "''", "[]", "{}",
    "[1, 2]", "[2, 1]", "[nan, 1]", "9223372036854775808", "-9223372036854775809", "0x10",
    "1979-05-27", "[[1]]", "\"\\u0000\"", "'../../x'", "'C:\\x'", "'\u001b[2J'",
)  # fmt: skip
"""Values as TOML spells them, wrong for most settings."""


@functools.cache
def images() -> dict[str, Any]:
    """Folders of images, as settings."""
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="fuzz-settings-"))
    make_both(root, sharp=10, blurry=4)
    return {"data.sharp": (str(root / "sharp"),), "data.blurry": (str(root / "blurry"),)}


def attack(seed: int, folder: Path) -> str:
    """One recipe with a few settings changed, started."""
    rng = random.Random(seed)
    recipe, out = folder / "r.toml", folder / "run"
    recipe.write_bytes(make(rng))
    before = contents(folder)
    arguments = [str(recipe), "--out", str(out), *options(rng)]
    with unittest.mock.patch("training.train.Run", functools.partial(start, folder)):
        status, said = train(arguments)
    if "Traceback" in said or (not status and not (folder / "accepted").exists()):
        raise Fault(f"status {status}: {said[-1500:]}")
    if (folder / "too large").exists():
        return "accepted, too large to be tried"
    if status:
        return check_refused(status, said, before, contents(folder))
    return "trained"


class TooLarge(SystemExit):
    """Nobody waits for this."""


def start(folder: Path, config: Config, out: Path) -> Any:
    """In place of `Run`: what gets here has been accepted."""
    from training.run.loop import Run

    (folder / "accepted").touch()
    check_accepted(config, folder)
    if is_too_large(config):
        (folder / "too large").touch()
        raise TooLarge(0)
    return Run(config, out)


def check_accepted(config: Config, folder: Path) -> None:
    """Raises Fault where a number is none, or the settings do not survive being written."""
    for name, value in settings_of(config):
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, (int, float)) and not (math.isfinite(one) and one >= 0):
                raise Fault(f"{name} = {one} was accepted")
    path = folder / "again.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    if load_recipe(path) != config:
        raise Fault("the settings read back as others")
    path.unlink()


def is_too_large(config: Config) -> bool:
    def above(name: str, value: Any) -> bool:
        numbers = value if isinstance(value, tuple) else (value,)
        return any(isinstance(n, (int, float)) and n > LARGEST[name] for n in numbers)

    values = dict(settings_of(config))
    whole = config.schedule.unit == "epochs" or len(config.stages) > 0
    return whole or any(above(name, values[name]) for name in LARGEST) or config.speed.compile


def check_refused(
    status: int, said: str, before: dict[Path, bytes | str], after: dict[Path, bytes | str]
) -> str:
    """Raises Fault unless a refusal is in plain words and has written nothing."""
    if status not in (1, 2):
        raise Fault(f"status {status}: {said[-1500:]}")
    if len(said.strip()) < 20:
        raise Fault(f"an unclear message: {said}")
    if "Stopped at step" in said:  # a loss became infinite: then a state is left to look at
        return "stopped"
    left = {p.name for p in after.keys() - before.keys()} - {".lock", "accepted"}
    if left:
        raise Fault(f"refused, but left {sorted(left)}: {said[-1500:]}")
    return "refused"


def make(rng: random.Random) -> bytes:
    """A recipe as a file: a shipped one, small, with a few settings changed, perhaps damaged."""
    names = rng.choice(([n for n in recipe_names() if "gopro" not in n], ["unpaired"]))
    config = load_recipe(rng.choice(names))
    values: dict[str, str] = {}
    for name, value in settings_of(dataclasses.replace(config, stages=())):
        value = {**SMALL, **images()}.get(name, value)
        if value is not None:
            values[name] = spell(value)
    for _ in range(rng.choice((1, 1, 2, 5))):
        name = rng.choice((*RANGES, *values))
        values[name] = change(rng, name)
    content = write(rng, values).encode("utf-8", "surrogatepass")
    return damage(rng, content) if rng.random() < 0.08 else content


def spell(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(spell, value))}]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def choices() -> dict[str, tuple[Any, ...]]:
    """Of the settings that are no numbers, what may be chosen."""
    found: dict[str, tuple[Any, ...]] = {}
    for field in dataclasses.fields(Config):
        table = get_type_hints(Config)[field.name]
        for name, hint in get_type_hints(table).items() if dataclasses.is_dataclass(table) else ():
            if get_origin(hint) is Literal:
                found[f"{field.name}.{name}"] = get_args(hint)
            elif hint is bool:
                found[f"{field.name}.{name}"] = (True, False)
    return found


def change(rng: random.Random, name: str) -> str:
    """Another value: within the range, at its ends, beyond, or something odd."""
    if rng.random() < 0.1:
        return rng.choice(ODD)
    allowed, value = RANGES.get(name), dict(settings_of(Config()))[name]
    if allowed is None:
        known = choices().get(name)
        return spell(rng.choice(known)) if known else rng.choice(ODD)
    low, high = float(allowed.low), float(allowed.high)
    near = low + min(high - low, rng.choice((1.0, 4.0, 40.0)))
    draw: Callable[[], float] = rng.choice((
        lambda: low, lambda: high, lambda: low - 1, lambda: high + 1,
        *[lambda: rng.uniform(low, near)] * 8,
    ))  # fmt: skip
    first = value[0] if isinstance(value, tuple) else value
    whole = isinstance(first, int) and rng.random() < 0.95

    def one() -> float:
        return int(draw()) if whole else draw()

    if not isinstance(value, tuple) and name not in ("data.curve", "data.reblur_length"):
        return repr(one())
    numbers = [one(), one()]
    return repr(sorted(numbers) if rng.random() < 0.9 else numbers)


def write(rng: random.Random, values: dict[str, str]) -> str:
    """Lines of TOML; now and then with a stage, or a key that is none."""
    tables: dict[str, list[str]] = {"": []}
    for name, text in values.items():
        table, _, key = name.rpartition(".")
        tables.setdefault(table, []).append(f"{key} = {text}")
    if rng.random() < 0.05:
        tables[rng.choice(list(tables))].append("unknown = 3")
    lines = [*tables.pop("")]
    for table, rows in tables.items():
        lines += [f"[{table}]", *rows]
    if rng.random() < 0.15:
        name = rng.choice(list(RANGES))
        length = rng.choice(("2", "2", "2", "0", "-1", "true", "1.5"))
        lines += ["[[stages]]", "name = 'a'", f"length = {length}"]
        lines += [f"{name} = {change(rng, name)}"]
    return "\n".join([*lines, ""])


def damage(rng: random.Random, content: bytes) -> bytes:
    """Other bytes, or the end missing."""
    damaged = bytearray(content)
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))]
    for _ in range(rng.choice((1, 3, 20))):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def options(rng: random.Random) -> list[str]:
    """Of the command line, over the recipe."""
    found = []
    for _ in range(rng.choice((0, 0, 1, 2))):
        name = rng.choice(list(RANGES))
        text = change(rng, name).strip("[]").replace(",", "").split()
        found += [f"--{name.replace('_', '-')}", *text]
    return found
