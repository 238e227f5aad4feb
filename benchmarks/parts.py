"""What is measured: each part makes tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.generator import VARIANTS, Generator
from devudp_model.inference import Network
from devudp_model.restore import Options, Precision, restore

from .measure import best_time, in_new_process
from .networks import multiply_adds, textbook, time_of_convolutions

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

Cell = str | float


@dataclass
class Table:
    """Rows of numbers and what they are.

    Attributes:
        chart: the column that the chart shows, if any.
        labels: how many columns from the left name a row.
    """

    title: str
    header: list[str]
    rows: list[list[Cell]]
    note: str = ""
    chart: str = ""
    labels: int = 2

    def markdown(self) -> str:
        """As it stands in docs/performance.md."""
        lines = [f"## {self.title}", ""]
        lines += [" | ".join(["", *self.header, ""]).strip()]
        lines += ["|" + " --- |" * len(self.header)]
        for row in self.rows:
            cells = [cell if isinstance(cell, str) else f"{cell:.3g}" for cell in row]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines + (["", self.note] if self.note else []))


@dataclass(frozen=True)
class Plan:
    """Where to measure, and how much of it.

    Attributes:
        pictures: a folder, for the part precision.
    """

    device: torch.device
    quick: bool
    pictures: Path

    def precisions(self) -> list[Precision]:
        """fp32 and what the device does fast."""
        return ["fp32", "bf16", "fp16"] if self.device.type == "cuda" else ["fp32", "bf16"]


def speed(plan: Plan) -> list[Table]:
    """A whole call of `restore` over its convolutions' own time, and a textbook version over it."""
    sizes = {"256x256": (256, 256), "1280x720": (720, 1280)}
    if not plan.quick:
        sizes |= {"1920x1080": (1080, 1920), "4000x3000": (3000, 4000)}
    device = plan.device
    rows: list[list[Cell]] = []
    net = Generator().eval().requires_grad_(False).to(device)
    for name, size in sizes.items():
        image = torch.rand(1, 3, *size, device=device)
        simple: dict[Precision, float] = {}
        for precision in plan.precisions() if size[0] <= 720 else []:  # else minutes, gigabytes
            run = textbook(net, DTYPES[precision])
            simple[precision] = best_time(lambda run=run, x=image: run(x), device)
        for precision in plan.precisions():
            if precision == "fp32" and device.type == "cpu" and size[0] > 1080:
                continue  # minutes, and no other ratio than at 1920x1080
            options = Options(precision=precision)
            own = best_time(lambda: restore(image, net, options), device)  # noqa: B023
            alone = time_of_convolutions(*size, DTYPES[precision], device)
            times = [simple[p] / own if p in simple else "" for p in (precision, "fp32")]
            rate = 2e-12 * multiply_adds(*size) / own
            rows.append([name, precision, own, rate, own / alone, *times])
    header = ["picture", "precision", "seconds", "TFLOP/s", "over its convolutions"]
    header += ["textbook over it", "textbook in fp32 over it"]
    note = (
        "Over its convolutions: the time of `restore` over that of the network's convolutions, "
        "each called alone on the whole picture. Textbook over it: how many times as long the same "
        "network takes as one writes it down in PyTorch, in the same precision or in fp32."
    )
    return [Table("Speed", header, rows, note, chart="over its convolutions")]


def memory(plan: Plan) -> list[Table]:
    """Time and peak memory a pixel from 0.1 to 24 MP, and a large picture in bounded memory."""
    sizes = [(256, 400), (600, 840)] if plan.quick else [
        (256, 400), (600, 840), (1000, 2000), (2000, 3000), (3000, 4000), (4000, 6000)
    ]  # fmt: skip
    half: Precision = "fp16" if plan.device.type == "cuda" else "bf16"
    rows: list[list[Cell]] = []
    for precision in ("fp32", half):
        for height, width in sizes[: None if precision != "fp32" else 3]:
            found = in_new_process(height, width, precision, "--device", plan.device)
            pixels = height * width
            micro = 1e6 * found["seconds"] / pixels
            rows.append([f"{pixels / 1e6:.1f} MP", precision, micro, found["peak"] / pixels])
    header = ["picture", "precision", "microseconds a pixel", "peak bytes a pixel"]
    growth = Table("Growth with size", header, rows, chart="microseconds a pixel")
    growth.note = "Peak over input and output, of a first call: small pictures pay for starting."

    (height, width), bound = ((600, 840), 120e6) if plan.quick else ((4000, 6000), 1.5e9)
    device = ("--device", plan.device)
    found = in_new_process(height, width, half, "--memory", bound, *device)
    check = in_new_process(height, width, half, "--memory", bound, "--check", *device)
    row: list[Cell] = [
        f"{height * width / 1e6:.1f} MP",
        half,
        bound / 1e9,
        found["peak"] / 1e9,
        check["seconds"] / check["seconds_whole"],
        255 * check["difference"],
    ]
    header = ["picture", "precision", "bound, GB", "peak, GB", "time over unbounded"]
    header.append("largest difference, of 255")
    return [growth, Table("Bounded memory", header, [row])]


def precision(plan: Plan) -> list[Table]:
    """How far 16 bits are from float32 on pictures, with the weights that come along."""
    from devudp_model.pictures import read_picture

    paths = sorted(p for p in plan.pictures.rglob("*") if p.suffix.lower() in (".png", ".jpg"))
    rows: list[list[Cell]] = []
    for variant in VARIANTS:
        if not bundled(variant).exists():
            continue
        net = load_checkpoint(bundled(variant)).generator.to(plan.device)
        exact = Network(net, torch.float32)
        expected = [(x, exact(x)) for x in (read_picture(p).pixels[:, :3] for p in paths)]
        for name in ("bf16", "fp16"):
            half = Network(net, DTYPES[name])
            errors = [(half(x) - y).abs().mul_(255).flatten() for x, y in expected]
            rows.append([variant, name, *spread(torch.cat(errors)), str(len(errors))])
    header = ["weights", "precision", "mean", "99.9 % below", "largest", "pictures"]
    note = "Absolute differences from fp32, of 255."
    return [Table("Precision", header, rows, note, chart="mean")]


def spread(errors: Tensor) -> tuple[float, float, float]:
    """Mean, 99.9th percentile and maximum."""
    rank = max(1, round(0.999 * errors.numel()))
    return errors.mean().item(), errors.kthvalue(rank).values.item(), errors.max().item()


def peers(plan: Plan) -> list[Table]:
    """Other networks at the same input."""
    from .peers import networks

    side = 128 if plan.quick else 512
    image, device = torch.rand(1, 3, side, side, device=plan.device), plan.device
    net = Generator().eval().requires_grad_(False).to(device)
    own = best_time(lambda: restore(image, net, Options(precision="fp32")), device)
    parameters = sum(p.numel() for p in net.parameters()) / 1e6
    rows: list[list[Cell]] = [["DEvUDP", f"{parameters:.1f}", own, 1.0]]
    for name, make in networks().items():
        peer = make().eval().requires_grad_(False).to(device)
        with torch.inference_mode():
            seconds = best_time(lambda peer=peer: peer(image), device)
        parameters = sum(p.numel() for p in peer.parameters()) / 1e6
        rows.append([name, f"{parameters:.1f}", seconds, seconds / own])
    rows.sort(key=lambda row: row[2])
    header = ["network", "million parameters", "seconds", "times DEvUDP's"]
    title = f"Other networks at {side}x{side}, fp32"
    return [Table(title, header, rows, "With random weights.", chart="seconds", labels=1)]


PARTS: dict[str, Callable[[Plan], list[Table]]] = {
    "speed": speed,
    "memory": memory,
    "precision": precision,
    "peers": peers,
}
