"""BatchNorm in eval mode, as a part of the convolution before it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .topology import SomeNetwork


def gain_and_bias(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Returns BatchNorm in eval mode as x gain + bias, a number per channel each; float64."""
    assert norm.running_mean is not None and norm.running_var is not None
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return gain, norm.bias.double() - norm.running_mean.double() * gain


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """B,C,H,W through a convolution without bias and the norm after it.

    On a CPU without compiling, a frozen BatchNorm is trained as a part of the convolution: its own
    passes over all features, forward and backward, take longer than those over the weights.
    """
    eager = x.device.type == "cpu" and not torch.compiler.is_compiling()
    trained = eager and torch.is_grad_enabled()
    if not trained or norm.training or not isinstance(norm, nn.BatchNorm2d):
        return norm(conv(x))
    gain, bias = (each.to(conv.weight.dtype) for each in gain_and_bias(norm))
    return conv._conv_forward(x, conv.weight * gain[:, None, None, None], bias)


@torch.no_grad()
def fold_batchnorm(network: SomeNetwork) -> SomeNetwork:
    """Returns a copy whose BatchNorms (as in eval mode) are part of the convolutions before them.

    norm(w x) = (w x - mean) gamma / sqrt(var + eps) + beta is a convolution with the weights
    w gamma / sqrt(var + eps) and a bias. Computed in float64. The perceptual model, whose norms
    depend on the image, comes back as an unchanged copy.
    """
    folded = copy.deepcopy(network)
    for operation in folded.operations:
        norm = None if operation.norm is None else folded.get_submodule(operation.norm)
        if operation.norm is None or not isinstance(norm, nn.BatchNorm2d):
            continue
        conv = folded.get_submodule(operation.conv)
        assert isinstance(conv, nn.Conv2d)
        gain, bias = gain_and_bias(norm)
        weight = conv.weight.double() * gain[:, None, None, None]
        grad, dtype = conv.weight.requires_grad, conv.weight.dtype
        conv.weight = nn.Parameter(weight.to(dtype), requires_grad=grad)
        conv.bias = nn.Parameter(bias.to(dtype), requires_grad=grad)
        owner, _, name = operation.norm.rpartition(".")
        setattr(folded.get_submodule(owner), name, nn.Identity())
    return folded
