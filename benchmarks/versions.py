"""Tasks by default settings, beside an earlier version of the project and other programs.

python -m benchmarks versions --before FOLDER --onnx FILE ...
python -m benchmarks.versions 720 1280 deblur int8       # what one process measures, as JSON

For processors of other kinds than this one, oneDNN is kept from instructions that they lack. All
run in one process, in turns. What counts is processor time: other work on the machine changes it
least.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType

import torch

from devudp_model import Options, restore
from devudp_model.engine.precision import PRECISIONS, Precision
from devudp_model.network.generator import Variant
from devudp_model.task_weights import weights_of
from training.export.agreement import load_onnxruntime, load_openvino

from .measure import in_new_process
from .plan import Plan
from .tables import Cell, Table

KINDS: dict[str, Precision] = {
    "": "auto",
    "AVX512_CORE_VNNI": "int8",
    "AVX2_VNNI": "int8",
    "AVX2": "fp32",
}
"""Instructions that oneDNN may use (none named: all), and what `auto` takes for `deblur` on such a
processor. `joint` is in fp32 on all of them, but for its second network, in 16 bits where these are
fast."""

TASKS: dict[str, Variant] = {"deblur": "devudp-dt", "joint": "devudp"}
"""The tasks to time, and the weights of each."""

TURNS = 2
"""The fastest one counts."""

OWN = "this version"

Run = Callable[[], object]


def versions(plan: Plan) -> list[Table]:
    """Makes a row for each kind of processor and each program."""
    size = plan.sizes([(720, 1280)], [(360, 640)])[0]
    rows: list[list[Cell]] = []
    for kind, precision in list(KINDS.items())[: 2 if plan.effort == "tiny" else None]:
        for task in TASKS:
            # A processor without 16 bits: `auto` would go by this one, which has them, perhaps.
            wanted = precision if task == "deblur" or not kind else "fp32"
            arguments: list[object] = [*size, task, wanted]
            if plan.before is not None:
                arguments += ["--before", plan.before]
            if plan.onnx and not kind:  # they do not ask oneDNN, or one of their own
                arguments += ["--onnx", *plan.onnx]
            environment = {"ONEDNN_MAX_CPU_ISA": kind} if kind else {}
            if kind.startswith("AVX2"):
                environment["ATEN_CPU_CAPABILITY"] = "avx2"
            found = in_new_process("benchmarks.versions", *arguments, environment=environment)
            for name, seconds in found.items():
                rows.append([kind or "all", task, name, seconds, seconds / found[OWN]])
    header = ["instructions", "task", "program", "processor seconds", "times this version's"]
    note = (
        f"{size[1]}x{size[0]}, by default settings: {OWN} takes int8 for `deblur` with VNNI alone, "
        "fp32 with neither that nor 16 bits, and for the first network of `joint` always. The "
        "other networks and programs do the full size alone; `deblur` does a half and a quarter of "
        "it before, `joint` a half with the network of `deblur` afterwards, since 0.12.0, and what "
        f"follows the networks. The fastest of {TURNS} turns."
    )
    return [Table("Tasks, by the processor's instructions", header, rows, note)]


def runs(args: argparse.Namespace) -> Iterator[tuple[str, Run]]:
    """Yields what to time, by name."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, args.height // 8, args.width // 8)
    image = torch.nn.functional.interpolate(coarse, (args.height, args.width), mode="bicubic")
    image = image.clamp_(0, 1)
    if args.before is not None:
        before = other_version(args.before)
        earlier = args.precision if args.precision in ("auto", "fp32") else "fp32"
        options = before.Options(args.task, precision=earlier)
        generator = before.load_checkpoint(before.bundled(TASKS[args.task])).generator
        yield f"before, {earlier}", partial(before.restore, image, generator, options)
    own = weights_of(None, "cpu")(args.task)
    yield OWN, partial(restore, image, own, Options(args.task, precision=args.precision))
    with suppress(ImportError):
        from .peers import networks

        nafnet = networks()["NAFNet-32"]().eval().requires_grad_(False)
        yield "NAFNet-32, PyTorch, fp32", partial(nafnet, image)
    for path in args.onnx:
        for program, load in {"onnxruntime": load_onnxruntime, "OpenVINO": load_openvino}.items():
            with suppress(ImportError):
                yield f"{path.name}, {program}", partial(load(path), image.numpy())


def other_version(folder: Path) -> ModuleType:
    """Imports the package of another version's checkout, beside this one."""
    package = folder / "devudp_model"
    spec = importlib.util.spec_from_file_location(
        "before", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["before"] = module
    spec.loader.exec_module(module)
    return module


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions")
    parser.add_argument("height", type=int, help="of the image, in pixels")
    parser.add_argument("width", type=int, help="of the image, in pixels")
    parser.add_argument("task", choices=list(TASKS), help="what to do")
    parser.add_argument("precision", choices=PRECISIONS, help="of this version")
    parser.add_argument("--before", type=Path, help="a checkout of another version")
    parser.add_argument("--onnx", type=Path, nargs="+", default=[], help="files to run beside")
    args = parser.parse_args()
    found = dict(runs(args))
    seconds: dict[str, float] = {}
    for _ in range(TURNS):
        for name, run in found.items():
            start = time.process_time()
            run()
            took = time.process_time() - start
            seconds[name] = min(seconds.get(name, took), took)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
