"""The generator G, and G_inv, which has the same structure.

Two variants of one network (paper, section 3.3):

- ``devudp`` (Fig. 5a), the perceptual model: InstanceNorm without affine parameters, no global
  shortcut, tanh output. It deblurs and corrects the exposure.
- ``devudp-dt`` (Fig. 5b), the distortion model: BatchNorm, and the input added before the output
  activation. It deblurs and keeps the exposure.

    from devudp_model.network.generator import Generator
    G = Generator("devudp")
    L = G(A)                     # A: B,3,H,W in [-1, 1], any size from 1x1; L: the same
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .instance_norm import NORM_EPS, InstanceNorm

Variant = Literal["devudp", "devudp-dt"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

Norm = Literal["instance", "batch"]

STRIDE = 4
"""The network halves the image twice, so it works on multiples of this many pixels."""

MIN_SIDE = 8
"""Smallest side inside the network: below it the coarsest scale has nothing to normalise over."""

STANDARDIZE_EPS = 1e-8


def standardize(x: Tensor) -> Tensor:
    """Each image with mean 0 and standard deviation 1 over its channels and pixels together.

    The perceptual model forgets one gain and one offset of its input anyway (a convolution without
    bias followed by InstanceNorm). Taking them out beforehand, in float32, changes nothing in exact
    arithmetic, and makes a dark image, a few grey levels beside -1, survive half precision.

    Shapes: B,C,H,W to B,C,H,W.
    """
    # Not torch.var_mean over a 16-bit tensor: the difference to -1 is what has to be kept.
    var, mean = torch.var_mean(x.float(), dim=(1, 2, 3), correction=0, keepdim=True)
    return ((x.float() - mean) * torch.rsqrt(var + STANDARDIZE_EPS)).to(x.dtype)


def pad_to_stride(x: Tensor) -> Tensor:
    """Grows B,C,H,W at the bottom and the right to multiples of `STRIDE`, at least `MIN_SIDE`.

    By reflection; a side too short to be reflected (up to 4 pixels) repeats its last line.
    """
    for axis in (2, 3):
        size = x.shape[axis]
        grow = max(-(-size // STRIDE) * STRIDE, MIN_SIDE) - size
        if grow:
            mode = "reflect" if grow < size else "replicate"
            x = F.pad(x, (0, 0, 0, grow) if axis == 2 else (0, grow, 0, 0), mode=mode)
    return x


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """A normalisation for `channels` channels."""
    return InstanceNorm() if norm == "instance" else nn.BatchNorm2d(channels, eps=NORM_EPS)


def gain_and_bias(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm in eval mode as x gain + bias, a number per channel each; float64."""
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


class ConvNorm(nn.Module):
    """Convolution without bias (a norm would take it out again), norm, ReLU."""

    def __init__(
        self,
        norm: Norm,
        inner: int,
        outer: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        padding_mode: Literal["zeros", "reflect"] = "zeros",
    ):
        super().__init__()
        self.conv = nn.Conv2d(
            inner, outer, kernel, stride, kernel // 2, bias=False, padding_mode=padding_mode
        )
        self.norm = make_norm(norm, outer)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(conv_norm(self.conv, self.norm, x))


class ResidualBlock(nn.Module):
    """Conv 3x3, norm, ReLU, conv 3x3, norm; plus the input."""

    def __init__(self, norm: Norm, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = make_norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = make_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(conv_norm(self.conv1, self.norm1, x))
        return x + conv_norm(self.conv2, self.norm2, inner)


class Upsample(ConvNorm):
    """Nearest-neighbour by 2, then convolution: a transposed convolution leaves checkerboards."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Generator(nn.Module):
    """G: blurry (and dark) images to sharp (and well exposed) ones.

    Args:
        variant: ``devudp`` (Fig. 5a) or ``devudp-dt`` (Fig. 5b).
        width: channels at full resolution; twice and four times as many at the coarser scales.
        depth: residual blocks in each of the six stages.
        norm, shortcut: for the paper's ablations, what to have instead of the variant's own
            normalisation, and of its global shortcut or lack of one.

    With the paper's width 64 and depth 2: 6,949,251 and 6,957,699 parameters.

    Raises:
        ValueError: unknown variant, or width or depth below 1.
    """

    def __init__(
        self,
        variant: Variant = "devudp",
        width: int = 64,
        depth: int = 2,
        *,
        norm: Norm | None = None,
        shortcut: bool | None = None,
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"unknown variant {variant!r}: choose one of {', '.join(VARIANTS)}")
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth must be at least 1, not {width} and {depth}")
        self.variant: Variant = variant
        self.width, self.depth = width, depth
        self.norm: Norm = norm or ("instance" if variant == "devudp" else "batch")
        self.shortcut = variant == "devudp-dt" if shortcut is None else shortcut
        self.facts: Any = None
        """What its checkpoint says of it, for those who restore; nothing here looks at it."""
        fine, middle, coarse = width, 2 * width, 4 * width

        def stage(channels: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(self.norm, channels) for _ in range(depth)))

        # The stem pads by reflection: zeros, mid-grey in [-1, 1], would tell the network at the
        # borders how dark the image is. With reflection G(a x + b) = G(x) holds everywhere.
        self.stem = ConvNorm(self.norm, 3, fine, kernel=7, padding_mode="reflect")
        self.encode1 = stage(fine)
        self.down1 = ConvNorm(self.norm, fine, middle, stride=2)
        self.encode2 = stage(middle)
        self.down2 = ConvNorm(self.norm, middle, coarse, stride=2)
        self.encode3 = stage(coarse)
        self.decode3 = stage(coarse)
        self.up2 = Upsample(self.norm, coarse, middle)
        self.decode2 = stage(middle)
        self.up1 = Upsample(self.norm, middle, fine)
        self.decode1 = stage(fine)
        self.head = nn.Conv2d(fine, 3, 7, padding=3)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights from N(0, 0.02), as usual for GANs; with a shortcut, G starts as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(self.head.bias)  # pyright: ignore[reportArgumentType]
        if self.shortcut:
            nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        """B,3,H,W in [-1, 1], H and W at least 1, to the same shape and range."""
        height, width = x.shape[-2:]
        x = pad_to_stride(x)
        out = self.body(standardize(x) if self.norm == "instance" else x)
        return self.activate(out, x)[..., :height, :width]

    def body(self, x: Tensor) -> Tensor:
        """From the stem to the head: B,3,H,W, sides multiples of `STRIDE`, to the same shape."""
        fine = self.encode1(self.stem(x))
        middle = self.encode2(self.down1(fine))
        coarse = self.decode3(self.encode3(self.down2(middle)))
        middle = self.decode2(self.up2(coarse) + middle)
        fine = self.decode1(self.up1(middle) + fine)
        return self.head(fine)

    def activate(self, out: Tensor, x: Tensor) -> Tensor:
        """The output activation: `out` from the head and the (padded) input to [-1, 1].

        DT adds the input, and its activation is the hard tanh: with it a residual of zero is the
        identity, while tanh(x + 0) would turn white (1) into 0.76 and have to be unlearnt.
        """
        if not self.shortcut:
            return torch.tanh(out)
        # The gradient passes where the output is cut off, too: else a pixel that has once left
        # [-1, 1] never comes back, and a network whose pixels all have is dead.
        out = out + x
        return out + (F.hardtanh(out) - out).detach() if out.requires_grad else F.hardtanh(out)


def conv_norm_pairs(generator: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Every normalisation with the convolution before it: owner, the convolution's name, norm."""
    for module in generator.modules():
        if isinstance(module, ConvNorm):
            yield module, "conv", module.norm
        elif isinstance(module, ResidualBlock):
            yield module, "conv1", module.norm1
            yield module, "conv2", module.norm2


@torch.no_grad()
def fold_batchnorm(generator: Generator) -> Generator:
    """A copy whose BatchNorms (as in eval mode) are part of the convolutions before them.

    norm(w x) = (w x - mean) gamma / sqrt(var + eps) + beta is a convolution with the weights
    w gamma / sqrt(var + eps) and a bias. Computed in float64. The perceptual model, whose norms
    depend on the image, comes back as an unchanged copy.
    """
    folded = copy.deepcopy(generator)
    for owner, conv_name, norm in list(conv_norm_pairs(folded)):
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        conv = owner.get_submodule(conv_name)
        assert isinstance(conv, nn.Conv2d)
        gain, bias = gain_and_bias(norm)
        weight = conv.weight.double() * gain[:, None, None, None]
        grad, dtype = conv.weight.requires_grad, conv.weight.dtype
        conv.weight = nn.Parameter(weight.to(dtype), requires_grad=grad)
        conv.bias = nn.Parameter(bias.to(dtype), requires_grad=grad)
        setattr(owner, conv_name.replace("conv", "norm"), nn.Identity())
    return folded
