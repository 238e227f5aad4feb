"""InstanceNorm without parameters, with a gradient that takes little time and memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NORM_EPS = 1e-5


def is_exporting() -> bool:
    """True while a network is traced for a file that other programs run."""
    traced = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return bool(traced()) or torch.onnx.is_in_onnx_export()


def mean_in_steps(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Averages B,C,H,W over `dims`, which stay with size 1: first each row, then the rows, ...

    What runs an exported file may add up all that one mean goes over in a single float32 number,
    which loses digits from half a megapixel on. Sums of one axis are short enough. Some programs
    merge two means that follow each other into one again, hence the subtraction between them,
    which also keeps the digits of a mean that is large beside the deviation.
    """
    last, *others = sorted(dims, reverse=True)
    x = x.mean(last, keepdim=True)
    for dim in others:
        first = x.narrow(dim, 0, 1)
        x = first + (x - first).mean(dim, keepdim=True)
    return x


def normalize(x: Tensor, dims: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Returns float32 `x` with mean 0 and deviation 1 over `dims`; its mean, 1 / deviation."""
    if not is_exporting():
        # Each use converts x, so that a gradient in 16 bits is rounded at each as it always was:
        # a training of an earlier version that is resumed goes on to the same bit.
        var, mean = torch.var_mean(x.float(), dim=dims, correction=0, keepdim=True)
        scale = torch.rsqrt(var + eps)
        return (x.float() - mean) * scale, mean, scale
    x = x.float()
    mean = mean_in_steps(x, dims)
    centred = x - mean
    scale = torch.rsqrt(mean_in_steps(centred * centred, dims) + eps)
    return centred * scale, mean, scale


class InstanceNormFunction(torch.autograd.Function):
    """InstanceNorm with its gradient in closed form: a third of what autograd would do and keep."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        var, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
        scale = torch.rsqrt(var + NORM_EPS)
        y = ((x.float() - mean) * scale).to(x.dtype)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        y, scale = (saved.float() for saved in ctx.saved_tensors)
        grad32 = grad.float()
        offset = grad32.mean((2, 3), keepdim=True)
        slope = (grad32 * y).mean((2, 3), keepdim=True)
        return ((grad32 - offset - y * slope) * scale).to(grad.dtype)


class InstanceNormOnCPU(torch.autograd.Function):
    """The same, image by image through BatchNorm's kernels: three to six times as fast."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        y, statistics = torch.empty_like(x), []
        for image, out_image in zip(x.split(1), y.split(1), strict=True):
            normal, *found = torch.native_batch_norm(
                image, None, None, None, None, True, 0.0, NORM_EPS
            )
            out_image.copy_(normal)
            statistics += found
        ctx.save_for_backward(x, *statistics)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, *statistics = ctx.saved_tensors
        out = torch.empty_like(x)
        rows = zip(grad.split(1), x.split(1), statistics[::2], statistics[1::2], strict=True)
        for out_image, (slope, image, mean, scale) in zip(out.split(1), rows, strict=True):
            out_image.copy_(
                torch.ops.aten.native_batch_norm_backward(
                    *(slope, image, None, None, None, mean, scale, True, NORM_EPS),
                    [True, False, False],
                )[0]
            )
        return out


class InstanceNorm(nn.Module):
    """InstanceNorm without parameters; the statistics are float32 whatever the input's type."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            return InstanceNormOnCPU.apply(x)  # pyright: ignore[reportReturnType]
        if x.requires_grad:
            return InstanceNormFunction.apply(x)  # pyright: ignore[reportReturnType]
        return normalize(x, (2, 3), NORM_EPS)[0].to(x.dtype)
