"""A small network and images for it, for the tests of restore()."""

import torch
from torch import Tensor, nn

from devudp_model.network.generator import Generator, Variant
from devudp_model.restoring.options import Options

FP32 = Options(precision="fp32")


def generator(variant: Variant = "devudp") -> Generator:
    torch.manual_seed(2)
    net = Generator(variant, width=8, depth=1).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.7 * module.weight[0].numel() ** -0.5)
    return net


def random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 0.8 + 0.1
