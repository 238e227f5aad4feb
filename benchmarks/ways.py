"""Ways to less work: 8 bits, coarser copies, a working size; each against what it replaces."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from devudp_model.engine.int8_product import has_int8
from devudp_model.engine.precision import Precision
from devudp_model.restoring.options import Options
from devudp_model.restoring.restoration import restore
from devudp_model.restoring.tasks import bundled_variant

from .measure import best_time, in_turns
from .plan import Plan
from .tables import Cell, Table


def ways(plan: Plan) -> list[Table]:
    """Makes a row for each way: its seconds, and how many times those of the other way."""
    small, large = plan.sizes([(720, 1280), (4000, 6000)], [(360, 640), (1000, 1500)])
    pixels = {"full": 2_000_000, "quick": 250_000, "tiny": 1000}[plan.effort]
    rows: list[list[Cell]] = []

    def row(what: str, size: tuple[int, int], way: Options, other: Options) -> None:
        net = plan.net(bundled_variant(way.task))
        image = torch.rand(1, 3, *size, device=plan.device)
        runs: list[Callable[[], float]] = [
            partial(best_time, partial(restore, image, net, options), plan.device)
            for options in (way, other)
        ]
        seconds, others = in_turns(*runs)
        name = f"{size[1]}x{size[0]}"
        rows.append([what, name, way.precision, seconds, seconds / others])

    def deblur(precision: Precision, *, coarse: bool = True) -> Options:
        return Options("deblur", precision=precision, coarse=coarse)

    if not plan.cuda and has_int8():
        row("`deblur` in int8, over fp32", small, deblur("int8"), deblur("fp32"))
    for precision in plan.precisions:
        alone = deblur(precision, coarse=False)
        row("`deblur`, over the full size alone", small, deblur(precision), alone)
    whole = Options(precision=plan.half)
    working = Options(precision=plan.half, working_size=pixels)
    what = f"`joint` with a working size of {pixels / 1e6:g} MP, over the image itself"
    row(what, large, working, whole)
    note = "With random weights. In turns, the least of several runs of each."
    header = ["what", "image", "precision", "seconds", "times the other"]
    return [Table("Ways to less work", header, rows, note)]
