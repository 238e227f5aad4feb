"""Says what to measure, where, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from devudp_model.engine.precision import Precision
from devudp_model.network.generator import Generator, Variant

Effort = Literal["full", "quick", "tiny"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Plan:
    """Says where to measure, and how much of it.

    Attributes:
        device: "cpu" or an accelerator.
        effort: `full`; `quick` with small images; `tiny` with a narrow network too, which only
            shows that everything runs.
        images: a folder, for the part precision.
        before: a checkout of another version, for the parts folders and versions.
        onnx: files of `devudp-train onnx`, for the part versions.
    """

    device: torch.device
    effort: Effort
    images: Path
    before: Path | None = None
    onnx: tuple[Path, ...] = ()

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def half(self) -> Precision:
        """Returns the 16-bit type that is fast here."""
        return "fp16" if self.cuda else "bf16"

    @property
    def precisions(self) -> list[Precision]:
        """fp32 and what the device does fast."""
        return ["fp32", "bf16", "fp16"] if self.cuda else ["fp32", "bf16"]

    @property
    def width(self) -> int:
        """Returns the network's width."""
        return 8 if self.effort == "tiny" else 64

    def net(self, variant: Variant = "devudp") -> Generator:
        """With random weights."""
        return Generator(variant, self.width).eval().requires_grad_(False).to(self.device)

    def sizes(self, full: list[Size], quick: list[Size]) -> list[Size]:
        """Returns the sizes for this effort."""
        tiny = [(64, 80), (96, 64)][: len(full)]
        return {"full": full, "quick": quick, "tiny": tiny}[self.effort]
