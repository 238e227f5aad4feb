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

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .batch_norm import conv_norm
from .instance_norm import NORM_EPS, InstanceNorm, normalize
from .topology import Operation, Operations, residual_block

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
    # In float32: the difference to -1 is what has to be kept.
    return normalize(x, (1, 2, 3), STANDARDIZE_EPS)[0].to(x.dtype)


def pad_to_stride(x: Tensor, stride: int = STRIDE, min_side: int = MIN_SIDE) -> Tensor:
    """Grows B,C,H,W at the bottom and the right to multiples of `stride`, at least `min_side`.

    By reflection; a side too short to be reflected (up to 4 pixels) repeats its last line.
    """
    for axis in (2, 3):
        size = x.shape[axis]
        grow = max(-(-size // stride) * stride, min_side) - size
        if grow:
            mode = "reflect" if grow < size else "replicate"
            x = F.pad(x, (0, 0, 0, grow) if axis == 2 else (0, grow, 0, 0), mode=mode)
    return x


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """Returns a normalisation for `channels` channels."""
    return InstanceNorm() if norm == "instance" else nn.BatchNorm2d(channels, eps=NORM_EPS)


class ConvNorm(nn.Module):
    """Convolution without bias (a norm would take it out again) and norm: one operation's."""

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


class ResidualBlock(nn.Module):
    """The modules of `residual_block`: conv 3x3, norm, ReLU, conv 3x3, norm; plus the input."""

    def __init__(self, norm: Norm, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = make_norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = make_norm(norm, channels)


class Generator(nn.Module):
    """G: blurry (and dark) images to sharp (and well exposed) ones.

    Args:
        variant: ``devudp`` (Fig. 5a) or ``devudp-dt`` (Fig. 5b).
        width: channels at full resolution; twice and four times as many at the coarser scales.
        depth: residual blocks in each of the six stages.
        norm, shortcut: for the paper's ablations, what to have instead of the variant's own
            normalisation, and of its global shortcut or lack of one.

    Attributes:
        operations: of which `body` consists; the modules only hold the weights.

    With the paper's width 64 and depth 2: 6,949,251 and 6,957,699 parameters.

    Raises:
        ValueError: unknown variant, or width or depth below 1.
    """

    stride, min_side = STRIDE, MIN_SIDE

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
        self.operations = operations_of(depth)
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
        self.up2 = ConvNorm(self.norm, coarse, middle)
        self.decode2 = stage(middle)
        self.up1 = ConvNorm(self.norm, middle, fine)
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

    @property
    def standardized(self) -> bool:
        """True if the input is standardized (see `standardize`)."""
        return self.norm == "instance"

    @property
    def has_droplets(self) -> bool:
        """True if the output may have droplets: see engine/droplets.py."""
        return self.standardized and not self.shortcut

    def forward(self, x: Tensor) -> Tensor:
        """B,3,H,W in [-1, 1], H and W at least 1, to the same shape and range."""
        height, width = x.shape[-2:]
        x = pad_to_stride(x)
        out = self.body(standardize(x) if self.standardized else x)
        return self.activate(out, x)[..., :height, :width]

    def body(self, x: Tensor) -> Tensor:
        """From the stem to the head: B,3,H,W, sides multiples of `STRIDE`, to the same shape."""
        skips: list[Tensor] = []
        for operation in self.operations:
            if operation.keep:
                skips.append(x)
            x = self.convolve(operation, x)
            if operation.add:
                x = x + skips.pop()
        return x

    def convolve(self, operation: Operation, x: Tensor) -> Tensor:
        """Runs an operation on B,C,H,W, but for what it keeps and adds."""
        if operation.kind == "up":
            # Nearest-neighbour, then convolution: a transposed convolution leaves checkerboards.
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        conv = self.get_submodule(operation.conv)
        assert isinstance(conv, nn.Conv2d)
        if operation.norm is None:
            x = conv(x)
        else:
            x = conv_norm(conv, self.get_submodule(operation.norm), x)
        return F.relu(x) if operation.relu else x

    def activate(self, out: Tensor, x: Tensor) -> Tensor:
        """Returns the output activation: `out` from the head and the (padded) input to [-1, 1].

        DT adds the input, and its activation is the hard tanh: with it a residual of zero is the
        identity, while tanh(x + 0) would turn white (1) into 0.76 and have to be unlearnt.
        """
        if not self.shortcut:
            return torch.tanh(out)
        # The gradient passes where the output is cut off, too: else a pixel that has once left
        # [-1, 1] never comes back, and a network whose pixels all have is dead.
        out = out + x
        return out + (F.hardtanh(out) - out).detach() if out.requires_grad else F.hardtanh(out)


def operations_of(depth: int) -> Operations:
    """Returns the operations of a generator with `depth` residual blocks a stage (Fig. 5)."""

    def stage(name: str) -> Operations:
        return sum((residual_block(f"{name}.{index}") for index in range(depth)), ())

    return (
        Operation("stem.conv", "stem.norm", "stem"),
        *stage("encode1"),
        Operation("down1.conv", "down1.norm", "down", keep=True),
        *stage("encode2"),
        Operation("down2.conv", "down2.norm", "down", keep=True),
        *stage("encode3"),
        *stage("decode3"),
        Operation("up2.conv", "up2.norm", "up", add=True),
        *stage("decode2"),
        Operation("up1.conv", "up1.norm", "up", add=True),
        *stage("decode1"),
        Operation("head", relu=False),
    )
