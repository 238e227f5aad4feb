"""Runs what the engine is compared with: the convolutions alone, and a textbook version."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from devudp_model.network.generator import Generator, InstanceNorm

from .measure import best_time


def textbook(generator: Generator, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The network as a textbook would write it in PyTorch, one operation after the other."""
    net = copy.deepcopy(generator).eval()
    for module in net.modules():
        if isinstance(module, InstanceNorm):
            module.forward = F.instance_norm  # pyright: ignore  (PyTorch's own)
    net.to(dtype)

    @torch.inference_mode()
    def run(image: Tensor) -> Tensor:
        return (net((image * 2 - 1).to(dtype)).float() + 1) / 2

    return run


def convolutions(
    channels: int, height: int, width: int
) -> Iterator[tuple[nn.Conv2d, tuple[int, ...]]]:
    """Every convolution of the network with the shape of its input, for an image of that size.

    `channels` is the network's width."""
    calls: list[tuple[nn.Conv2d, tuple[int, ...]]] = []

    def record(conv: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(conv, nn.Conv2d)
        calls.append((conv, tuple(inputs[0].shape)))

    with torch.device("meta"):
        net = Generator(width=channels)
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_pre_hook(record)
        net(torch.empty(1, 3, height, width))
    yield from calls


@torch.inference_mode()
def time_of_convolutions(
    channels: int, height: int, width: int, dtype: torch.dtype, device: torch.device
) -> float:
    """Seconds of all the network's convolutions, each timed alone in channels_last."""
    seconds = {}
    total = 0.0
    for conv, shape in convolutions(channels, height, width):
        key = (shape, tuple(conv.weight.shape), conv.stride)
        if key not in seconds:
            # Filled in place: it may be gigabytes, and a copy as much again.
            x = torch.empty(shape, dtype=dtype, device=device, memory_format=torch.channels_last)
            x.normal_()
            weight = torch.randn(conv.weight.shape, device=device).mul_(0.02)
            weight = weight.to(dtype, memory_format=torch.channels_last)
            stride, padding = conv.stride, conv.kernel_size[0] // 2

            def run(x=x, weight=weight, stride=stride, padding=padding) -> Tensor:
                return F.conv2d(x, weight, None, stride, padding)

            seconds[key] = best_time(run, device, share=1 / 6)
        total += seconds[key]
    return total


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of a large matrix product, which no convolution can be expected to beat."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / best_time(lambda: a @ b, device, share=1 / 6)


def multiply_adds(channels: int, height: int, width: int) -> float:
    """Multiplications of one forward pass, as the network is defined."""
    total = 0.0
    for conv, (_, _, rows, columns) in convolutions(channels, height, width):
        pixels = (rows // conv.stride[0]) * (columns // conv.stride[1])
        total += conv.weight.numel() * pixels
    return total
