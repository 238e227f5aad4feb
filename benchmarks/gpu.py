"""Measures a GPU and writes the table "On a GPU" of docs/performance.md. Needs CUDA.

python -m benchmarks.gpu                       # some minutes
python -m benchmarks.gpu --page my-gpu.md      # into another page

With the bundled weights, in fp16. With the package spandrel (see benchmarks/peers.py) other
networks are measured too. Close other programs that use the GPU first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from devudp_model.network.generator import Generator
from devudp_model.restoring.facts import generator_of
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.run_network import all_scales
from devudp_model.restoring.tasks import Task
from devudp_model.system.memory import is_out_of_memory
from devudp_model.task_weights import weights_of

from .measure import ROOT, best_time, machine, make_parser
from .networks import matrix_rate, multiply_adds
from .parts import images_in, table_of_differences
from .report import between
from .tables import Cell, Table

MARKS = "<!-- gpu: begin -->", "<!-- gpu: end -->"
"""The page's markers; what is between them is replaced."""

TASKS: tuple[Task, ...] = ("joint", "deblur")

ALLOCATIONS = ("empty", "new_empty")
"""Prefixes of the operations that only allocate memory."""


@dataclass(frozen=True)
class Plan:
    """Says what to measure.

    Attributes:
        size: height and width.
        batches: numbers of images in one call.
        images: a folder; differences from fp32 are measured on its images.
        load: gives a task's generator.
    """

    device: torch.device
    size: tuple[int, int] = (720, 1280)
    batches: Sequence[int] = (1, 16)
    images: Path = ROOT / "samples"
    load: Callable[[Task], Generator] = lambda task: generator_of(weights_of(None, "cpu")(task))


class CountOperations(TorchDispatchMode):
    """Counts what PyTorch dispatches within the block, except allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.partition("::")[2]
        self.count += not name.startswith(ALLOCATIONS)
        return func(*args, **(kwargs or {}))


def operations_of(run: Callable[[], object]) -> int:
    """Counts the operations of one call."""
    with CountOperations() as counter:
        run()
    return counter.count


def peak_of(run: Callable[[], object], device: torch.device) -> int:
    """The device's peak memory during a call, beyond what was allocated before, in bytes."""
    module = torch.get_device_module(device)
    module.synchronize()
    module.reset_peak_memory_stats()
    before = module.memory_allocated()
    run()
    module.synchronize()
    return module.max_memory_allocated() - before


def work_of(task: Task, generator: Generator, size: tuple[int, int]) -> float:
    """Multiplications of one image, those at coarser scales included."""
    height, width = size
    scales = all_scales(height, width, generator, Options(task))
    return sum(multiply_adds(generator.width, height // s, width // s) for s in scales)


def speed(plan: Plan) -> Table:
    """Speed, memory and operations of each task and batch."""
    device, (height, width) = plan.device, plan.size
    rows: list[list[Cell]] = []
    fastest = matrix_rate(torch.float16, device)
    for task in TASKS:
        net = plan.load(task).requires_grad_(False).to(device)
        options, work = Options(task, precision="fp16"), 2 * work_of(task, net, plan.size)
        for batch in plan.batches:
            images = torch.rand(batch, 3, height, width, device=device)

            def run(images: Tensor = images, options: Options = options, net: Any = net) -> None:
                restore(images, net, options)

            seconds = best_time(run, device) / batch
            share = f"{100 * work / seconds / fastest:.0f} %"
            row: list[Cell] = [task, str(batch), 1e3 * seconds, work / seconds / 1e12, share]
            rows.append([*row, peak_of(run, device) / 1e6, str(operations_of(run) // batch)])
    header = ["task", "images at once", "milliseconds an image", "TFLOP/s", "of the matrix rate"]
    header += ["peak MB", "operations an image"]
    note = (
        "Images lie on the GPU. Of the matrix rate: TFLOP/s over those of a large matrix product "
        "in fp16, measured in the same run. Peak over weights and input. Operations: all that "
        "PyTorch dispatches, views included."
    )
    return Table(f"On a GPU: {width}x{height}, fp16", header, rows, note)


def differences(plan: Plan) -> Table:
    """Measures how far results in 16 bits are from fp32, in the images that a user gets."""
    nets = ((plan.load(t).requires_grad_(False).to(plan.device), [t]) for t in TASKS)
    return table_of_differences("On a GPU: differences from fp32", nets, images_in(plan.images))


def others(plan: Plan, networks: dict[str, Callable[[], nn.Module]]) -> Table:
    """Other networks on one image of that size, in fp16 where they support it."""
    device, (height, width) = plan.device, plan.size
    image = torch.rand(1, 3, height, width, device=device)
    net = plan.load("joint").requires_grad_(False).to(device)
    options = Options("joint", precision="fp16")
    own = best_time(lambda: restore(image, net, options), device)
    million = sum(p.numel() for p in net.parameters()) / 1e6
    rows: list[list[Cell]] = [["DEvUDP, joint", f"{million:.1f}", 1e3 * own, 1.0]]
    for name, make in networks.items():
        peer = make().eval().requires_grad_(False)
        million = sum(p.numel() for p in peer.parameters()) / 1e6
        row: list[Cell] = [name, f"{million:.1f}"]
        try:
            seconds = time_of_peer(peer.to(device), image)
            rows.append([*row, 1e3 * seconds, seconds / own])
        except RuntimeError as error:
            reason = "out of memory" if is_out_of_memory(error) else str(error).splitlines()[0]
            rows.append([*row, reason, ""])
    header = ["network", "million parameters", "milliseconds", "times DEvUDP's"]
    note = "Others with random weights, under torch.autocast."
    return Table(f"On a GPU: other networks at {width}x{height}, fp16", header, rows, note)


@torch.inference_mode()
def time_of_peer(peer: nn.Module, image: Tensor) -> float:
    """Seconds of one call."""
    device = image.device
    fast = torch.autocast("cuda", torch.float16) if device.type == "cuda" else nullcontext()
    with fast:
        return best_time(lambda: peer(image), device)


def measure(plan: Plan) -> list[Table]:
    """Returns all tables; that of other networks only with spandrel."""
    from .peers import networks

    tables = [speed(plan), differences(plan)]
    try:
        found = networks()
    except ImportError as error:
        print(f"Other networks are left out: {error} (see benchmarks/peers.py)", file=sys.stderr)
        return tables
    return [*tables, others(plan, found)]


def write(page: Path, device: torch.device, tables: Sequence[Table]) -> None:
    """Puts tables between the page's markers; a page without markers gets both at its end."""
    day = datetime.now(timezone.utc).date()
    origin = f"Measured on {day} by `python -m benchmarks.gpu`: {machine(device)}."
    numbers = "\n\n".join([tables[0].markdown(), origin, *(t.markdown() for t in tables[1:])])
    text = page.read_text(encoding="utf-8") if page.exists() else "# Performance\n"
    if MARKS[0] not in text:
        text = f"{text}\n{MARKS[0]}\n{MARKS[1]}\n"
    page.write_text(between(text, MARKS, numbers), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    Raises:
        SystemExit: there is no CUDA.
    """
    parser = make_parser("benchmarks.gpu", __doc__)
    parser.add_argument(
        "--page",
        type=Path,
        default=ROOT / "docs" / "performance.md",
        metavar="FILE",
        help="gets the table; default: docs/performance.md",
    )
    parser.add_argument(
        "--images",
        type=Path,
        default=ROOT / "samples",
        metavar="DIR",
        help="to compare precisions on; default: samples",
    )
    args = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        sys.exit(
            f"No GPU to measure: PyTorch {torch.__version__} finds no CUDA "
            "(torch.cuda.is_available() is false). Install a PyTorch with CUDA on a machine with "
            "an NVIDIA GPU; for the processor there is python -m benchmarks."
        )
    plan = Plan(torch.device("cuda", torch.cuda.current_device()), images=args.images)
    tables = measure(plan)
    for table in tables:
        print(f"\n{table.markdown()}")
    write(args.page, plan.device, tables)
    print(f"\nwritten: {args.page}")


if __name__ == "__main__":
    main()
