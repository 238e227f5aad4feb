"""A long life of a real ComfyUI: thousands of prompts, and its memory stays flat.

    python -m tests.fuzz.soak --prompts 2000 --csv tests/fuzz/soak.csv

Small images through random tasks. Every 20th prompt is cancelled, every 50th runs out of memory,
some name a checkpoint that is damaged. Each has to end with the image that the command line makes,
or with the error that belongs to it. Beyond the first 100 prompts, memory may grow by 5 %.
"""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.network.generator import Generator
from devudp_model.restorer import Restorer
from devudp_model.restoring.options import Options
from devudp_model.restoring.tasks import Task, bundled_variant
from tests.fuzz.harness import Fault
from tests.host.conftest import PACK, fill_base
from tests.host.environment import prepare
from tests.host.prompts import Builder, let_go
from tests.host.server import Run, Server, install_pack, make_base, serve

CANCELLED_EVERY, SCARCE_EVERY, DAMAGED_EVERY = 20, 50, 33
WARM_UP, GROWTH = 100, 1.05
"""Prompts until all is loaded once, and how many times the memory of then is allowed."""

WEIGHTS_BYTES = 50 * 2**20
"""Less than both bundled generators have together."""

TASKS = ("auto", "joint", "deblur", "low light")
CHECKPOINTS = ("small.safetensors", "small-dt.safetensors", "bundled")
SIDE, LONG_BATCH = 64, 60


@dataclass(frozen=True)
class Wish:
    """What a prompt asks for."""

    image: str
    task: str
    checkpoint: str
    strength: float


@dataclass
class Soak:
    """What happened.

    Attributes:
        outcomes: how often each.
        curve: prompts so far, seconds so far, resident bytes of the server.
        weights: bytes in tensors before and after the host was asked to free memory.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    curve: list[tuple[int, float, int]] = field(default_factory=list)
    weights: tuple[int, int] = (0, 0)

    def growth(self) -> float:
        """The most memory after the warm-up, by that at its end."""
        late = [bytes for prompts, _, bytes in self.curve if prompts >= WARM_UP]
        return max(late) / late[0] if late else 1.0


def draw_images(folder: Path) -> list[str]:
    """Small images of several kinds; their names."""
    rng = np.random.default_rng(3)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    photo = small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    images = {
        "photo": photo,
        "dark": photo.point([value // 7 for value in range(256)] * 3),
        "wide": photo.resize((90, 41)),
        "noise": Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)),
        "flat": Image.new("RGB", (SIDE, SIDE), (40, 80, 160)),
    }
    for name, image in images.items():
        image.save(folder / f"soak-{name}.png")
    return [f"soak-{name}.png" for name in images]


def wishes(rng: random.Random, images: list[str]) -> Iterator[Wish]:
    """Every task with every checkpoint, so that all is loaded once; then at random."""
    for task, checkpoint in itertools.product(TASKS, CHECKPOINTS):
        yield Wish(images[1], task, checkpoint, 1.0)
    while True:
        [checkpoint] = rng.choices(CHECKPOINTS, (10, 10, 1))
        yield Wish(rng.choice(images), rng.choice(TASKS), checkpoint, rng.choice((0.3, 0.7, 1.0)))


class Expected:
    """The images that the command line makes, each made once."""

    def __init__(self, base: Path):
        self.base = base
        self.image = functools.cache(self.make)
        self.generator = functools.cache(self.load)

    def load(self, checkpoint: str, task: Task) -> Generator:
        bundle = checkpoint == "bundled"
        path = bundled(bundled_variant(task)) if bundle else self.base / "models/devudp"
        return load_checkpoint(path if bundle else path / checkpoint).generator

    def make(self, asked: Wish) -> np.ndarray:
        """H,W,3 uint8."""
        with Image.open(self.base / "input" / asked.image) as opened:
            pixels = torch.from_numpy(np.array(opened)).permute(2, 0, 1)[None] / 255
        restorer = Restorer(
            lambda task: self.generator(asked.checkpoint, task),
            asked.task,
            Options(strength=asked.strength),
        )
        values = restorer(pixels)[0].permute(1, 2, 0).clamp(0, 1) * 255
        return values.numpy().round().astype(np.uint8)


class Life:
    """Prompts to one server, one after the other."""

    def __init__(self, server: Server, seed: int):
        self.server, self.rng = server, random.Random(seed)
        self.images, self.expected = draw_images(server.base / "input"), Expected(server.base)
        self.wishes = wishes(self.rng, self.images)
        self.process = psutil.Process(server.pid)

    def prompt(self, number: int) -> str:
        """One prompt; returns what became of it.

        Raises:
            Fault: it is neither right nor refused.
        """
        if number % CANCELLED_EVERY == 0:
            return self.cancel()
        if number % SCARCE_EVERY == SCARCE_EVERY // 2:
            return self.run_out(for_good=self.rng.random() < 0.5)
        if number % DAMAGED_EVERY == 0:
            return self.damaged()
        asked = next(self.wishes)
        return self.check(asked, *self.send(asked))

    def send(self, asked: Wish) -> tuple[str, str]:
        """The prompt's id, and the node that saves the image."""
        build = Builder()
        image = build.load(asked.image)
        more = {"checkpoint": asked.checkpoint, "strength": asked.strength}
        saved = build.save(build.restore(image, task=asked.task, **more))
        return self.server.submit(build.prompt), saved

    def check(self, asked: Wish, prompt_id: str, saved: str) -> str:
        run = self.server.wait(prompt_id)
        if run.status != "success":
            raise Fault(f"{asked}: {run.status}: {run.error}")
        [found], right = self.server.images(run, saved), self.expected.image(asked)
        # Save Image cuts the fraction of a grey level off where the command line rounds.
        if found.shape != right.shape or np.abs(found.astype(int) - right).max() > 1:
            raise Fault(f"{asked}: another image than the command line's")
        return "right"

    def cancel(self) -> str:
        """A long batch, cancelled while it runs."""
        build = Builder()
        batch = build.repeat(build.load(self.rng.choice(self.images)), LONG_BATCH)
        statistics = self.rng.choice(("each image", "shared"))
        build.save(build.restore(batch, checkpoint="small-dt.safetensors", statistics=statistics))
        prompt_id = self.server.submit(build.prompt)
        while not self.server.get("/queue")["queue_running"]:
            if self.server.get(f"/history/{prompt_id}"):
                break
            time.sleep(0.01)
        time.sleep(self.rng.uniform(0, 0.2))
        self.server.post("/interrupt", {})
        run = self.server.wait(prompt_id)
        if run.status not in ("interrupted", "success"):
            raise Fault(f"cancelled: {run.status}: {run.error}")
        return "cancelled" if run.status == "interrupted" else "done before it was cancelled"

    def run_out(self, *, for_good: bool) -> str:
        """Memory that runs out twice, or every time."""
        asked = next(self.wishes)
        self.server.post("/tests/scarce", {"times": 1000 if for_good else 2})
        try:
            sent = self.send(asked)
            run = self.server.wait(sent[0])
        finally:
            self.server.post("/tests/scarce", {"times": 0})
        if run.status == "success":  # also where there was nothing to restore
            return f"{self.check(asked, *sent)}, out of memory before"
        if not for_good or "Out of memory on cpu" not in run.error:
            raise Fault(f"{asked}: {run.status}: {run.error}")
        return "out of memory"

    def damaged(self) -> str:
        """A checkpoint of which the end is missing."""
        asked = Wish(self.rng.choice(self.images), "joint", "cut off.safetensors", 1.0)
        run: Run = self.server.wait(self.send(asked)[0])
        if run.status != "error" or "Download or copy it again" not in run.error:
            raise Fault(f"{asked}: {run.status}: {run.error}")
        return "refused"

    def free(self) -> tuple[int, int]:
        """Bytes in tensors with both bundled generators loaded, and after they were let go."""
        build = Builder()
        image = build.load(self.images[0])
        for task in ("joint", "deblur"):
            build.save(build.restore(image, task=task, checkpoint="bundled"))
        self.server.run(build.prompt)
        before = self.server.get("/tests/memory")["tensors"]
        let_go(self.server, self.images[1])
        return before, self.server.get("/tests/memory")["tensors"]


def soak(server: Server, prompts: int, result: Soak, *, seed: int = 0, every: int = 10) -> None:
    """Runs the prompts; notes the memory after every so many in `result`.

    Raises:
        Fault: a prompt is neither right nor refused, with its number.
    """
    life, start = Life(server, seed), time.monotonic()
    for number in range(1, prompts + 1):
        try:
            result.outcomes[life.prompt(number)] += 1
        except Fault as fault:
            raise Fault(f"prompt {number} of seed {seed}: {fault}") from fault
        resident = life.process.memory_info().rss
        if number % every == 0:
            result.curve.append((number, time.monotonic() - start, resident))
        if number % 100 == 0:
            print(f"{number}: {resident / 1e6:.0f} MB, {dict(result.outcomes)}", flush=True)
    result.weights = life.free()


@contextmanager
def started() -> Iterator[Server]:
    """A ComfyUI of its own."""
    with tempfile.TemporaryDirectory(prefix="devudp-soak-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        make_base(base)
        fill_base(base, np.zeros((96, 128, 3), np.uint8))
        install_pack(base / "custom_nodes" / PACK)
        with serve(prepare(), base) as server:
            yield server


def write_csv(path: Path, result: Soak) -> None:
    """The curve."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("prompts", "seconds", "resident_mb"))
        writer.writerows((n, f"{s:.0f}", f"{b / 1e6:.1f}") for n, s, b in result.curve)


def main() -> int:
    """The command line; see above."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.soak")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, help="where the curve goes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = Soak()
    try:
        with started() as server:
            soak(server, args.prompts, result, seed=args.seed)
    finally:
        if args.csv:
            write_csv(args.csv, result)
    before, after = result.weights
    print(f"{args.prompts} prompts: {dict(result.outcomes)}")
    print(f"memory after {WARM_UP} prompts: at most x {result.growth():.3f}")
    print(f"tensors: {before / 2**20:.0f} MiB, after /free {after / 2**20:.0f} MiB")
    flat, given_back = result.growth() <= GROWTH, before - after > WEIGHTS_BYTES
    return 0 if flat and given_back else 1


if __name__ == "__main__":
    sys.exit(main())
