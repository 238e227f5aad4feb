"""InstanceNorm without parameters, with a gradient that takes little time and memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NORM_EPS = 1e-5


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
        var, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
        return ((x.float() - mean) * torch.rsqrt(var + NORM_EPS)).to(x.dtype)
