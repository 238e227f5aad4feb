"""Names and folders: odd names, links, pipes, results that are there, results among the inputs."""

from __future__ import annotations

import contextlib
import io
import os
import random
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image

from devudp_model.checkpoint import save_checkpoint
from devudp_model.cli import main as cli
from tests.fuzz.harness import Fault, call
from tests.fuzz.images import UNFORESEEN, generator

NAMES = (
    "a.png", "A.png", "a.PNG", "b.jpg", "b.png", "b.bmp", "b_png.png", "a.compare.jpg", "c.tif",
    "é.png", "e\u0301.png", "写真.png", "\x1b[2J.png", "\u202egnp.png", "new\nline.png",
    "dot.dot.png", ".hidden.png", "-out.png", "--overwrite.png", " .png", "%s.png", "{x}.png",
    "*.png", "?.png", "[a].png", "a[page=3].tif", "'.png", '".png', "$(touch x).png", "\\.png",
    "con.png", "a" * 250 + ".png", "b" * 251 + ".tif", "x.heic", "x.gif", "notes.txt",
    ".devudp-0123.tmp", "bad\udcff.png",
)  # fmt: skip


def attack(seed: int, folder: Path) -> str:
    """One command on one tree of files."""
    rng = random.Random(seed)
    given, out = folder / "in", folder / "out"
    given.mkdir()
    plant(rng, given)
    if rng.random() < 0.3:
        out = given / "out"
    if rng.random() < 0.4:
        plant(rng, out)
    weights = folder / "w.safetensors"
    save_checkpoint(weights, generator(), {}, dtype=torch.float32)
    arguments = make_arguments(rng, given, out)
    before = contents(folder)
    arguments += ["--checkpoint", str(weights), "--device", "cpu"]
    status, said = call(lambda: cli.main(arguments))
    check(before, contents(folder), out, arguments, status, said)
    return f"status {status}"


def plant(rng: random.Random, root: Path) -> None:
    """Files, folders and links of all kinds."""
    root.mkdir(parents=True, exist_ok=True)
    folders = [root]
    for _ in range(rng.randint(1, 9)):
        parent = rng.choice(folders)
        path = parent / rng.choice(NAMES)
        kind = rng.choice(("image", "image", "image", "image", "bytes", "folder", "link", "loop",
                           "up", "dangling", "pipe", "empty"))  # fmt: skip
        with contextlib.suppress(OSError, ValueError):
            if os.path.lexists(path):
                continue
            if kind == "image":
                draw(rng, path)
            elif kind == "folder":
                path.mkdir()
                folders.append(path)
            elif kind == "link":
                path.symlink_to(rng.choice([p for p in root.rglob("*")] or [root]))
            elif kind == "loop":
                path.symlink_to(path.name)
            elif kind == "up":
                path.symlink_to("..")
            elif kind == "dangling":
                path.symlink_to("nowhere/at/all.png")
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                path.write_bytes(b"" if kind == "empty" else rng.randbytes(50))


def draw(rng: random.Random, path: Path) -> None:
    pixels = Image.frombytes("RGB", (9, 7), rng.randbytes(9 * 7 * 3))
    format = {".jpg": "JPEG", ".tif": "TIFF", ".bmp": "BMP"}.get(path.suffix.lower(), "PNG")
    file = io.BytesIO()
    pixels.save(file, format)
    path.write_bytes(file.getvalue())


def make_arguments(rng: random.Random, given: Path, out: Path) -> list[str]:
    paths = [given, *given.rglob("*")]
    chosen = [str(given)] if rng.random() < 0.6 else [str(rng.choice(paths)) for _ in range(2)]
    options = ["--format", rng.choice(("png", "same", "jpeg", "tiff"))]
    for option in ("--recursive", "--compare", "--verbose"):
        options += [option] if rng.random() < 0.4 else []
    existing = rng.choice(("", "", "--overwrite", "--skip-existing"))
    options += [existing] if existing else []
    options += ["--statistics", "shared"] if rng.random() < 0.2 else []
    place = rng.choice((str(out), str(out), str(out), str(given), "", str(given / "a.png")))
    return ["restore", *chosen, "--out", place, *options]


def contents(folder: Path) -> dict[Path, bytes | str]:
    """What every file holds, and where every link leads."""
    found: dict[Path, bytes | str] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_symlink():
                found[path] = str(path.readlink())
            elif path.is_file():
                found[path] = path.read_bytes()
    return found


def check(
    before: dict[Path, bytes | str],
    after: dict[Path, bytes | str],
    out: Path,
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    """Raises Fault unless only what was asked for was written."""
    place = Path(arguments[arguments.index("--out") + 1])
    with suppress(OSError, RuntimeError):  # a link to itself
        place = place.resolve()
    lost = [path for path in before if path not in after and not leftover(path)]
    if lost:
        raise Fault(f"gone: {lost}")
    overwrite = "--overwrite" in arguments
    changed = [path for path in before if path in after and before[path] != after[path]]
    if any(not overwrite or not path.resolve().is_relative_to(place) for path in changed):
        raise Fault(f"changed: {changed}")
    new = [path for path in after if path not in before]
    if any(not path.resolve().is_relative_to(place) for path in new):
        raise Fault(f"written elsewhere: {new}")
    if any(leftover(path) for path in new):
        raise Fault(f"left over: {new}")
    if UNFORESEEN in said or ("Traceback" in said and "--verbose" not in arguments):
        raise Fault(said[-1500:])
    if status not in (0, 1, 2):
        raise Fault(f"status {status}")
    if status == 1 and not said.strip():
        raise Fault("failed without a word")
    odd = {sign for sign in said if not sign.isprintable()} - {"\n"}
    if odd:
        raise Fault(f"{odd!r} reached the terminal: {said[-500:]!r}")


def leftover(path: Path) -> bool:
    return path.name.startswith(".devudp-") and path.name.endswith(".tmp")
