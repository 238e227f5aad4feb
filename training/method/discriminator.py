"""The discriminator D of the sharp domain: the 70x70 PatchGAN (the paper does not say which)."""

from __future__ import annotations

from torch import Tensor, nn


class Discriminator(nn.Module):
    """D: is each 70x70 patch of a picture one of the sharp domain? (Targets 1 and 0, eq. 3.)

    With width 64: 2,764,737 parameters.

    Args:
        width: channels after the first convolution; doubled by each of the next three.
    """

    def __init__(self, width: int = 64):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, padding=1), nn.LeakyReLU(0.2)]
        for inner, outer, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            layers += [
                nn.Conv2d(inner * width, outer * width, 4, stride, padding=1),
                nn.InstanceNorm2d(outer * width),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        """B,3,H,W in [-1, 1], H and W at least 24, to B,1,about H/8,about W/8."""
        return self.layers(x)
