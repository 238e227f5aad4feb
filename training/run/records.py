"""What a run leaves behind: settings, versions, data list, log, curve, samples.

RUN/
  config.toml     the resolved settings; `devudp-train resume RUN` reads them
  run.json        versions, seed, hardware, data hash, command line
  data.txt        every picture with its role and size
  log.jsonl       losses, one line each record.log_every steps
  curve.png       the same, drawn
  samples/        what the networks do, each record.sample_every steps
  tensorboard/    losses and samples
  states/         the last two states to resume from
  weights/        G's weights, each record.weights_every steps
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..config import Config, ConfigError
from ..data.domains import listing_hash
from ..settings import to_toml

logger = logging.getLogger("devudp")

PACKAGES = ("devudp", "torch", "accelerate", "numpy", "pillow", "safetensors")


def versions() -> dict[str, str]:
    """Of Python and the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # a clone that was not installed
            found[package] = "not installed"
    return found


def hardware(processes: int = 1) -> str:
    """The machine in a few words."""
    if torch.cuda.is_available():
        return f"{processes} x {torch.cuda.get_device_name()}"
    name = platform.processor() or platform.machine()
    return f"CPU ({name}), {processes} process(es) of {torch.get_num_threads()} thread(s)"


def claim_folder(out: Path) -> None:
    """Makes the run's folder.

    Raises:
        ConfigError: another run is in it already.
    """
    if (out / "config.toml").exists():
        raise ConfigError(
            f"{out} already holds a run. Go on with it by 'devudp-train resume {out}', or choose "
            "another folder with --out."
        )
    out.mkdir(parents=True, exist_ok=True)


def describe_run(out: Path, config: Config, listing: Sequence[str], processes: int) -> None:
    """Writes config.toml, run.json and data.txt."""
    (out / "config.toml").write_text(to_toml(config), encoding="utf-8")
    (out / "data.txt").write_text("\n".join(listing) + "\n", encoding="utf-8")
    about = {
        "seed": config.seed,
        "versions": versions(),
        "hardware": hardware(processes),
        "processes": processes,
        "data": {"pictures": len(listing), "sha256": listing_hash(listing)},
        "command": sys.argv,
    }
    (out / "run.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def check_same_data(out: Path, listing: Sequence[str]) -> None:
    """Warns if a run is resumed with other pictures than it began with."""
    before = json.loads((out / "run.json").read_text(encoding="utf-8"))["data"]["sha256"]
    if before != listing_hash(listing):
        logger.warning(
            "The pictures differ from those that %s began with (see its data.txt): it goes on "
            "with the new ones, and is not exactly what an uninterrupted run would have been.",
            out,
        )


class Log:
    """log.jsonl and TensorBoard.

    Args:
        out: the run's folder.
        step: lines beyond this step are dropped: a killed run had got further than its last state.
        tensorboard: whether to write TensorBoard's files too.
    """

    def __init__(self, out: Path, step: int, tensorboard: bool):
        self.path = out / "log.jsonl"
        kept = [line for line in read_log(out) if line["step"] <= step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self.board = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """One line; numbers go to TensorBoard too."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items() if self.board else ():
            if isinstance(value, (int, float)) and self.board:
                self.board.add_scalar(name, value, step)

    def picture(self, step: int, sheet: Tensor) -> None:
        """A sample sheet (H,W,3 uint8) to TensorBoard."""
        if self.board:
            self.board.add_image("samples", sheet, step, dataformats="HWC")

    def close(self) -> None:
        if self.board:
            self.board.close()


def read_log(out: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl; one that was cut off when the run was killed is left out."""
    path = out / "log.jsonl"
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def draw_curve(out: Path) -> Path | None:
    """curve.png from log.jsonl: every loss over the steps. None if there is nothing to draw."""
    lines = [line for line in read_log(out) if "G" in line]
    if not lines:
        return None
    from matplotlib.figure import Figure  # not pyplot: no window system is touched

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    names = {
        "adv": "L_adv (eq. 4)",
        "D": "L_D (eq. 3)",
        "recon": "L_recon (eq. 6)",
        "sr_B": "L_sr_B (eq. 8)",
        "sr_A": "L_sr_A (eq. 9)",
        "again": "blurred again",
        "ssim": "1 - SSIM",
        "lpips": "LPIPS",
    }
    for name, label in names.items():
        points = [(line["step"], line[name]) for line in lines if line.get(name)]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, linewidth=1)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out / "curve.png", dpi=120)
    return out / "curve.png"


def picture_sheet(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Rows of equally large pictures (3,H,W in [-1, 1]) side by side: H,W,3 uint8."""
    lines = [torch.cat([picture.float().cpu() for picture in row], dim=2) for row in rows]
    sheet = torch.cat(lines, dim=1).clamp(-1, 1)
    return ((sheet + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def write_picture(sheet: Tensor, path: Path) -> None:
    """H,W,3 uint8 as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.numpy()).save(path)
