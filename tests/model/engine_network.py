"""A small network and images for it, for the tests of the engine."""

import pytest
import torch
from torch import Tensor, nn

from devudp_model.engine import winograd
from devudp_model.network.generator import Generator, Variant

needs_tiles = pytest.mark.skipif(not winograd.has_tiles(), reason="no oneDNN with packed weights")


def random_image(*shape: int, seed: int = 0) -> Tensor:
    """Random images in [0, 1] with coarse and fine structure, so that all scales matter."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 3, 4, generator=rng)
    coarse = nn.functional.interpolate(coarse, shape[2:], mode="bilinear")
    return (0.7 * coarse + 0.3 * torch.rand(shape, generator=rng)) * 0.9


def generator(variant: Variant, depth: int = 1) -> Generator:
    """Small, with weights of a size that keeps the numbers where a trained network has them."""
    torch.manual_seed(2)
    net = Generator(variant, width=8, depth=depth).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            nn.init.normal_(module.weight, std=(1 if variant == "devudp" else 0.5) * fan**-0.5)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)  # pyright: ignore[reportArgumentType]
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # pyright: ignore[reportArgumentType]
    return net
