"""A pool of earlier restored images for D to learn from (CycleGAN's remedy for oscillation)."""

from __future__ import annotations

import torch
from torch import Tensor


class ImagePool:
    """Returns L unchanged until the pool is full; then an earlier image half of the time.

    Args:
        size: images kept; 0: every image is returned unchanged.
        seed: for the pool's own random numbers.
    """

    def __init__(self, size: int, seed: int = 0):
        self.size = size
        self.rng = torch.Generator().manual_seed(seed)
        self.images: list[Tensor] = []

    def __call__(self, L: Tensor) -> Tensor:
        """B,3,H,W in, B,3,H,W out."""
        if self.size == 0:
            return L
        if self.images and self.images[0].shape != L.shape[1:]:
            self.images.clear()  # a new stage may have crops of another size
        chosen = []
        for image in L:
            if len(self.images) < self.size:
                self.images.append(image)
            elif torch.rand((), generator=self.rng) < 0.5:
                place = int(torch.randint(self.size, (), generator=self.rng))
                image, self.images[place] = self.images[place], image
            chosen.append(image)
        return torch.stack(chosen)

    def state(self) -> dict:
        """Returns what `load` puts back."""
        return {"images": [image.cpu() for image in self.images], "rng": self.rng.get_state()}

    def load(self, state: dict, device: torch.device) -> None:
        """Puts back what `state` returned.

        Raises:
            ValueError: its images are not of one kind.
        """
        self.images = [image.to(device) for image in state["images"]]
        if len({(image.shape, image.dtype) for image in self.images}) > 1:
            raise ValueError("the pool's images are of several sizes or types")
        self.rng.set_state(state["rng"])
