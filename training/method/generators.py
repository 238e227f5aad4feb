"""G and G_inv before the first step: new, or from a checkpoint."""

from __future__ import annotations

import torch
from torch import nn

from devudp_model.checkpoint import load_checkpoint
from devudp_model.generator import Generator

from ..config import ConfigError, ModelConfig
from ..data.dataset import UNUSED_FROM, UnpairedPictures, develop


def make_generator(model: ModelConfig, width: int) -> Generator:
    """G, or G_inv, with new weights."""
    return Generator(model.variant, width, model.depth, norm=model.norm, shortcut=model.shortcut)


def start_from(G: Generator, path: str) -> None:
    """G's weights from a checkpoint.

    One of the other variant gives its convolutions, all but the head: what they see in a picture
    is of use to both. Their normalisation has to be measured (`calibrate`).

    Raises:
        CheckpointError: it cannot be read.
        ConfigError: it is of another architecture.
    """
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


@torch.no_grad()
def calibrate(G: Generator, data: UnpairedPictures, batch: int, batches: int) -> None:
    """BatchNorm's running statistics: the means over some batches that are not trained on."""
    norms = [m for m in G.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # a plain mean
    for number in range(batches):
        first = UNUSED_FROM + number * batch
        samples = [data[first + k] for k in range(batch)]
        pictures = develop(samples, data.config, torch.device("cpu"))
        G(torch.cat([pictures.A_input, pictures.B_input]))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
