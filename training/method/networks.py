"""The networks: generator G, its inverse G_inv, and the discriminator D of the sharp domain."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from devudp_model.checkpoint import bundled, load_checkpoint
from devudp_model.network.generator import VARIANTS, Generator, InstanceNorm

from ..config import ConfigError, ModelConfig


class Discriminator(nn.Module):
    """D: is each 70x70 patch from the sharp domain? (Targets 1 and 0, eq. 3.)

    The 70x70 PatchGAN; the paper does not name its discriminator. Width 64: 2,764,737 parameters.

    Args:
        width: channels after the first convolution; doubled by each of the next three.
    """

    def __init__(self, width: int = 64):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, padding=1), nn.LeakyReLU(0.2)]
        for inner, outer, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            layers += [
                nn.Conv2d(inner * width, outer * width, 4, stride, padding=1),
                InstanceNorm(),
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


def make_generator(model: ModelConfig, width: int) -> Generator:
    """G, or G_inv, with new weights."""
    G = Generator(model.variant, width, model.depth, norm=model.norm, shortcut=model.shortcut)
    if G.shortcut and not model.zero_head:
        nn.init.normal_(G.head.weight, std=0.02)
    return G


def start_from(G: Generator, init: str) -> None:
    """Gives G the weights of a checkpoint: a file, or the name of a bundled one.

    Of a checkpoint of the other variant, only convolutions are used, and not the head's.

    Raises:
        CheckpointError: it cannot be read.
        ConfigError: it is of another architecture.
    """
    path = next((bundled(v) for v in VARIANTS if v == init), Path(init))
    other = load_checkpoint(path, fold=False).generator
    mine, its = ((g.width, g.depth) for g in (G, other))
    if mine != its:
        raise ConfigError(
            f"model.init, {path}, has width and depth {its}, while the recipe asks for {mine}"
        )
    weights = other.state_dict()
    if (other.norm, other.shortcut) != (G.norm, G.shortcut):
        weights = {k: v for k, v in weights.items() if ".conv" in k}
    G.load_state_dict(weights, strict=False)
