"""Draws docs/architecture.png from the generator's own modules.

python -m tools.make_architecture          # needs the extra "train" (matplotlib)
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch
from torch import nn

from devudp_model.network.generator import Generator
from devudp_model.network.topology import Operation

FIGURE = Path(__file__).parents[1] / "docs" / "architecture.png"

PLACES: dict[str, tuple[int, int]] = {
    "input": (0, 0),
    "stem": (1, 0),
    "encode1": (2, 0),
    "down1": (2, 1),
    "encode2": (3, 1),
    "down2": (3, 2),
    "encode3": (4, 2),
    "decode3": (5, 2),
    "up2": (5, 1),
    "decode2": (6, 1),
    "up1": (6, 0),
    "decode1": (7, 0),
    "head": (8, 0),
    "output": (9, 0),
}
"""Column and row of each box; the rows are the three scales."""

STAGES = list(PLACES)[1:-1]
ARROWS = list(itertools.pairwise(PLACES))
SKIPS = [("encode1", "decode1"), ("encode2", "decode2")]

BOX_W, BOX_H = 122, 94
STEP_X, STEP_Y = 141, 138
LEFT, TOP = 74, 196
WIDTH, HEIGHT = 1420, 640
POINTS = 72 / 100
"""Of a pixel: the figure has 100 pixels to an inch."""

INK, QUIET, ACCENT = "#1f2933", "#5b6672", "#b42318"
FILLS = {"conv": "#e3edf9", "blocks": "#d6eadf", "scale": "#fbe8c8", "end": "#f1f3f5"}


class Stage(NamedTuple):
    """One box: what the module does, channels and scale of what comes out, and its weights."""

    lines: tuple[str, ...]
    channels: int
    scale: int
    parameters: int


def follow(generator: Generator) -> dict[str, Stage]:
    """Returns every stage as it is: from the generator's operations and its modules."""
    stages: dict[str, Stage] = {}
    scale = 1
    for name in STAGES:
        own = [each for each in generator.operations if each.conv.split(".")[0] == name]
        for each in own:
            scale = {"down": scale * 2, "up": scale // 2}.get(each.kind, scale)
        conv = generator.get_submodule(own[-1].conv)
        assert isinstance(conv, nn.Conv2d)
        parameters = sum(p.numel() for p in generator.get_submodule(name).parameters())
        stages[name] = Stage(in_words(own, conv), conv.out_channels, scale, parameters)
    return stages


def in_words(operations: list[Operation], conv: nn.Conv2d) -> tuple[str, ...]:
    """Says what a stage does; `conv` is its last convolution."""
    if len(operations) > 1:
        return (f"{sum(each.add for each in operations)} residual blocks",)
    words = f"conv {conv.kernel_size[0]}x{conv.kernel_size[1]}"
    if conv.stride[0] > 1:
        words += f", stride {conv.stride[0]}"
    if conv.bias is not None:
        return (words, "with bias")
    first = "nearest x 2" if operations[0].kind == "up" else ""
    return tuple(filter(None, (first, words, "norm, ReLU")))


def size(channels: int, scale: int) -> str:
    side = "" if scale == 1 else f"/{scale}"
    return f"{channels} x H{side} x W{side}"


def labels() -> dict[str, list[str]]:
    """Returns all that the boxes say, by stage."""
    stages = follow(Generator("devudp"))
    other = follow(Generator("devudp-dt"))
    assert all(stages[n][:3] == other[n][:3] for n in STAGES), "the variants differ in a shape"
    found = {name: [*s.lines, size(s.channels, s.scale)] for name, s in stages.items()}
    found["input"] = ["[-1, 1]", size(3, 1)]
    found["output"] = ["[-1, 1]", size(3, 1)]
    return found


def variants() -> list[list[str]]:
    """Lists what differs, a row each, and the number of parameters."""
    rows = [["", "devudp (Fig. 5a)", "devudp-dt (Fig. 5b)"]]
    models = [Generator("devudp"), Generator("devudp-dt")]
    norms = {"instance": "InstanceNorm, no parameters", "batch": "BatchNorm, with parameters"}
    rows.append(["norm", *(norms[m.norm] for m in models)])
    rows.append(
        ["input", *("standardised" if m.norm == "instance" else "as it is" for m in models)]
    )
    activations = {False: "tanh(head)", True: "hardtanh(head + input)"}
    rows.append(["output", *(activations[m.shortcut] for m in models)])
    counts = [sum(p.numel() for p in m.parameters()) for m in models]
    rows.append(["parameters", *(f"{count:,}" for count in counts)])
    return rows


def centre(name: str) -> tuple[float, float]:
    column, row = PLACES[name]
    return LEFT + column * STEP_X, TOP + row * STEP_Y


def fill(name: str) -> str:
    if name in ("input", "output"):
        return FILLS["end"]
    if name.startswith(("encode", "decode")):
        return FILLS["blocks"]
    return FILLS["scale" if name.startswith(("down", "up")) else "conv"]


def write(ax: Any, x: float, y: float, text: str, pixels: int, **style: Any) -> None:
    ax.text(x, y, text, fontsize=pixels * POINTS, **{"va": "center", "color": INK, **style})


def draw_box(ax: Any, name: str, lines: list[str]) -> None:
    x, y = centre(name)
    ax.add_patch(
        FancyBboxPatch(
            (x - BOX_W / 2, y - BOX_H / 2),
            BOX_W,
            BOX_H,
            boxstyle="round,pad=0,rounding_size=7",
            facecolor=fill(name),
            edgecolor=INK,
            lw=1,
        )
    )
    write(ax, x, y - 34, name, 15, ha="center", weight="bold")
    for number, line in enumerate(lines):
        last = number == len(lines) - 1
        height = y + 35 if last else y - 14 + 15 * number
        write(ax, x, height, line, 12, ha="center", color=QUIET if last else INK)


def arrow(ax: Any, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
    style = {"arrowstyle": "-|>", "color": INK, "lw": 1.3, "shrinkA": 0, "shrinkB": 0, **style}
    ax.annotate("", xy=end, xytext=start, arrowprops=style)


def draw_arrows(ax: Any) -> None:
    for first, second in ARROWS:
        (x0, y0), (x1, y1) = centre(first), centre(second)
        if y0 == y1:
            arrow(ax, (x0 + BOX_W / 2, y0), (x1 - BOX_W / 2, y1))
        else:
            sign = 1 if y1 > y0 else -1
            arrow(ax, (x0, y0 + sign * BOX_H / 2), (x1, y1 - sign * BOX_H / 2))
    for first, second in SKIPS:
        (x0, y0), (x1, y1) = centre(first), centre(second)
        draw_detour(ax, x0, x1 - STEP_X / 2, y0 - BOX_H / 2, y1, y0 - 62, INK, "-")
        draw_plus(ax, x1 - STEP_X / 2, y1, INK)


def draw_detour(
    ax: Any, x0: float, x1: float, y0: float, y1: float, above: float, color: str, line: Any
) -> None:
    """Up from a box's edge, along, and down to an addition."""
    ax.plot([x0, x0, x1, x1], [y0, above, above, y1 - 8], color=color, lw=1.3, linestyle=line)


def draw_plus(ax: Any, x: float, y: float, color: str) -> None:
    ax.plot(x, y, "o", ms=13, mfc="white", mec=color, mew=1.3, zorder=5)
    write(ax, x, y, "+", 15, ha="center", va="center_baseline", color=color, zorder=6)


def draw_shortcut(ax: Any) -> None:
    """DEvUDP-DT's: the input is added before the output activation."""
    x0, y0 = centre("input")
    x1 = centre("output")[0] - STEP_X / 2
    draw_detour(ax, x0, x1, y0 - BOX_H / 2, y0, y0 - 96, ACCENT, (0, (5, 3)))
    draw_plus(ax, x1, y0, ACCENT)
    text = "devudp-dt only: the input is added before the output activation"
    write(ax, (x0 + x1) / 2, y0 - 103, text, 14, ha="center", va="bottom", color=ACCENT)


def draw_table(ax: Any, rows: list[list[str]]) -> None:
    left, top = 866, 488
    columns = (left, left + 100, left + 318)
    for number, row in enumerate(rows):
        y = top + 27 * number
        for x, text in zip(columns, row, strict=True):
            bold = number == 0 or x == left
            write(ax, x, y, text, 14, weight="bold" if bold else "normal")
        ax.plot([left - 8, left + 534], [y + 14, y + 14], color="#cbd2d9", lw=0.8)


def draw(path: Path) -> None:
    """The figure; what it says also stands in the file, for the test that it is current."""
    texts, rows = labels(), variants()
    plt.rcParams["font.family"] = "DejaVu Sans"
    figure = plt.figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100, facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    ax.axis("off")
    write(ax, 20, 28, "The generator G", 22, weight="bold")
    text = "In each box: what it does, and the shape of what comes out. A residual block: "
    write(
        ax, 20, 56, f"{text}conv 3x3, norm, ReLU, conv 3x3, norm; plus its input.", 14, color=QUIET
    )
    draw_shortcut(ax)
    draw_arrows(ax)
    for name in PLACES:
        draw_box(ax, name, texts[name])
    draw_table(ax, rows)
    figure.savefig(path, dpi=150, metadata={"Software": "", "Description": described(texts, rows)})
    plt.close(figure)


def described(texts: dict[str, list[str]], rows: list[list[str]]) -> str:
    return json.dumps({"boxes": texts, "variants": rows}, sort_keys=True)


if __name__ == "__main__":
    draw(FIGURE)
    print(f"Wrote {FIGURE}")
