"""Checkpoints for the tests of their files."""

from __future__ import annotations

import torch
from torch import nn

from devudp_model.network.generator import Generator, Variant


def make_generator(variant: Variant = "devudp", *, width: int = 8, depth: int = 1) -> Generator:
    """Small, with BatchNorm statistics as far from their start as training brings them."""
    torch.manual_seed(0)
    generator = Generator(variant, width, depth)
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 1e-3, 2)
    nn.init.normal_(generator.head.weight, std=0.1)
    return generator.eval()
