"""Checkpoints: loaded into a network that runs, or refused in plain words; no code in them runs."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import warnings
import zipfile
from pathlib import Path

import torch

from devudp_model.checkpoint import CheckpointError, load_checkpoint
from devudp_model.network import tensor_files
from devudp_model.network.generator import Generator
from tests.fuzz.harness import Fault

DTYPES = (
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool,
    torch.complex64, torch.float8_e4m3fn, torch.int8,
)  # fmt: skip
VALUES = (float("nan"), float("inf"), 1e38, -1e30, 0.0, 1e6)


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@functools.cache
def weights(variant: str, width: int, depth: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return Generator(variant, width, depth).eval().state_dict()  # pyright: ignore


def attack(seed: int, folder: Path) -> str:
    """Loads one file, and runs what comes of it."""
    torch.set_num_threads(1)
    tensor_files.SAFE_PICKLES = "2.0"  # whatever torch is here: the files are the harness's own
    rng = random.Random(seed)
    trace = folder / "trace"
    path, sound = make(rng, folder, trace)
    return load(path, trace, sound=sound)


def load(path: Path, trace: Path, *, sound: bool = False) -> str:
    """Loads a file, and runs what comes of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            generator = load_checkpoint(path).generator
    except CheckpointError as error:
        if trace.exists():
            raise Fault("code in the file was run") from error
        if sound:
            raise Fault(f"a sound file is refused: {error}") from error
        if len(str(error)) < 40 or str(path) not in str(error):
            raise Fault(f"an unclear message: {error}") from error
        return "refused"
    if trace.exists():
        raise Fault("code in the file was run")
    if any(p.dtype != torch.float32 or not p.isfinite().all() for p in generator.parameters()):
        raise Fault("weights are not finite float32")
    output = generator(torch.rand(1, 3, 16, 16) * 2 - 1)
    return "loaded" if output.isfinite().all() else "loaded, output not finite"


def make(rng: random.Random, folder: Path, trace: Path) -> tuple[Path, bool]:
    """A file of some kind, and whether it has to be loaded."""
    kind = rng.choice(("sound", "bytes", "bytes", "bytes", "cut", "header", "tensors", "code",
                       "bomb", "place"))  # fmt: skip
    suffix = rng.choice((".safetensors", ".safetensors", ".pth", ".pt", ".ckpt"))
    path = folder / f"a{suffix}"
    tensors = dict(weights(rng.choice(("devudp", "devudp-dt")), rng.choice((1, 2, 5)), 1))
    if kind == "tensors":
        spoil(rng, tensors)
    content = encode(rng, tensors, suffix)
    if kind == "header" and suffix == ".safetensors":
        content = other_header(rng, content)
    elif kind in ("bytes", "header"):
        damaged = bytearray(content)
        reach = rng.choice((100, 1500, len(damaged)))
        for _ in range(rng.choice((1, 3, 40))):
            damaged[rng.randrange(min(reach, len(damaged)))] = rng.randrange(256)
        content = bytes(damaged)
    elif kind == "cut":
        content = content[: rng.randrange(len(content))]
    elif kind == "code":
        content = with_code(rng, tensors, trace)
    elif kind == "bomb":
        content = bomb(rng, suffix)
    elif kind == "place" and hasattr(os, "mkfifo"):
        odd_place(rng, path)
        return path, False
    path.write_bytes(content)
    return path, kind == "sound"


def encode(rng: random.Random, tensors: dict[str, torch.Tensor], suffix: str) -> bytes:
    if suffix == ".safetensors":
        described = {"recipe": "x" * rng.choice((0, 5000)), "\x1b[2J": "\n"}
        return tensor_files.encode_safetensors(tensors, described)
    file = io.BytesIO()
    wrapped = rng.choice((tensors, {"params_ema": tensors}, {"state_dict": tensors, "step": 3}))
    torch.save(wrapped, file, _use_new_zipfile_serialization=rng.random() < 0.6)
    return file.getvalue()


def spoil(rng: random.Random, tensors: dict[str, torch.Tensor]) -> None:
    """Other names, shapes, kinds of numbers, values."""
    for _ in range(rng.choice((1, 1, 4))):
        name = rng.choice(list(tensors))
        tensor = tensors[name]
        change = rng.choice(("gone", "added", "dtype", "shape", "value", "view"))
        if change == "gone" and len(tensors) > 1:
            del tensors[name]
        elif change == "added":
            tensors[f"encode1.{rng.randint(1, 99)}.conv1.weight"] = torch.zeros(0)
        elif change == "dtype":
            tensors[name] = tensor.to(rng.choice(DTYPES))
        elif change == "shape":
            sides = [rng.choice((side, 0, 1, side + 1)) for side in tensor.shape]
            tensors[name] = torch.zeros(*sides) if sides else torch.zeros(3)
        elif change == "value" and tensor.is_floating_point() and tensor.numel():
            tensors[name] = tensor.clone()
            tensors[name].view(-1)[0] = rng.choice(VALUES)


def other_header(rng: random.Random, content: bytes) -> bytes:
    """Safetensors with a header that says something else."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for _ in range(rng.choice((1, 2))):
        name = rng.choice(list(header))
        if name == "__metadata__":
            odd = rng.choice((["x"], {"format_version": rng.choice(("2", "x", "1", "٣"))}, 3, None))
            header[name] = odd
            continue
        field = rng.choice(("shape", "dtype", "data_offsets"))
        header[name][field] = rng.choice({
            "shape": ([2048, 0, 7, 7], [2**40], [-1], [], [100_000, 0, 3, 3]),
            "dtype": ("F8_E4M3", "BOOL", "I64", "F64", "nothing"),
            "data_offsets": ([0, 2**40], [-1, 3], [10, 0], [0]),
        }[field])  # fmt: skip
    text = json.dumps(header).encode()
    length = rng.choice((len(text), len(text), len(text), 2**62, 0))
    return length.to_bytes(8, "little") + text + content[8 + len(text) :]


def with_code(rng: random.Random, tensors: dict[str, torch.Tensor], trace: Path) -> bytes:
    file = io.BytesIO()
    content = rng.choice(({**tensors, "x": Evil(trace)}, {"state_dict": Evil(trace)}, Evil(trace)))
    torch.save(content, file, _use_new_zipfile_serialization=rng.random() < 0.5)
    return file.getvalue()


def bomb(rng: random.Random, suffix: str) -> bytes:
    """A small file that claims much."""
    width = rng.choice((512, 2048, 100_000))
    if suffix == ".safetensors":
        empty = {"dtype": "F32", "shape": [width, 0, 7, 7], "data_offsets": [0, 0]}
        names = [
            "stem.conv.weight",
            *(f"encode1.{i}.conv1.weight" for i in range(rng.choice((1, 900)))),
        ]
        text = json.dumps(dict.fromkeys(names, empty)).encode()
        return len(text).to_bytes(8, "little") + text
    file = io.BytesIO()
    if rng.random() < 0.5:  # one number, seen as many
        wide = torch.zeros(1).expand(width, 3, 7, 7)
        torch.save({"stem.conv.weight": wide, "encode1.0.conv1.weight": wide}, file)
        return file.getvalue()
    torch.save({"a": torch.zeros(10_000_000)}, file)
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
        zipfile.ZipFile(file) as given,
    ):
        for entry in given.infolist():
            target.writestr(entry.filename, given.read(entry))
        for number in range(rng.choice((0, 20))):
            target.writestr(f"archive/data/{number + 7}", bytes(40_000_000))
    return packed.getvalue()


def odd_place(rng: random.Random, path: Path) -> None:
    """Not a file, or one that cannot be reached."""
    kind = rng.choice(("pipe", "loop", "folder", "absent", "device", "empty"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        with contextlib.suppress(OSError):
            path.symlink_to("/dev/zero")
    elif kind == "empty":
        path.touch()
