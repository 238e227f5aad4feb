"""A pool of earlier restored pictures for D to learn from (CycleGAN's remedy for oscillation)."""

from __future__ import annotations

import torch
from torch import Tensor


class PicturePool:
    """Hands out L as it comes in until it is full; then half of the time an earlier one.

    Args:
        size: pictures kept; 0: every picture is handed out as it came in.
        seed: of the pool's own random numbers.
    """

    def __init__(self, size: int, seed: int = 0):
        self.size = size
        self.rng = torch.Generator().manual_seed(seed)
        self.pictures: list[Tensor] = []

    def __call__(self, L: Tensor) -> Tensor:
        """B,3,H,W in, B,3,H,W out."""
        if self.size == 0:
            return L
        chosen = []
        for picture in L:
            if len(self.pictures) < self.size:
                self.pictures.append(picture)
            elif torch.rand((), generator=self.rng) < 0.5:
                place = int(torch.randint(self.size, (), generator=self.rng))
                picture, self.pictures[place] = self.pictures[place], picture
            chosen.append(picture)
        return torch.stack(chosen)

    def state(self) -> dict:
        """What `load` puts back."""
        return {"pictures": [p.cpu() for p in self.pictures], "rng": self.rng.get_state()}

    def load(self, state: dict, device: torch.device) -> None:
        self.pictures = [p.to(device) for p in state["pictures"]]
        self.rng.set_state(state["rng"])
