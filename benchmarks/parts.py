"""Makes the tables, part by part."""

# pyright: reportMissingImports=false
# ray is optional: the extra "cluster".

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.engine.precision import DTYPES, Precision
from devudp_model.images.reading import read_image
from devudp_model.network.generator import VARIANTS, Generator
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.tasks import Task
from training.export.differences import measure_differences, tasks_of

from .folders import MIXED, table_of_folders, table_of_frames, table_of_large_file
from .measure import best_time, in_new_process, in_turns
from .networks import matrix_rate, multiply_adds, textbook, time_of_convolutions
from .plan import Plan, Size
from .tables import Cell, Table
from .versions import versions
from .ways import ways


def speed(plan: Plan) -> list[Table]:
    """Small images, compared with a textbook version too, which takes minutes for large ones."""
    sizes = plan.sizes([(256, 256), (720, 1280)], [(256, 256)])
    return [speed_table("Speed", plan, sizes, with_textbook=True)]


def speed_large(plan: Plan) -> list[Table]:
    """Large images."""
    sizes = plan.sizes([(1080, 1920), (3000, 4000)], [(512, 512)])
    return [speed_table("Speed with large images", plan, sizes, with_textbook=False)]


def speed_table(title: str, plan: Plan, sizes: list[Size], *, with_textbook: bool) -> Table:
    """Compares a call of `restore` with its bare convolutions, and with plain PyTorch."""
    net, device = plan.net(), plan.device
    rows: list[list[Cell]] = []
    for height, width in sizes:
        for batch in (1, 16) if plan.cuda and height == 720 else (1,):
            images = torch.rand(batch, 3, height, width, device=device)
            simple: dict[Precision, float] = {}
            for precision in plan.precisions if with_textbook and batch == 1 else []:
                run = textbook(net, DTYPES[precision])
                simple[precision] = best_time(lambda run=run, x=images: run(x), device)
            # In fp32 the largest convolution's input and output alone take 9 GB at 12 MP.
            large: list[Precision] = [plan.half]
            for precision in large if height * width > 8e6 else plan.precisions:
                options, dtype = Options(precision=precision), DTYPES[precision]
                own, alone = in_turns(
                    partial(best_time, partial(restore, images, net, options), device),
                    partial(time_of_convolutions, plan.width, height, width, dtype, device),
                )
                own /= batch
                rate = 2 * multiply_adds(plan.width, height, width) / own
                share = 100 * rate / matrix_rate(dtype, device)
                row = [f"{width}x{height}" + (f", {batch} at once" if batch > 1 else ""), precision]
                rows.append([*row, own, rate / 1e12, f"{share:.0f} %", own / alone])
                if with_textbook:
                    rows[-1] += [simple[p] / own if simple else "" for p in (precision, "fp32")]
    header = ["image", "precision", "seconds", "TFLOP/s", "of the matrix rate"]
    header.append("overhead against bare convolutions")
    note = (
        "Of the matrix rate: TFLOP/s over those of a large matrix product in this precision. "
        "Overhead against bare convolutions: the time of `restore` over that of the network's "
        "convolutions, each called alone on the whole image."
    )
    if with_textbook:
        header += ["plain PyTorch / DEvUDP", "plain PyTorch in fp32 / DEvUDP"]
        note += (
            " Plain PyTorch / DEvUDP: how many times as long the same network takes, written down "
            "in PyTorch."
        )
    return Table(title, header, rows, note)


def bounded(plan: Plan) -> list[Table]:
    """An image that exceeds its memory bound, compared with the same one without a bound."""
    bounds = {"full": ((4000, 6000), 1.5e9), "quick": ((600, 840), 120e6), "tiny": ((96, 64), 60e6)}
    (height, width), bound = bounds[plan.effort]
    found = one(plan, (height, width), plan.half, "--memory", bound, "--check")
    ratio = found["seconds"] / found["seconds_whole"]
    row: list[Cell] = [f"{height * width / 1e6:.2g} MP", plan.half, bound / 1e9]
    row += [found["peak"] / 1e9, ratio, 255 * found["difference"]]
    header = ["image", "precision", "bound, GB", "peak, GB", "time over unbounded"]
    header.append("largest difference, of 255")
    files = {"full": ((9000, 12000), "1GB"), "quick": ((3000, 4000), "500MB")}
    size, most = files.get(plan.effort, ((64, 96), "400MB"))
    table = Table("Bounded memory", header, [row], "Peak over input and output.")
    return [table, table_of_large_file(size, most)]


def one(plan: Plan, size: Size, precision: Precision, *arguments: object) -> dict[str, float]:
    """See one.py."""
    options = ("--device", plan.device, "--channels", plan.width)
    return in_new_process("benchmarks.one", *size, precision, *options, *arguments)


def folders(plan: Plan) -> list[Table]:
    """Folders of image files by the command line: what there is beside the network, and all."""
    size = plan.sizes([(720, 1280)], [(360, 640)])[0]
    few, many = (1, 3) if plan.effort == "tiny" else (5, 65)
    tables = [table_of_folders([size], few, many, 1, plan.before)]
    if plan.effort == "full":
        tables.append(table_of_folders([size], 1, 5, None, plan.before))
    count = {"full": 200, "quick": 20, "tiny": 3}[plan.effort]
    narrow = None if plan.effort == "full" else 1
    return [*tables, table_of_folders(MIXED, 0, count, narrow, plan.before)]


def precision(plan: Plan) -> list[Table]:
    """Measures how far 16 bits are from fp32 in restored images, with the bundled weights."""
    images = images_in(plan.images)
    if plan.effort == "tiny":
        images = [x[:, :, :64, :64] for x in images[:1]]
    nets = [load_checkpoint(bundled(v)).generator.to(plan.device) for v in VARIANTS]
    return [table_of_differences("Precision", [(net, tasks_of(net)) for net in nets], images)]


def images_in(folder: Path) -> list[Tensor]:
    """Reads the images below a folder, 1,C,H,W each."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg"))
    return [read_image(path).pixels[:, :3] for path in paths]


def table_of_differences(
    title: str, nets: Iterable[tuple[Generator, list[Task]]], images: list[Tensor]
) -> Table:
    """Makes a table of what `measure_differences` finds: of networks, for some tasks each."""
    rows: list[list[Cell]] = [
        [", ".join(tasks), name, *found, str(len(images))]
        for net, tasks in nets
        for name, found in measure_differences(net, {t: images for t in tasks}).items()
    ]
    header = ["task", "precision", "mean", "99.9 % below", "largest", "images"]
    note = (
        'Absolute differences of the restored images from those in fp32, of 255; "below" in the '
        "worst image."
    )
    return Table(title, header, rows, note)


def frames(plan: Plan) -> list[Table]:
    """Videos by the command line."""
    size = plan.sizes([(360, 640)], [(128, 128)])[0]
    few, many = (2, 4) if plan.effort == "tiny" else (8, 24)
    return [table_of_frames(size, few, many, plan.half, plan.device)]


def peers(plan: Plan) -> list[Table]:
    """Other networks at the same input."""
    from .peers import networks

    side = {"full": 512 if plan.cuda else 256, "quick": 128, "tiny": 128}[plan.effort]
    image, device = torch.rand(1, 3, side, side, device=plan.device), plan.device
    net = plan.net()
    own = best_time(lambda: restore(image, net, Options(precision="fp32")), device)
    parameters = sum(p.numel() for p in net.parameters()) / 1e6
    rows: list[list[Cell]] = [["DEvUDP", f"{parameters:.1f}", own, 1.0]]
    for name, make in networks().items():
        if plan.effort == "tiny" and name != "RetinexFormer":
            continue
        peer = make().eval().requires_grad_(False).to(device)
        with torch.inference_mode():
            seconds = best_time(lambda peer=peer: peer(image), device)
        parameters = sum(p.numel() for p in peer.parameters()) / 1e6
        rows.append([name, f"{parameters:.1f}", seconds, seconds / own])
    rows.sort(key=lambda row: row[2])
    header = ["network", "million parameters", "seconds", "times DEvUDP's"]
    title = f"Other networks at {side}x{side}, fp32"
    return [Table(title, header, rows, "With random weights.", chart="seconds", labels=1)]


def cluster(plan: Plan) -> list[Table]:
    """`devudp restore --cluster` against one process, and its memory; needs Ray, the extra."""
    import ray  # noqa: F401  (so that the part is left out where it is missing)

    from .cluster import table_of_memory, table_of_overhead

    full = plan.effort == "full"
    size, many, width = ((1224, 1632), 8, 16) if full else ((256, 256), 4, 4)
    return [
        table_of_overhead(size, 2, many, width),
        table_of_memory(3000 if full else 60, (64, 96)),
    ]


PARTS: dict[str, Callable[[Plan], list[Table]]] = {
    "speed": speed,
    "speed-large": speed_large,
    "bounded": bounded,
    "frames": frames,
    "folders": folders,
    "ways": ways,
    "versions": versions,
    "cluster": cluster,
    "precision": precision,
    "peers": peers,
}
"""In the order of the report."""
